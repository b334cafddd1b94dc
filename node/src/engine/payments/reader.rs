//! A part that a card reader takes first: durable before the reader hears of it, and found again by its name.
//!
//! ```text
//! sales   "r" ‖ payment's name   is to be reversed at the reader, until it has been
//! ```

use stallmesh_protocol::SaleId;
use stallmesh_protocol::payment::PaymentName;

use super::{Place, Taking};
use crate::card_reader::{ReaderCall, ReaderOrder, ReaderOutcome, ReaderReply};
use crate::engine::judgement::Said;
use crate::engine::tenders::Part;
use crate::engine::{Effect, Engine, PartState};
use crate::store::{Store, StoreError, Table};

impl<S: Store> Engine<S> {
    /// Asks the reader for a part's card.
    pub(in crate::engine) fn ask_reader(&mut self, taking: &Taking<'_>, part: &mut Part) {
        part.state = PartState::Asked;
        "the card reader waits for a card".clone_into(&mut part.because);
        (part.is_at_reader, part.was_at_reader, part.is_rehearsal) = (true, true, taking.is_rehearsal);
        let name = PaymentName { sale: taking.sale, number: part.number };
        self.payments.at_reader.insert(name, taking.place);
        let currency = self.views.market().map(|market| market.currency.clone()).unwrap_or_default();
        let amount = part.amount.saturating_add(part.tip);
        self.call_reader(name, ReaderOrder::Take { amount, currency });
    }

    /// After a restart: what became of it?
    pub(super) fn find_at_reader(&mut self, place: Place, name: PaymentName) {
        self.payments.at_reader.insert(name, place);
        self.call_reader(name, ReaderOrder::Find);
    }

    pub(super) fn reverse_at_reader(&mut self, sale: SaleId, part: &mut Part) {
        let name = PaymentName { sale, number: part.number };
        self.payments.at_reader.remove(&name);
        part.is_at_reader = false;
        self.reverse(name);
    }

    fn reverse(&mut self, name: PaymentName) {
        self.overlay.put(Table::Sales, reversal_key(&name), Vec::new());
        self.call_reader(name, ReaderOrder::Reverse);
    }

    /// What was to be reversed when this node ended.
    pub(super) fn load_reversals(&mut self) -> Result<(), StoreError> {
        for (key, _) in self.overlay.scan_prefix(Table::Sales, b"r")? {
            if let Some(name) = std::str::from_utf8(&key[1..]).ok().and_then(|name| name.parse().ok()) {
                self.call_reader(name, ReaderOrder::Reverse);
            }
        }
        Ok(())
    }

    fn call_reader(&mut self, name: PaymentName, order: ReaderOrder) {
        self.effects.push(Effect::Reader(ReaderCall { payment: name.to_string(), order }));
    }

    /// The reader has said what became of a payment.
    pub(in crate::engine) fn reader_replied(&mut self, reply: ReaderReply) {
        let Ok(name) = reply.payment.parse::<PaymentName>() else { return };
        if reply.outcome == ReaderOutcome::Reversed {
            return self.overlay.delete(Table::Sales, reversal_key(&name));
        }
        // Who was voided meanwhile was reversed then.
        let Some(place) = self.payments.at_reader.remove(&name) else { return };
        self.change_part(place, name, |engine, part| {
            part.is_at_reader = false;
            match reply.outcome {
                ReaderOutcome::Reversed => {}
                ReaderOutcome::Declined { because } => engine.decline(part, name, because),
                ReaderOutcome::Approved { token, card } => engine.card_presented(place, name, part, token, &card),
            }
        });
    }

    /// A card is there: it is judged, and asked about at the hub or taken by the policy, as one whose token was given.
    fn card_presented(&mut self, place: Place, name: PaymentName, part: &mut Part, token: String, card: &str) {
        part.because.clear();
        let taken = self.read_card(part, token, card).and_then(|()| {
            let (confirmed, known) = (part.confirmed.clone(), part.known.clone());
            let said = Said { confirmed: &confirmed, known: &known };
            let is_rehearsal = part.is_rehearsal;
            let within_ms = self.asks_hub_within(is_rehearsal);
            let taking = Taking { sale: name.sale, place, said, is_rehearsal, within_ms };
            self.admit_part(&taking, part, card)
        });
        if let Err(failure) = taken {
            part.reasons = failure.reasons;
            // Also where what it said was no token: it has taken a card.
            self.reverse(name);
            self.decline(part, name, failure.detail);
        }
    }
}

fn reversal_key(name: &PaymentName) -> Vec<u8> {
    [b"r".as_slice(), name.to_string().as_bytes()].concat()
}
