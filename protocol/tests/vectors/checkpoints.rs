use std::collections::BTreeMap;

use serde_json::{Value, json};
use stallmesh_protocol::acknowledgement::Acknowledgement;
use stallmesh_protocol::checkpoint::{Change, Checkpoint, CheckpointView, Leaf, ProvenLeaf, skip_targets};
use stallmesh_protocol::interval::Interval;
use stallmesh_protocol::merkle::{MerkleTree, empty_root, proves};
use stallmesh_protocol::{Hash, Head, Lane, payload};

use super::{HUB, MORNING, OWNER, code, key, log, log_id, market};

fn interval(from: u64, to: u64) -> Interval {
    Interval { from, to, hash: Hash::from_bytes([to as u8; 32]) }
}

fn leaves() -> Vec<Leaf> {
    (0..7_u64)
        .map(|number| {
            let who = OWNER + (number % 3) as u8;
            let lane = if number < 3 { Lane::CATALOG } else { Lane::SALES };
            let standing =
                (number != 4).then(|| Head { sequence: 10 + number, hash: Hash::from_bytes([number as u8; 32]) });
            let received = match number {
                0 => Vec::new(),
                5 => vec![interval(1, 4), interval(7, 15), interval(9, 12)],
                _ => vec![interval(1, 10 + number)],
            };
            Leaf { number, log: log_id(who, lane), standing, received }
        })
        .collect()
}

fn tree(leaves: &[Leaf]) -> MerkleTree {
    let mut tree = MerkleTree::default();
    leaves.iter().for_each(|leaf| tree.set(leaf.number as usize, &leaf.hash()));
    tree
}

fn checkpoint(number: u64) -> Checkpoint {
    let leaves = leaves();
    let change = |number: u64, named, standing| Change { number, named, standing, low: 1, finished: false };
    Checkpoint {
        epoch: 3,
        number,
        previous: (number > 1).then(|| Hash::from_bytes([0x50; 32])),
        time: MORNING + number,
        revocations: 2,
        root: tree(&leaves).root(),
        logs: leaves.len() as u64,
        changes: vec![
            change(0, Some(log(OWNER, Lane::CATALOG)), leaves[0].standing),
            change(1, None, leaves[1].standing),
            Change { low: 5, finished: true, ..change(2, None, leaves[2].standing) },
            change(9, Some(log(HUB, Lane::SIGNAL)), None),
        ],
        skips: skip_targets(number).map(|target| (target != 8).then(|| Hash::from_bytes([target as u8; 32]))).collect(),
    }
}

pub(crate) fn make() -> Value {
    let checkpoints = [1, 2, 12, 16].map(checkpoint_case);
    let intervals = vec![interval(1, 4), interval(1, 9), interval(12, 12)];
    json!({
        "about": "Checkpoints, their trees, leaves with their paths, and acknowledgements.",
        "market": market().to_string(),
        "checkpoints": checkpoints,
        "refused_checkpoints": refused(),
        "roots": roots(),
        "leaves": proven(),
        "refused_leaves": refused_leaves(),
        "acknowledgements": [acknowledgement(Vec::new()), acknowledgement(intervals)],
    })
}

fn checkpoint_case(number: u64) -> Value {
    let checkpoint = checkpoint(number);
    let bytes = checkpoint.to_payload();
    assert_eq!(Checkpoint::from_payload(&bytes).unwrap(), checkpoint);
    json!({
        "payload": hex::encode(bytes),
        "number": number,
        "skips_to": skip_targets(number).collect::<Vec<_>>(),
        "changes": checkpoint.changes.len(),
        "root": checkpoint.root.to_string(),
    })
}

fn refused() -> Vec<Value> {
    let message = || payload::decode::<payload::Checkpoint>("checkpoint", &checkpoint(12).to_payload()).unwrap();
    let mut cases: Vec<(&str, Vec<u8>)> = Vec::new();
    let mut refuse = |why, change: &dyn Fn(&mut payload::Checkpoint)| {
        let mut message = message();
        change(&mut message);
        cases.push((why, payload::encode(&message)));
    };
    refuse("number 0", &|message| (message.number, message.skips) = (0, Vec::new()));
    refuse("changes out of order", &|message| message.changes.swap(0, 1));
    refuse("a log twice", &|message| message.changes[1].log = 0);
    refuse("a short root", &|message| message.root.truncate(31));
    refuse("too few skip links", &|message| message.skips.truncate(1));
    refuse("too many skip links", &|message| message.skips.push(Vec::new()));
    refuse("a lane without an author", &|message| message.changes[1].lane = 3);
    refuse("a hash of nothing that stands", &|message| message.changes[3].hash = vec![1; 32]);
    refuse("a low mark of 1", &|message| message.changes[0].low = 1);
    refuse("a standing head without a hash", &|message| message.changes[0].hash.clear());
    cases
        .into_iter()
        .map(|(why, bytes)| {
            let error = Checkpoint::from_payload(&bytes).unwrap_err();
            json!({ "why": why, "payload": hex::encode(bytes), "code": code(error) })
        })
        .collect()
}

