//! Fork proofs as payloads.

use stallmesh_protocol::entry::Header;
use stallmesh_protocol::fork::{Branch, ForkProof};
use stallmesh_protocol::payload::{self, PayloadError, fixed};
use stallmesh_protocol::{Hash, Kind, Lane, LogName};

/// The payload of kinds 28 and 80.
pub(crate) fn write(proof: &ForkProof) -> Vec<u8> {
    let branch = |branch: &Branch| payload::ForkBranch {
        headers: branch
            .headers
            .iter()
            .map(|header| payload::ForkHeader {
                timestamp: header.timestamp,
                seen: if header.seen == [0; 8] { Vec::new() } else { header.seen.to_vec() },
                kind: header.kind.0,
                payload_root: header.payload_root.as_bytes().to_vec(),
            })
            .collect(),
        signature: branch.signature.as_bytes().to_vec(),
    };
    payload::encode(&payload::ForkProof {
        author: proof.log.author.as_bytes().to_vec(),
        incarnation: proof.log.incarnation.as_bytes().to_vec(),
        lane: proof.log.lane.0,
        sequence: proof.sequence,
        previous: if proof.previous == Hash::ZERO { Vec::new() } else { proof.previous.as_bytes().to_vec() },
        branches: proof.branches.iter().map(branch).collect(),
    })
}

/// Reads the payload of kinds 28 and 80; whether it proves anything is [`ForkProof::verify`]'s to say.
pub(crate) fn read(bytes: &[u8]) -> Result<ForkProof, PayloadError> {
    let message: payload::ForkProof = payload::decode("fork proof", bytes)?;
    let branch = |branch: &payload::ForkBranch| -> Result<Branch, PayloadError> {
        let headers = branch.headers.iter().map(|header| {
            Ok(Header {
                timestamp: header.timestamp,
                seen: if header.seen.is_empty() { [0; 8] } else { fixed("seen", &header.seen)? },
                kind: Kind(header.kind),
                payload_root: fixed("payload_root", &header.payload_root)?,
            })
        });
        Ok(Branch {
            headers: headers.collect::<Result<_, PayloadError>>()?,
            signature: fixed("signature", &branch.signature)?,
        })
    };
    let [one, other] = message.branches.as_slice() else {
        return Err(PayloadError::field("branches", "must be two"));
    };
    Ok(ForkProof {
        log: LogName {
            author: fixed("author", &message.author)?,
            incarnation: fixed("incarnation", &message.incarnation)?,
            lane: Lane(message.lane),
        },
        sequence: message.sequence,
        previous: if message.previous.is_empty() { Hash::ZERO } else { fixed("previous", &message.previous)? },
        branches: [branch(one)?, branch(other)?],
    })
}
