//! Why a device or an entry is, or isn't, here yet: the question that users of every mesh ask.

use stallmesh_protocol::certificate::Scope;
use stallmesh_protocol::replica::SessionId;
use stallmesh_protocol::{DeviceId, Hash, Head, Lane, LogName, SaleId};

use super::links::Link;
use super::{Engine, ExplainSubject, ExplainView, SaleState};
use crate::date::utc_minute;
use crate::store::Store;

/// What the status of a neighbour without room comes to.
const NO_ROOM: &str = "it has no room for others' sales";

fn because(state: &str, reasons: Vec<String>) -> ExplainView {
    ExplainView { state: state.to_owned(), because: reasons }
}

fn put_off_sentence(logs: usize) -> String {
    format!("it started too often: {logs} of its logs are taken when checkpoints have named earlier ones; no sales are")
}

impl<S: Store> Engine<S> {
    pub(crate) fn explain(&mut self, subject: &ExplainSubject) -> ExplainView {
        match subject {
            ExplainSubject::Device(device) => self.explain_device(device),
            ExplainSubject::Sale(sale) => self.explain_sale(sale),
            ExplainSubject::Entry(hash) => self.explain_entry(hash),
        }
    }

    fn explain_device(&self, device: &DeviceId) -> ExplainView {
        let membership = &self.views.membership;
        if let Some(issuer) = membership.let_in_vain_by(device) {
            let name = membership.certificate(issuer).map(|certificate| certificate.name.as_str()).unwrap_or_default();
            return because(
                "not_a_member",
                vec![format!(
                    "{} ({name}) let it in when its own certificate had been revoked already, or after it had signed two \
                     histories: what this device sold is on its own disk, and comes to the hub once the hub raises the \
                     line of {}",
                    issuer.short(),
                    issuer.short()
                )],
            );
        }
        if !membership.is_known(device) {
            let reason = match self.join_state().filter(|_| *device == self.device.id()) {
                Some(state) => state,
                None => "no certificate for this device has arrived here: either it never joined, or the hub's word \
                         about it hasn't come this far"
                    .into(),
            };
            return because("not_a_member", vec![reason]);
        }
        if membership.is_revoked(device) {
            return because("revoked", vec!["its certificate was revoked; what lies inside the line stands".into()]);
        }
        if self.views.is_quarantined(device) {
            return because(
                "quarantined",
                vec![
                    "it signed two histories of one log: what precedes the fork stands, the rest has no effect until \
                      the hub or its stall's owner admits an incarnation again"
                        .into(),
                ],
            );
        }
        if *device != membership.root() && !self.is_valid_now(device) {
            let ended = membership.valid_until(device).map(utc_minute).unwrap_or_default();
            let mut reasons =
                vec![format!("certificate expired: it ended on {ended}. The device still sells, and the hub decides")];
            if self.has_lapsed(device) {
                let reason = "the hub has been heard since, without a renewal: it is told of certificates alone, and \
                              hands in its sales, until it is renewed";
                reasons.push(reason.into());
            }
            return because("expired", reasons);
        }
        let put_off = self.replica.iter().flat_map(|replica| replica.logs_put_off());
        let put_off = put_off.filter(|log| log.author == *device).count();
        if *device == self.device.id() {
            return because("here", vec!["this is the device that you ask".into()]);
        }
        match self.links.iter().find(|(_, link)| link.peer == *device && link.greeted) {
            Some((id, link)) => {
                let missing: u64 = self.replica.as_ref().map_or(0, |replica| {
                    Lane::KEPT_BY_ALL
                        .iter()
                        .map(|lane| replica.progress(SessionId(id.0), *lane).1)
                        .fold(0, u64::saturating_add)
                });
                let mut reasons = vec![format!("linked over {:?} at {}", link.road, link.address).to_lowercase()];
                if missing > 0 {
                    reasons.push(format!("{missing} of the entries that it has are still on their way here"));
                }
                let full = link.status.full.then_some(NO_ROOM);
                if let Some(refusal) = self.custody.any_refusal(SessionId(id.0)).or(full) {
                    reasons.push(format!("it refuses custody: {refusal}"));
                }
                reasons.extend((put_off > 0).then(|| put_off_sentence(put_off)));
                because("here", reasons)
            }
            None => {
                let mut reasons = vec!["no link to it is up; its entries come through other members".to_owned()];
                reasons.extend((put_off > 0).then(|| put_off_sentence(put_off)));
                if self.links.values().all(|link| !link.greeted) {
                    reasons.push(
                        "in fact this device has no link to anybody: check that it is on the market's network".into(),
                    );
                }
                because("not_connected", reasons)
            }
        }
    }

