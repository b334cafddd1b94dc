//! Renewal: a member's certificates follow one another for as long as it is heard of.
//!
//! ```text
//!   issued               due: a third of its life is left       ends          ends + RETURN_MS
//!     |-----------------------------|=============================|======================|
//!                                    renewed as soon as its device is heard of
//! ```
//!
//! A renewal is one more certificate of the hub, on `control`: it travels, and counts, like the first. It says the same
//! as the one that it follows, but for its time, and it names neither invite nor request, for those were used up by the
//! first. Whether it is time follows from entries alone, so a restart renews nothing twice. Two hubs that don't hear of
//! each other may both renew: the certificates say the same, and the newer one counts.
//!
//! What a stall's owner gave to a helper ends when she said that it would: it is hers to renew.

use std::collections::BTreeMap;

use stallmesh_protocol::certificate::{Certificate, Role, VALIDITY_MAX};
use stallmesh_protocol::membership::{Issued, Position};
use stallmesh_protocol::payload::{self, encode};
use stallmesh_protocol::sign::DeviceKey;
use stallmesh_protocol::{DeviceId, Kind, Lane};

use crate::date::utc_minute;
use crate::engine::author::RootWriter;
use crate::engine::{Engine, EngineError};
use crate::store::Store;

/// How long after its certificate's end a device is still renewed when it comes back, in milliseconds: 35 days, so that
/// whoever missed a monthly market is let in at the next one. A tablet that turns up later joins anew, for it may have
/// been in anybody's hands; and a hub whose clock leads by years brings nobody back.
pub(crate) const RETURN_MS: u64 = 35 * 24 * 3_600_000;
/// Entries that a device writes with a clock a little behind still fall inside its certificate: half a day.
pub(super) const SLOW_CLOCK_MS: u64 = 12 * 3_600_000;
/// However short certificates are, a device gets one a minute at most.
const LEAST_MS: u64 = 60_000;
/// Certificates that a hub writes at once, some 70 KB; what else is due follows in the next turn.
const AT_ONCE_MAX: usize = 256;
/// When to look again at the latest, in milliseconds: a device's clock may have been set.
const LOOK_EVERY_MS: u64 = 3_600_000;
/// When to look first, in milliseconds after the start: by then it is known which keys this process holds.
const LOOK_FIRST_MS: u64 = 1_000;

/// What a node knows of coming renewals.
#[derive(Debug, Default)]
pub(crate) struct Renewals {
    /// When something is due, in monotonic milliseconds.
    at: Option<u64>,
    /// The certificates that this run has written a successor of: should one have no effect, for whatever is held
    /// against its author, it isn't written again and again.
    followed: BTreeMap<DeviceId, Position>,
    /// The market's root key, where this process holds it.
    root: Option<RootWriter>,
    /// What was said about the end of this hub's own certificate.
    complaint: Option<String>,
}

impl Renewals {
    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        self.at
    }

    pub(crate) fn root_mut(&mut self) -> Option<&mut RootWriter> {
        self.root.as_mut()
    }
}

/// Who gives a certificate's successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Issuer {
    Root,
    Hub,
}

/// From when on a certificate is due, in milliseconds since 1970. Its life begins when it was issued: that it is valid
/// from earlier on is for slow clocks.
fn due_from(issued: &Issued) -> u64 {
    let not_after = issued.certificate.not_after;
    let life = not_after.saturating_sub(issued.time);
    (not_after - life / 3).max(issued.time.saturating_add(LEAST_MS))
}

/// Whether a certificate is to be renewed if its device is heard of.
fn is_due(issued: &Issued, time: u64) -> bool {
    (due_from(issued)..=issued.certificate.not_after.saturating_add(RETURN_MS)).contains(&time)
}

