use serde_json::{Value, json};
use stallmesh_protocol::entry::{Header, Payload, sign_head};
use stallmesh_protocol::fork::{Branch, ForkProof};
use stallmesh_protocol::{Hash, Head, Kind, Lane};

use super::{MORNING, OWNER, STRANGER, code, key, log, market};

fn branch(sequence: u64, previous: Hash, texts: &[&str], signer: u8) -> Branch {
    let id = log(OWNER, Lane::SALES).id(&market());
    let mut head = Head { sequence: sequence - 1, hash: previous };
    let mut headers = Vec::new();
    for text in texts {
        let header = Header {
            timestamp: MORNING + head.sequence,
            seen: if head.sequence.is_multiple_of(2) { [0; 8] } else { [3; 8] },
            kind: Kind::SALE,
            payload_root: Payload::public(text.as_bytes().to_vec()).root(),
        };
        head = Head { sequence: head.sequence + 1, hash: header.hash(&id, head.sequence + 1, &head.hash) };
        headers.push(header);
    }
    Branch { headers, signature: sign_head(&key(signer), &id, &head) }
}

fn proof(sequence: u64, previous: Hash) -> ForkProof {
    let branches =
        [branch(sequence, previous, &["one", "two"], OWNER), branch(sequence, previous, &["another"], OWNER)];
    ForkProof::new(&market(), log(OWNER, Lane::SALES), sequence, previous, branches).unwrap()
}

pub(crate) fn make() -> Value {
    let previous = Hash::from_bytes([8; 32]);
    let accepted = [proof(1, Hash::ZERO), proof(41, previous)].map(|proof| {
        let bytes = proof.to_payload();
        assert_eq!(ForkProof::from_payload(&bytes).unwrap(), proof);
        json!({ "payload": hex::encode(bytes), "lane": proof.log.lane.0, "sequence": proof.sequence })
    });
    let good = proof(41, previous);
    let mut cases: Vec<(&str, ForkProof)> = Vec::new();
    let mut refuse = |why, change: &dyn Fn(&mut ForkProof)| {
        let mut proof = good.clone();
        change(&mut proof);
        cases.push((why, proof));
    };
    refuse("branches in the other order", &|proof| proof.branches.swap(0, 1));
    refuse("one branch twice", &|proof| proof.branches[1] = proof.branches[0].clone());
    refuse("a branch without headers", &|proof| proof.branches[0].headers.clear());
    refuse("a branch of 513 headers", &|proof| {
        let header = proof.branches[0].headers[0];
        proof.branches[0].headers = vec![header; 513];
    });
    refuse("another position", &|proof| proof.sequence += 1);
    refuse("position 0", &|proof| proof.sequence = 0);
    refuse("another predecessor", &|proof| proof.previous = Hash::from_bytes([7; 32]));
    refuse("another lane", &|proof| proof.log.lane = Lane::CATALOG);
    refuse("an altered header", &|proof| proof.branches[0].headers[0].timestamp += 1);
    refuse("another signer", &|proof| {
        let texts: &[&str] = if proof.branches[0].headers.len() == 2 { &["one", "two"] } else { &["another"] };
        proof.branches[0] = branch(41, previous, texts, STRANGER);
    });
    let mut refused: Vec<Value> = cases
        .into_iter()
        .map(|(why, proof)| {
            let bytes = proof.to_payload();
            let error = ForkProof::from_payload(&bytes).unwrap().verify(&market()).unwrap_err();
            json!({ "why": why, "payload": hex::encode(bytes), "code": code(error) })
        })
        .collect();
    // `previous` of zeros, said: what leaving it out says.
    let first = proof(1, Hash::ZERO).to_payload();
    let at = first.windows(4).position(|bytes| bytes == [0x18, 5, 0x20, 1]).unwrap() + 4;
    let said = [&first[..at], &[0x2a, 32], &[0; 32], &first[at..]].concat();
    let error = ForkProof::from_payload(&said).unwrap_err();
    refused.push(json!({ "why": "zeros that are said", "payload": hex::encode(said), "code": code(error) }));
    json!({
        "about": "Proofs that an author signed two histories of one log.",
        "market": market().to_string(),
        "accepted": accepted,
        "refused": refused,
    })
}
