//! From when on what a raise or a readmission brings back counts.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use stallmesh_protocol::certificate::{Certificate, Role, Scopes};
use stallmesh_protocol::entry::{Payload, sign_head};
use stallmesh_protocol::fork::{Branch, ForkProof};
use stallmesh_protocol::log::LogWriter;
use stallmesh_protocol::membership::{
    BySequence, ControlBody, ControlFact, Coverage, Covering, Line, Membership, Position, ProofFact,
};
use stallmesh_protocol::sign::DeviceKey;
use stallmesh_protocol::{DeviceId, Hash, Head, Incarnation, Kind, Lane, LogName, MarketId};

const ROOT: u8 = 1;
const HUB: u8 = 2;
const TABLET: u8 = 3;

fn key(who: u8) -> DeviceKey {
    DeviceKey::from_seed(&[who; 32])
}

fn log(who: u8, lane: Lane) -> LogName {
    LogName { author: key(who).id(), incarnation: Incarnation::from_bytes([who; 16]), lane }
}

fn hash(sequence: u64) -> Hash {
    Hash::from_bytes([sequence as u8; 32])
}

fn at(log: LogName, sequence: u64) -> Position {
    Position { log, sequence, hash: hash(sequence) }
}

/// Checkpoint n has time 1000 n; each step: up to which sequence a log stood at it.
#[derive(Clone, Default)]
struct Steps(BTreeMap<LogName, Vec<(u64, u64)>>, u64);

impl Steps {
    fn stood(mut self, log: LogName, ordinal: u64, sequence: u64) -> Self {
        self.0.entry(log).or_default().push((ordinal, sequence));
        self.1 = self.1.max(ordinal);
        self
    }
}

impl Coverage for Steps {
    fn time_seen(&self, _: &[u8; 8]) -> Option<u64> {
        None
    }

    fn ordinal_seen(&self, _: &[u8; 8]) -> Option<u64> {
        None
    }

    fn covered_by(&self, log: &LogName, sequence: u64) -> Option<Covering> {
        let (ordinal, _) = self.0.get(log)?.iter().find(|(_, stood)| *stood >= sequence)?;
        Some(Covering { ordinal: *ordinal, time: ordinal * 1_000 })
    }

    fn standing_at(&self, ordinal: u64, log: &LogName) -> Option<Head> {
        let (_, sequence) = self.0.get(log)?.iter().rfind(|(at, _)| *at <= ordinal)?;
        Some(Head { sequence: *sequence, hash: hash(*sequence) })
    }

    fn standing_of(&self, ordinal: u64, author: &DeviceId) -> Vec<(LogName, Head)> {
        let logs = self.0.keys().filter(|log| log.author == *author);
        logs.filter_map(|log| Some((*log, self.standing_at(ordinal, log)?))).collect()
    }

    fn newest(&self) -> Option<u64> {
        Some(self.1)
    }
}

fn certificate(who: u8, role: Role, scopes: Scopes) -> ControlBody {
    ControlBody::Certificate(Certificate {
        device: key(who).id(),
        role,
        stall: if role == Role::Stall { "river".into() } else { String::new() },
        name: "device".into(),
        scopes,
        not_before: 0,
        not_after: 1_000_000,
        seal_key: [who; 32],
        invite: None,
        request: None,
    })
}

fn fact(who: u8, sequence: u64, body: ControlBody) -> ControlFact {
    ControlFact { at: at(log(who, Lane::CONTROL), sequence), timestamp: sequence, seen: [0; 8], body }
}

fn tablet_line(sequence: u64) -> Line {
    let name = log(TABLET, Lane::CATALOG);
    Line::from([((name.incarnation, name.lane), Head { sequence, hash: hash(sequence) })])
}

fn revocation() -> ControlBody {
    let (device, line) = (key(TABLET).id(), Line::new());
    ControlBody::Revocation { device, line, reason: "lost".into(), below_standing: true }
}

fn raise() -> ControlBody {
    ControlBody::Raise { device: key(TABLET).id(), line: tablet_line(3) }
}

fn readmission() -> ControlBody {
    ControlBody::Readmission { device: key(TABLET).id(), incarnation: log(TABLET, Lane::CATALOG).incarnation }
}

/// Two histories of the tablet's sales log, published by the hub at a sequence of its control log.
fn fork(published: u64) -> ProofFact {
    let market = MarketId::new(&key(ROOT).id(), 1);
    let name = log(TABLET, Lane::SALES);
    let branch = |bytes: &[u8]| {
        let mut writer = LogWriter::open(&market, name);
        let opening = writer.append(&key(TABLET), 1, [0; 8], Kind::OPENING, Payload::public(Vec::new())).unwrap();
        let second = writer.append(&key(TABLET), 2, [0; 8], Kind(999), Payload::public(bytes.to_vec())).unwrap();
        let signature = sign_head(&key(TABLET), &writer.id(), &second.head);
        (opening.head.hash, Branch { headers: vec![second.entry.header()], signature })
    };
    let (previous, one) = branch(b"one");
    let (_, other) = branch(b"other");
    let proof = ForkProof::new(&market, name, 2, previous, [one, other]).unwrap();
    ProofFact { proof, published: vec![at(log(HUB, Lane::CONTROL), published)] }
}

/// The ordinal of the checkpoint that covers the tablet's third catalog entry, if any, and whether it stands.
fn covered(facts: &[ControlFact], proofs: &[ProofFact], coverage: &Steps) -> (Option<u64>, bool) {
    let view = Membership::build(key(ROOT).id(), facts, proofs, coverage, &BySequence);
    let entry = at(log(TABLET, Lane::CATALOG), 3);
    let covering = view.covered(&entry, coverage, &BySequence);
    (covering.map(|covering| covering.ordinal), view.stands(&entry, coverage, &BySequence).is_ok())
}