    fn explain_sale(&self, sale: &SaleId) -> ExplainView {
        let Ok(Some(record)) = self.sale_record(sale) else {
            return because("unknown", vec!["this device recorded no such sale".into()]);
        };
        let view = self.sale_view(&record);
        let Some(at) = record.position() else {
            return because("unknown", vec!["its record is damaged".into()]);
        };
        match view.state {
            SaleState::Settled => because("settled", vec!["it is in a settlement, and the statement is here".into()]),
            SaleState::AtTheHub => because(
                "waiting_for_hub",
                vec![
                    "the hub has it and has signed for it; it will be in the next settlement, which the hub releases \
                     once a carrier holds the closing"
                        .into(),
                ],
            ),
            SaleState::Copied | SaleState::ThisDevice => self.explain_waiting(&at.log, view.copies),
            SaleState::InSuspense => because(
                "in_suspense",
                vec!["a settlement has read it and can't post it yet; the statement says why".into()],
            ),
        }
    }

    /// An own sale that the hub has not signed for.
    fn explain_waiting(&self, log: &LogName, copies: usize) -> ExplainView {
        let membership = &self.views.membership;
        let own = self.device.id();
        if self.views.is_quarantined(&own) {
            return because(
                "quarantined",
                vec!["this device is quarantined: its sales are carried, and stand in suspense".into()],
            );
        }
        if membership.is_revoked(&log.author) {
            return because(
                "revoked",
                vec!["this device was revoked: its sales go to the hub and stand in suspense there".into()],
            );
        }
        let greeted: Vec<_> = self.links.iter().filter(|(_, link)| link.greeted).collect();
        if greeted.is_empty() {
            return because(
                "not_connected",
                vec!["no link to any member is up; the sale is safe on this device's disk".into()],
            );
        }
        let refusals: Vec<String> = greeted
            .iter()
            .filter_map(|(id, link)| {
                let refusal = self.refusal(SessionId(id.0), link, log)?;
                Some(format!("device {} refuses it: {refusal}", link.peer.short()))
            })
            .collect();
        let path = self.hops().is_some();
        if copies == 0 && !refusals.is_empty() {
            return because("refused", refusals);
        }
        if copies == 0 {
            let carriers = greeted.iter().any(|(_, link)| {
                membership.certificate(&link.peer).is_some_and(|certificate| certificate.scopes.allows(Scope::RELAY))
            });
            let reason = if carriers || path {
                "it is on its way to a neighbour, which has not signed for it yet"
            } else {
                "none of the linked devices may carry sales"
            };
            return because("waiting_for_copies", vec![reason.into()]);
        }
        if !path {
            return because(
                "no_path",
                vec![format!("{copies} neighbours hold copies; nobody that can be reached has an uplink to the hub")],
            );
        }
        because("waiting_for_hub", vec![format!("{copies} neighbours hold copies; the hub has not signed for it yet")])
    }

    /// Why a neighbour doesn't take a log just now.
    fn refusal(&self, session: SessionId, link: &Link, log: &LogName) -> Option<&str> {
        self.custody.refusal(session, log).or(link.status.full.then_some(NO_ROOM))
    }

    /// A sealed entry that is kept until the hub has it.
    fn explain_carried(&self, log: &LogName, head: Head) -> ExplainView {
        if self.is_received(log, head) {
            return because("here", vec!["this device holds it, and the hub has signed for it".into()]);
        }
        let mut reasons = vec!["this device holds it until the hub has it".to_owned()];
        let links = self.links.iter().filter(|(_, link)| link.greeted);
        let wanted = links.map(|(id, link)| (SessionId(id.0), link)).filter(|(session, link)| {
            self.is_hub_device(&link.peer) || self.is_nearer(link) || self.should_hold(*session, log)
        });
        for (session, link) in wanted {
            let name = link.peer.short();
            let hub = if self.is_hub_device(&link.peer) { ", the hub" } else { "" };
            reasons.push(match self.refusal(session, link, log) {
                Some(refusal) => format!("device {name}{hub} refuses it: {refusal}"),
                None if self.custody.was_handed(session, log) => {
                    format!("it was handed to device {name}{hub}, and no word of the hub's has come back")
                }
                None => format!("it waits to be handed to device {name}{hub}"),
            });
        }
        if reasons.len() == 1 {
            reasons.push("nobody to whom this device is linked has a way to the hub".into());
        }
        because("waiting_for_hub", reasons)
    }

    fn explain_entry(&mut self, hash: &Hash) -> ExplainView {
        let found = self.logs.find(&self.overlay, hash);
        if let Some((log, sequence)) = self.guard(found).flatten() {
            let carried = self.logs.iter().find(|(name, record)| record.id == log && name.lane.is_sealed());
            match carried.map(|(name, _)| *name).filter(|_| !self.is_hub()) {
                Some(name) => self.explain_carried(&name, Head { sequence, hash: *hash }),
                None => because("here", vec!["this device holds it".into()]),
            }
        } else if self.links.values().any(|link| link.greeted) {
            because("unknown", vec!["it is not here, and no linked device has announced it by this hash".into()])
        } else {
            because("not_connected", vec!["it is not here, and no link to any member is up".into()])
        }
    }
}