/// Trees of up to nine leaves that are the hashes 00…, 01…, and so on; every path of each.
fn roots() -> Vec<Value> {
    let mut tree = MerkleTree::default();
    let mut out = vec![json!({ "size": 0, "root": empty_root().to_string(), "paths": [] })];
    for size in 1..=9_u8 {
        tree.set(usize::from(size) - 1, &Hash::from_bytes([size - 1; 32]));
        let paths = (0..size).map(|index| {
            let path = tree.path(usize::from(index)).unwrap();
            assert!(proves(&tree.root(), size.into(), index.into(), &Hash::from_bytes([index; 32]), &path));
            path.iter().map(ToString::to_string).collect::<Vec<_>>()
        });
        out.push(json!({ "size": size, "root": tree.root().to_string(), "paths": paths.collect::<Vec<_>>() }));
    }
    out
}

fn proven_leaf(number: u64) -> ProvenLeaf {
    let leaves = leaves();
    let who = OWNER + (number % 3) as u8;
    let lane = if number < 3 { Lane::CATALOG } else { Lane::SALES };
    ProvenLeaf {
        checkpoint: Hash::from_bytes([0x77; 32]),
        log: log(who, lane),
        leaf: leaves[number as usize].clone(),
        path: tree(&leaves).path(number as usize).unwrap(),
    }
}

fn proven() -> Vec<Value> {
    let mut view = CheckpointView::default();
    view.insert(Hash::from_bytes([0x77; 32]), checkpoint(12));
    (0..7)
        .map(|number| {
            let proven = proven_leaf(number);
            let bytes = proven.to_bytes();
            assert_eq!(ProvenLeaf::from_bytes(&bytes).unwrap(), proven);
            assert!(view.is_proven(&market(), &proven));
            json!({
                "bytes": hex::encode(bytes),
                "root": checkpoint(12).root.to_string(),
                "size": checkpoint(12).logs,
                "number": number,
                "standing": proven.leaf.standing.map_or(0, |head| head.sequence),
                "intervals": proven.leaf.received.len(),
                "data": proven.leaf.hash().to_string(),
            })
        })
        .collect()
}

fn refused_leaves() -> Vec<Value> {
    let mut view = CheckpointView::default();
    view.insert(Hash::from_bytes([0x77; 32]), checkpoint(12));
    let good = proven_leaf(5).to_bytes();
    let mut cases: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    for (why, index) in [("another number", 91), ("another log", 50), ("another head", 131), ("another interval", 180)]
    {
        let mut bytes = good.clone();
        bytes[index] ^= 1;
        cases.insert(why, bytes);
    }
    cases.insert("a byte more", [good.as_slice(), &[0]].concat());
    cases.insert("cut", good[..good.len() - 1].to_vec());
    let mut of_nothing = proven_leaf(4).to_bytes();
    // The head's hash of a log of which nothing stands.
    of_nothing[140] = 1;
    cases.insert("a hash of nothing that stands", of_nothing);
    let mut longer = proven_leaf(5);
    longer.path.push(Hash::ZERO);
    cases.insert("a longer path", longer.to_bytes());
    cases
        .into_iter()
        .map(|(why, bytes)| {
            let proved = ProvenLeaf::from_bytes(&bytes).is_ok_and(|leaf| view.is_proven(&market(), &leaf));
            assert!(!proved, "{why}");
            let checkpoint = checkpoint(12);
            json!({
                "why": why,
                "bytes": hex::encode(bytes),
                "root": checkpoint.root.to_string(),
                "size": checkpoint.logs,
            })
        })
        .collect()
}

fn acknowledgement(intervals: Vec<Interval>) -> Value {
    let made = Acknowledgement::sign(&key(HUB), &market(), log(OWNER, Lane::SALES), intervals, MORNING);
    made.verify(&market()).unwrap();
    assert_eq!(Acknowledgement::from_wire(&made.to_wire()).unwrap(), made);
    let intervals = made
        .intervals
        .iter()
        .map(|interval| json!({ "from": interval.from, "to": interval.to, "hash": interval.hash.to_string() }));
    json!({
        "hub": made.hub.to_string(),
        "author": made.log.author.to_string(),
        "incarnation": made.log.incarnation.to_string(),
        "lane": made.log.lane.0,
        "time": made.time,
        "intervals": intervals.collect::<Vec<_>>(),
        "signature": hex::encode(made.signature.as_bytes()),
    })
}
