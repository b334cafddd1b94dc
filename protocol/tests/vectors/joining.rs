use prost::Message;
use serde_json::{Value, json};
use stallmesh_protocol::certificate::{Role, Scopes};
use stallmesh_protocol::hash::{Domain, Hasher};
use stallmesh_protocol::invite::{Invite, to_text};
use stallmesh_protocol::join::{JoinBy, JoinRequest, commitment, short_code};
use stallmesh_protocol::seal::SealKey;
use stallmesh_protocol::{Hash, payload, wire};

use super::{HOUR, HUB, MORNING, OWNER, ROOT, STRANGER, code, key, market};

fn invite() -> Invite {
    Invite {
        root: key(ROOT).id(),
        epoch: 1,
        hub: key(HUB).id(),
        opening_key: SealKey::from_secret(&[HUB; 32]).unwrap().public(),
        id: [4; 16],
        role: Role::Stall,
        stall: "river-ceramics".into(),
        name: "River Ceramics".into(),
        scopes: Scopes::stall_owner(),
        expires: MORNING + HOUR,
        not_after: MORNING + 12 * HOUR,
        hub_addresses: vec!["hub.example:7801".into()],
        peers: vec!["/ip4/192.0.2.7/udp/7800/quic-v1".into()],
    }
}

pub(crate) fn make() -> Value {
    let bytes = invite().sign(&key(HUB));
    assert_eq!(Invite::from_bytes(&bytes).unwrap(), invite());
    let opening = SealKey::from_secret(&[HUB; 32]).unwrap();
    let (device_nonce, hub_nonce) = ([6; 16], [7; 16]);
    let owner = key(OWNER).id();
    let tag = Hasher::keyed(market().as_bytes(), Domain::Join).bytes(&[8; 16]).bytes(owner.as_bytes()).finish();
    json!({
        "about": "Invites, sealed join requests, the short code, and how two sides show that they know a market.",
        "market": market().to_string(),
        "invite": {
            "bytes": hex::encode(&bytes),
            "text": to_text(&bytes),
            "hub": key(HUB).id().to_string(),
            "root": key(ROOT).id().to_string(),
            "epoch": 1,
        },
        "refused_invites": refused_invites(&bytes),
        "requests": requests(&bytes),
        "refused_requests": refused_requests(),
        "commitment": {
            "nonce": hex::encode(device_nonce),
            "device": owner.to_string(),
            "commitment": commitment(&device_nonce, &owner).to_string(),
        },
        "short_code": {
            "device": owner.to_string(),
            "opening_key": hex::encode(opening.public()),
            "root": key(ROOT).id().to_string(),
            "device_nonce": hex::encode(device_nonce),
            "hub_nonce": hex::encode(hub_nonce),
            "code": short_code(&owner, &opening.public(), &key(ROOT).id(), &device_nonce, &hub_nonce),
        },
        "hello": {
            "market": market().to_string(),
            "nonce": hex::encode([8; 16]),
            "device": owner.to_string(),
            "tag": hex::encode(&tag.as_bytes()[..16]),
        },
    })
}

fn refused_invites(good: &[u8]) -> Vec<Value> {
    let message = || wire::Invite::decode(good).unwrap();
    let forged = invite().sign(&key(STRANGER));
    let mut scopes = message();
    scopes.scopes.swap(0, 1);
    scopes.signature.clear();
    let signature = key(HUB).sign(stallmesh_protocol::sign::Context::Invite, &scopes.encode_to_vec());
    scopes.signature = signature.as_bytes().to_vec();
    let mut later = message();
    later.expires += 1;
    [
        ("another key signed it", forged),
        ("altered", later.encode_to_vec()),
        ("a field that does not exist", [good, &[0x78, 1]].concat()),
        ("scopes out of order", scopes.encode_to_vec()),
        ("cut", good[..good.len() - 1].to_vec()),
        ("nothing", Vec::new()),
    ]
    .into_iter()
    .map(|(why, bytes)| {
        Invite::from_bytes(&bytes).unwrap_err();
        json!({ "why": why, "bytes": hex::encode(bytes) })
    })
    .collect()
}

fn request(by: JoinBy) -> JoinRequest {
    JoinRequest {
        device: key(OWNER).id(),
        seal_key: SealKey::from_secret(&[OWNER; 32]).unwrap().public(),
        name: "till 1".into(),
        by,
        stall: "river-ceramics".into(),
        time: MORNING,
    }
}

fn seal(request: &JoinRequest, signer: u8) -> payload::JoinRequest {
    let opening = SealKey::from_secret(&[HUB; 32]).unwrap().public();
    request.seal(&key(signer), &market(), &opening, MORNING + HOUR, [0x44; 32]).unwrap()
}

fn requests(invite: &[u8]) -> Vec<Value> {
    let asking = JoinBy::Asking { commitment: commitment(&[6; 16], &key(OWNER).id()) };
    let revealing = JoinBy::Revealing { request: Hash::from_bytes([9; 32]), nonce: [6; 16] };
    [("invite", JoinBy::Invite(invite.to_vec())), ("asking", asking), ("revealing", revealing)]
        .into_iter()
        .map(|(by, right)| {
            let request = request(right);
            let sealed = seal(&request, OWNER);
            let opened = JoinRequest::open(&sealed, &market(), &SealKey::from_secret(&[HUB; 32]).unwrap()).unwrap();
            assert_eq!(opened.1, request);
            json!({
                "by": by,
                "payload": hex::encode(payload::encode(&sealed)),
                "opening_secret": hex::encode([HUB; 32]),
                "id": opened.0.to_string(),
                "device": request.device.to_string(),
                "name": request.name,
            })
        })
        .collect()
}

fn refused_requests() -> Vec<Value> {
    let asking = || request(JoinBy::Asking { commitment: commitment(&[6; 16], &key(OWNER).id()) });
    let good = seal(&asking(), OWNER);
    let mut late = good.clone();
    late.expires += 1;
    let mut recipient = good.clone();
    recipient.sealed.as_mut().unwrap().recipient = vec![1; 32];
    let mut altered = good.clone();
    altered.sealed.as_mut().unwrap().ciphertext[3] ^= 1;
    [
        ("another device signed it", seal(&asking(), STRANGER)),
        ("it expires later", late),
        ("another recipient is named", recipient),
        ("an altered byte", altered),
    ]
    .into_iter()
    .map(|(why, message)| {
        let opening = SealKey::from_secret(&[HUB; 32]).unwrap();
        let error = JoinRequest::open(&message, &market(), &opening).unwrap_err();
        json!({
            "why": why,
            "payload": hex::encode(payload::encode(&message)),
            "opening_secret": hex::encode([HUB; 32]),
            "code": code(error),
        })
    })
    .collect()
}