/// What follows a certificate, for `term` milliseconds from `time` on. `issuer` is the hub's own certificate; `None` for
/// the root, whose word needs none. `None` where that would be no gain, or more than the issuer can give.
fn successor(newest: &Certificate, term: u64, issuer: Option<&Certificate>, time: u64) -> Option<Certificate> {
    // What was written after the old one's end stays without effect: the new one doesn't reach back over a gap.
    let slack = if newest.is_valid_at(time) { SLOW_CLOCK_MS } else { 0 };
    let mut next = Certificate {
        not_before: time.saturating_sub(slack),
        not_after: time.saturating_add(term),
        invite: None,
        request: None,
        ..newest.clone()
    };
    if let Some(issuer) = issuer {
        next.not_before = next.not_before.max(issuer.not_before);
        next.not_after = next.not_after.min(issuer.not_after);
    }
    next.not_after = next.not_after.min(next.not_before.saturating_add(VALIDITY_MAX));
    let given = issuer.is_none_or(|issuer| next.narrows(issuer).is_ok());
    // Near the end of the hub's own certificate all end with it: once that is said, there is nothing to say again.
    (given && next.not_after > newest.not_after).then_some(next)
}

impl<S: Store> Engine<S> {
    /// This process holds the market's root key, and may renew by it what the root certified: the hub itself. Another
    /// market's key is of no use here. True where it is this market's.
    pub fn hold_root(&mut self, key: DeviceKey) -> bool {
        let ours = self.market.is_some_and(|market| market.root == key.id());
        if ours {
            self.renewals.root = Some(RootWriter::new(key));
            self.renewals.at = Some(self.now.monotonic_ms);
        }
        ours
    }

    /// Works out when to look again. A hub looks after everybody, others after their own certificate.
    pub(crate) fn plan_renewals(&mut self) {
        let (now, time) = (self.now.monotonic_ms, self.time());
        let own = self.device.id();
        let membership = &self.views.membership;
        let hub = self.is_hub();
        let devices = membership.devices().filter(|device| hub || **device == own);
        let mut wait = LOOK_EVERY_MS;
        for device in devices {
            let Some(newest) = membership.issued(device).next() else { continue };
            let due = due_from(newest);
            if due > time {
                wait = wait.min(due - time);
            } else if hub && self.renewal_of(device).is_some() {
                wait = 0;
            } else if !hub && self.must_show_itself() {
                wait = wait.min(LEAST_MS);
            }
        }
        if self.renewals.at.is_none() {
            wait = wait.min(LOOK_FIRST_MS);
        }
        self.renewals.at = self.is_member().then(|| now.saturating_add(wait));
    }

    /// A device was heard of: if its certificate is due, that is the moment to renew it.
    pub(crate) fn heard_of(&mut self, device: &DeviceId) {
        if self.is_hub() && self.renewal_of(device).is_some() {
            self.renewals.at = Some(self.now.monotonic_ms);
        }
    }

    pub(crate) fn renewal_tick(&mut self) {
        if self.renewals.at.is_none_or(|at| at > self.now.monotonic_ms) {
            return;
        }
        if self.is_hub() {
            if !self.recovery.is_waiting() {
                self.renew_due();
            }
            self.complain_of_own_end();
        } else if self.must_show_itself() {
            self.show_itself();
        }
        self.plan_renewals();
    }

    /// Hub: renews who is due.
    fn renew_due(&mut self) {
        let own = self.device.id();
        // What the hub gives ends with its own certificate, so that comes first.
        let others = self.views.membership.devices().copied().filter(|device| *device != own);
        let devices: Vec<DeviceId> = std::iter::once(own).chain(others).collect();
        let mut written = 0;
        for device in devices {
            let Some((followed, next, issuer)) = self.renewal_of(&device) else { continue };
            self.renewals.followed.insert(device, followed);
            tracing::info!(device = %device.short(), until = %utc_minute(next.not_after), "renewing a certificate");
            let renewed = match issuer {
                Issuer::Root => self.append_as_root(Kind::CERTIFICATE, next.to_payload()),
                Issuer::Hub => self.append_public(Lane::CONTROL, Kind::CERTIFICATE, next.to_payload()).map(|_| ()),
            };
            if let Err(error) = renewed {
                tracing::warn!(device = %device.short(), %error, "a certificate could not be renewed");
            }
            if device == own {
                self.refresh();
            }
            written += 1;
            if written == AT_ONCE_MAX {
                break;
            }
        }
        if written > 0 {
            self.refresh();
        }
    }