fn members() -> Vec<ControlFact> {
    vec![
        fact(ROOT, 2, certificate(HUB, Role::Hub, Scopes::hub())),
        fact(HUB, 2, certificate(TABLET, Role::Stall, Scopes::stall_owner())),
    ]
}

/// A checkpoint covers one more entry of the hub's control log from the fourth on: entry n is covered by checkpoint n.
fn checkpoints(last: u64) -> Steps {
    let control = log(HUB, Lane::CONTROL);
    (4..=last).fold(Steps::default().stood(control, 1, 3), |steps, number| steps.stood(control, number, number))
}

fn old_price(ordinal: u64, last: u64) -> Steps {
    checkpoints(last).stood(log(TABLET, Lane::CATALOG), ordinal, 3)
}

#[test]
fn what_stood_before_a_raise_keeps_its_place_and_what_a_raise_brings_back_has_the_raises() {
    let mut facts = members();
    assert_eq!(covered(&facts, &[], &old_price(2, 9)), (Some(2), true));
    facts.push(fact(HUB, 5, revocation()));
    assert_eq!(covered(&facts, &[], &old_price(2, 9)), (Some(2), false));
    facts.push(fact(HUB, 7, raise()));
    assert_eq!(covered(&facts, &[], &old_price(2, 9)), (Some(7), true));
    assert_eq!(covered(&facts, &[], &old_price(2, 6)), (None, true), "no checkpoint covers the raise yet");
    assert_eq!(covered(&facts, &[], &old_price(8, 9)), (Some(8), true), "it came after the raise");
    facts.push(fact(HUB, 9, raise()));
    assert_eq!(covered(&facts, &[], &old_price(2, 9)), (Some(7), true), "a second raise takes nothing away");
    assert_eq!(covered(&facts, &[], &old_price(2, 8)), (Some(7), true));
    // Without its revocation it never needed one.
    facts.retain(|fact| !matches!(fact.body, ControlBody::Revocation { .. }));
    assert_eq!(covered(&facts, &[], &old_price(2, 9)), (Some(2), true));
}

#[test]
fn what_a_readmission_brings_back_has_the_readmissions_place() {
    let mut facts = members();
    // Covered together with the proof: not what a checkpoint before it had named.
    let proofs = [fork(5)];
    assert_eq!(covered(&facts, &proofs, &old_price(4, 9)), (Some(4), true), "a checkpoint had named it");
    assert_eq!(covered(&facts, &proofs, &old_price(5, 9)), (Some(5), false));
    facts.push(fact(HUB, 8, readmission()));
    assert_eq!(covered(&facts, &proofs, &old_price(5, 9)), (Some(8), true));
    assert_eq!(covered(&facts, &proofs, &old_price(5, 7)), (None, true));
    facts.push(fact(HUB, 6, readmission()));
    assert_eq!(covered(&facts, &proofs, &old_price(5, 9)), (Some(6), true), "the earlier one was enough");
    // Two things are against it, and each is lifted at a time of its own.
    facts.push(fact(HUB, 7, revocation()));
    assert_eq!(covered(&facts, &proofs, &old_price(5, 9)), (Some(5), false));
    facts.push(fact(HUB, 9, raise()));
    assert_eq!(covered(&facts, &proofs, &old_price(5, 9)), (Some(9), true));
    assert_eq!(covered(&facts, &proofs, &old_price(5, 8)), (None, true));
}

#[test]
fn a_certificate_that_a_raise_brings_back_is_judged_at_the_raises_checkpoint_at_the_latest() {
    // The tablet's helper, certified under a clock that is years ahead: what covers the entry says when it was.
    let mut helper = fact(TABLET, 3, certificate(4, Role::Stall, Scopes::default()));
    helper.timestamp = 900_000;
    let control = log(TABLET, Lane::CONTROL);
    let line = Line::from([((control.incarnation, control.lane), Head { sequence: 3, hash: hash(3) })]);
    let mut facts = members();
    facts.extend([helper, fact(HUB, 5, revocation())]);
    facts.push(fact(HUB, 7, ControlBody::Raise { device: key(TABLET).id(), line }));
    let coverage = checkpoints(9).stood(control, 2, 3);
    let view = Membership::build(key(ROOT).id(), &facts, &[], &coverage, &BySequence);
    assert!(view.is_known(&key(4).id()));
    let covering = view.covered(&at(control, 3), &coverage, &BySequence).unwrap();
    assert_eq!((covering.ordinal, covering.time), (7, 7_000));
}

proptest! {
    #[test]
    fn the_order_in_which_decisions_arrive_changes_nothing(
        order in Just((0..6_usize).collect::<Vec<_>>()).prop_shuffle(), repeated in 0_usize..6,
    ) {
        let mut facts = members();
        facts.extend([
            fact(HUB, 5, revocation()), fact(HUB, 7, raise()), fact(HUB, 9, raise()), fact(HUB, 8, readmission()),
        ]);
        let coverage = old_price(4, 9);
        let expected = covered(&facts, &[fork(4)], &coverage);
        prop_assert_eq!(expected, (Some(7), true));
        let mut shuffled: Vec<ControlFact> = order.iter().map(|index| facts[*index].clone()).collect();
        shuffled.push(facts[repeated].clone());
        prop_assert_eq!(covered(&shuffled, &[fork(4), fork(4)], &coverage), expected);
    }
}
