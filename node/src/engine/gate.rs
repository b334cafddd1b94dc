//! The gate between members: what one still gets that was revoked, or whose certificate has ended.
//!
//! Such a member is told of `control` alone, hands in its own sealed sales, and gets their acknowledgements. A revoked
//! one's links end once, and it begins anew like this. An expired one keeps its links: nothing is held against it, and
//! its renewal, which comes on `control`, opens all lanes again. A market without its hub goes on: without a checkpoint
//! that is later than the certificate's end nobody is restricted, whatever the clocks say.

use stallmesh_protocol::DeviceId;
use stallmesh_protocol::replica::SessionId;

use super::hub::RETURN_MS;
use super::{Engine, Notice};
use crate::date::utc_minute;
use crate::link::LinkId;
use crate::store::Store;

/// How much later than a certificate's end a checkpoint must be before its device is restricted, in milliseconds. A
/// night: a hub that is switched off in the evening renews in the morning what ended meanwhile, and its word reaches
/// everybody before anybody is restricted.
const GRACE_MS: u64 = 12 * 3_600_000;

/// Whether a checkpoint is so much later than a certificate's end that its device should have been renewed by now.
fn has_lapsed(valid_until: u64, checkpoint: u64) -> bool {
    checkpoint > valid_until.saturating_add(GRACE_MS)
}

impl<S: Store> Engine<S> {
    /// Whether the newest checkpoint that is known here is later than the end of a device's certificates, plus grace.
    pub(crate) fn has_lapsed(&self, device: &DeviceId) -> bool {
        let valid_until = self.views.membership.valid_until(device);
        let ends = valid_until.zip(self.views.coverage.time());
        ends.is_some_and(|(valid_until, checkpoint)| has_lapsed(valid_until, checkpoint))
    }

    /// Whether a device gets `control` alone.
    pub(crate) fn is_restricted(&self, device: &DeviceId) -> bool {
        self.views.membership.is_revoked(device) || self.has_lapsed(device)
    }

    /// Whether a device has a certificate that is valid now, by the trusted time.
    pub(crate) fn is_valid_now(&self, device: &DeviceId) -> bool {
        self.views.membership.certificates_at(device, self.time()).next().is_some()
    }

    /// Something about members or the hub's time has changed: takes the consequence for an open session.
    pub(crate) fn judge_session(&mut self, link: LinkId) {
        let Some((peer, before)) = self.links.get(&link).map(|state| (state.peer, state.restricted)) else { return };
        let restricted = self.is_restricted(&peer);
        if restricted == before {
            return;
        }
        if let Some(state) = self.links.get_mut(&link) {
            state.restricted = restricted;
        }
        let session = SessionId(link.0);
        if let Some(replica) = &mut self.replica {
            replica.set_restricted(session, restricted);
        }
        if self.views.membership.is_revoked(&peer) {
            // When it comes back it is restricted from the start, and stays.
            self.close_link(link, "E_REVOKED: this device's certificate was revoked".into());
        } else if restricted {
            tracing::info!(peer = %peer.short(), "its certificate has ended: it gets `control` alone until renewed");
        } else {
            tracing::info!(peer = %peer.short(), "its certificate was renewed: it gets all lanes again");
            self.exchange_custody(session, peer);
        }
        self.update_status();
        self.notice(Notice::Members);
    }

    /// What people at this device are told once its certificates have ended.
    pub(crate) fn expiry_notice(&self) -> Option<String> {
        let own = self.device.id();
        let valid_until = self.views.membership.valid_until(&own).filter(|_| !self.is_valid_now(&own))?;
        let ended = utc_minute(valid_until);
        let until = if self.time() > valid_until.saturating_add(RETURN_MS) {
            "and that is too long ago to be renewed: join anew with another --data-dir, and keep this one until its \
             sales are settled"
        } else if self.has_lapsed(&own) {
            "and members that have heard the hub since tell it of certificates alone, until it is renewed"
        } else {
            "until it is renewed"
        };
        Some(format!(
            "this device's certificate has expired on {ended}: it sells, copies and carries, and grants and publishes \
             nothing, {until}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_lapses_a_grace_after_its_end_and_not_before() {
        assert!(!has_lapsed(1_000, 1_000 + GRACE_MS));
        assert!(has_lapsed(1_000, 1_001 + GRACE_MS));
        assert!(!has_lapsed(u64::MAX, u64::MAX));
    }
}