    /// Hub: what should follow a device's newest certificate now, with that certificate's place; `None` where it isn't
    /// due, its device wasn't heard of, or it isn't this hub's to renew.
    fn renewal_of(&self, device: &DeviceId) -> Option<(Position, Certificate, Issuer)> {
        let membership = &self.views.membership;
        let time = self.time();
        let newest = membership.issued(device).next().filter(|newest| is_due(newest, time))?;
        if self.renewals.followed.get(device) == Some(&newest.at)
            || membership.is_revoked(device)
            || self.views.is_burned(device)
            || self.views.is_quarantined(device)
            || !self.is_by_the_market(newest)
            || !self.was_heard(device, newest.time)
        {
            return None;
        }
        // Near a hub's end certificates get shorter; when the hub is renewed, the next ones are as long as the first.
        let same = |issued: &&Issued| {
            let (issued, newest) = (&issued.certificate, &newest.certificate);
            (issued.role, &issued.stall) == (newest.role, &newest.stall)
        };
        let term = membership
            .issued(device)
            .filter(|issued| self.is_by_the_market(issued))
            .filter(same)
            .map(|issued| issued.certificate.not_after.saturating_sub(issued.time))
            .max()?;
        if newest.at.log.author == membership.root() && self.renewals.root.is_some() {
            let next = successor(&newest.certificate, term, None, time)?;
            return Some((newest.at, next, Issuer::Root));
        }
        let own = membership.certificates_at(&self.device.id(), time).max_by_key(|own| own.not_after)?;
        let next = successor(&newest.certificate, term, Some(own), time)?;
        Some((newest.at, next, Issuer::Hub))
    }

    /// Whether a certificate was given by a hub or the root, and not by a stall's owner.
    fn is_by_the_market(&self, issued: &Issued) -> bool {
        let membership = &self.views.membership;
        let issuer = issued.at.log.author;
        issuer == membership.root() || membership.role(&issuer) == Some(Role::Hub)
    }

    /// Whether a device was heard of since a time: it is linked, or it has written something that came this far. Its
    /// entries' own times are asked, so that a restart forgets nothing and what was late on its way is no sign of life.
    fn was_heard(&self, device: &DeviceId, since: u64) -> bool {
        *device == self.device.id()
            || self.links.values().any(|link| link.peer == *device && link.greeted)
            || self.views.last_written(device) >= since
    }

    /// Whether this device's certificate is due and the hub can't know that it is still there: it sold nothing and
    /// published nothing since the certificate was issued, and has no link to a hub.
    fn must_show_itself(&self) -> bool {
        let own = self.device.id();
        let newest = self.views.membership.issued(&own).next();
        newest.is_some_and(|newest| {
            is_due(newest, self.time())
                && self.is_by_the_market(newest)
                && self.views.last_written(&own) < newest.time
                && !self.views.membership.is_revoked(&own)
                && !self.links.values().any(|link| link.greeted && self.is_hub_device(&link.peer))
        })
    }

    /// Writes an entry that says nothing new, on the lane that also expired devices are heard on: the hub sees by it that
    /// this device is still there. Of its own log nothing goes.
    fn show_itself(&mut self) {
        let incarnation = self.incarnation.as_bytes().to_vec();
        let mark = payload::LowMark { incarnation, lane: Lane::CONTROL.0, sequence: 1 };
        if let Err(error) = self.append_public(Lane::CONTROL, Kind::LOW_MARK, encode(&mark)) {
            tracing::warn!(%error, "a sign of life could not be written");
        }
    }

    /// The hub's own certificate is the root's: where it nears its end and the root key isn't here, people are told.
    fn complain_of_own_end(&mut self) {
        let time = self.time();
        let newest = self.views.membership.issued(&self.device.id()).next();
        let complaint = newest.filter(|newest| due_from(newest) <= time).map(|newest| {
            let ends = utc_minute(newest.certificate.not_after);
            if is_due(newest, time) {
                format!(
                    "this hub's certificate ends on {ends}, and everybody's with it: put the market's root.key into \
                     its data directory and restart it, and it is renewed"
                )
            } else {
                format!("this hub's certificate ended on {ends}, too long ago to be renewed: make a new market")
            }
        });
        if complaint == self.renewals.complaint {
            return;
        }
        if let Some(over) = std::mem::replace(&mut self.renewals.complaint, complaint.clone()) {
            self.alarms.remove(&over);
        }
        if let Some(complaint) = complaint {
            self.alarm(complaint);
        }
    }

    /// Writes to the root's log, where this process holds the root key.
    pub(crate) fn append_as_root(&mut self, kind: Kind, bytes: Vec<u8>) -> Result<(), EngineError> {
        self.open_root_log()?;
        self.append_to_root_log(kind, bytes)
    }
}

#[cfg(test)]
mod tests {
    use stallmesh_protocol::certificate::Scopes;
    use stallmesh_protocol::{Hash, Incarnation, LogName};

    use super::*;

    const DAY: u64 = 24 * 3_600_000;
    const NOW: u64 = 1_780_732_800_000;

    fn certificate(role: Role, not_after: u64) -> Certificate {
        let (stall, scopes) = match role {
            Role::Hub => (String::new(), Scopes::hub()),
            _ => ("stall".to_owned(), Scopes::stall_owner()),
        };
        Certificate {
            device: DeviceId::default(),
            role,
            stall,
            name: String::new(),
            scopes,
            not_before: NOW - DAY,
            not_after,
            seal_key: [1; 32],
            invite: Some([2; 16]),
            request: Some(Hash::ZERO),
        }
    }

    fn issued(certificate: Certificate, time: u64) -> Issued {
        let log =
            LogName { author: DeviceId::default(), incarnation: Incarnation::from_bytes([0; 16]), lane: Lane::CONTROL };
        Issued { certificate, at: Position { log, sequence: 1, hash: Hash::ZERO }, time }
    }

    #[test]
    fn a_certificate_is_due_from_its_last_third_until_a_return_would_be_too_late() {
        let newest = issued(certificate(Role::Stall, NOW + 30 * DAY), NOW);
        assert!(!is_due(&newest, NOW + 20 * DAY - 1));
        assert!(is_due(&newest, NOW + 20 * DAY));
        assert!(is_due(&newest, NOW + 30 * DAY + RETURN_MS));
        assert!(!is_due(&newest, NOW + 30 * DAY + RETURN_MS + 1));
        let instant = issued(certificate(Role::Stall, NOW + 1), NOW);
        assert!(!is_due(&instant, NOW + LEAST_MS - 1), "however short its life");
        assert!(is_due(&instant, NOW + LEAST_MS));
    }

    #[test]
    fn a_renewal_says_the_same_burns_nothing_and_ends_with_its_issuer_at_the_latest() {
        let (old, hub) = (certificate(Role::Stall, NOW + 10 * DAY), certificate(Role::Hub, NOW + 100 * DAY));
        let next = successor(&old, 30 * DAY, Some(&hub), NOW).unwrap_or_else(|| panic!("none"));
        let (not_before, not_after) = (NOW - SLOW_CLOCK_MS, NOW + 30 * DAY);
        assert_eq!(next, Certificate { not_before, not_after, invite: None, request: None, ..old.clone() });
        let hub = certificate(Role::Hub, NOW + 12 * DAY);
        let next = successor(&old, 30 * DAY, Some(&hub), NOW).unwrap_or_else(|| panic!("none"));
        assert_eq!(next.not_after, hub.not_after);
        let expired = Certificate { not_after: NOW - 1, ..old.clone() };
        let next_after_gap = successor(&expired, 30 * DAY, Some(&hub), NOW).unwrap_or_else(|| panic!("none"));
        assert_eq!(next_after_gap.not_before, NOW, "what was written meanwhile stays without effect");
        // And then never again, until the hub itself is renewed.
        for later in 0..12 {
            assert_eq!(successor(&next, 30 * DAY, Some(&hub), NOW + later * DAY), None);
        }
    }

    #[test]
    fn nobody_gets_by_renewal_what_the_hub_could_not_give() {
        let hub = certificate(Role::Hub, NOW + 100 * DAY);
        assert_eq!(successor(&hub, 200 * DAY, Some(&hub), NOW), None, "a hub makes no hub");
        let by_root = successor(&hub, 400 * DAY, None, NOW).unwrap_or_else(|| panic!("the root does"));
        assert_eq!(by_root.not_after - by_root.not_before, VALIDITY_MAX);
        let narrow = Certificate { scopes: Scopes::gateway(), ..hub };
        assert_eq!(successor(&certificate(Role::Stall, NOW), 30 * DAY, Some(&narrow), NOW), None);
    }
}
