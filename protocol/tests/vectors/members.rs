use serde_json::{Value, json};
use stallmesh_protocol::certificate::{Certificate, Role, Scope, Scopes, VALIDITY_MAX};
use stallmesh_protocol::hash::{Domain, Hasher};
use stallmesh_protocol::membership::{
    BySequence, ControlBody, ControlFact, Membership, NoCoverage, Position, read_control, write_line,
};
use stallmesh_protocol::{Hash, Head, Incarnation, Kind, Lane, LogName, payload};

use super::{GATEWAY, HELPER, HOUR, HUB, MORNING, OWNER, ROOT, STRANGER, code, key, log};

fn certificate(who: u8, role: Role, scopes: Scopes) -> Certificate {
    let stall = if role == Role::Stall { "river-ceramics" } else { "" };
    Certificate {
        device: key(who).id(),
        role,
        stall: stall.into(),
        name: format!("device {who}"),
        scopes,
        not_before: MORNING,
        not_after: MORNING + 12 * HOUR,
        seal_key: [who; 32],
        invite: None,
        request: None,
    }
}

fn hub() -> Certificate {
    certificate(HUB, Role::Hub, Scopes::hub())
}

fn owner() -> Certificate {
    let mut owner = certificate(OWNER, Role::Stall, Scopes::stall_owner());
    (owner.invite, owner.request) = (Some([4; 16]), Some(Hash::from_bytes([5; 32])));
    owner
}

fn helper() -> Certificate {
    let scopes = Scopes::default().with(Scope::SELL, Some(5_000)).with(Scope::REFUND, Some(2_000));
    certificate(HELPER, Role::Stall, scopes)
}

fn gateway() -> Certificate {
    certificate(GATEWAY, Role::Gateway, Scopes::gateway())
}

pub(crate) fn make() -> Value {
    let scopes: Vec<Value> =
        Scope::KNOWN.iter().map(|scope| json!({ "scope": scope.0, "name": scope.name() })).collect();
    let certificates = [hub(), owner(), helper(), gateway()].map(|certificate| certificate_case(&certificate));
    json!({
        "about": "Certificates, what narrows and what doesn't, lines, and who belongs by a set of facts.",
        "scopes": scopes,
        "certificates": certificates,
        "refused_certificates": refused_certificates(),
        "narrowing": narrowing(),
        "judgements": judgements(),
        "refused_judgements": refused_judgements(),
        "memberships": memberships(),
    })
}

fn certificate_case(certificate: &Certificate) -> Value {
    let bytes = certificate.to_payload();
    assert_eq!(Certificate::from_payload(&bytes).unwrap(), *certificate);
    let scopes = certificate.scopes.iter().map(|(scope, limit)| json!({ "scope": scope.0, "limit": limit }));
    json!({
        "payload": hex::encode(bytes),
        "device": certificate.device.to_string(),
        "role": certificate.role.number(),
        "stall": certificate.stall,
        "name": certificate.name,
        "scopes": scopes.collect::<Vec<_>>(),
        "not_before": certificate.not_before,
        "not_after": certificate.not_after,
        "seal_key": hex::encode(certificate.seal_key),
        "invite": certificate.invite.map(hex::encode),
        "request": certificate.request.map(|id| id.to_string()),
    })
}

fn refused_certificates() -> Vec<Value> {
    let message = || payload::decode::<payload::Certificate>("certificate", &owner().to_payload()).unwrap();
    let mut cases: Vec<(&str, Vec<u8>)> = Vec::new();
    let mut refuse = |why, change: &dyn Fn(&mut payload::Certificate)| {
        let mut message = message();
        change(&mut message);
        cases.push((why, payload::encode(&message)));
    };
    refuse("an unknown role", &|message| message.role = 4);
    refuse("scopes out of order", &|message| message.scopes.swap(0, 1));
    refuse("a scope twice", &|message| message.scopes.insert(0, message.scopes[0]));
    refuse("it ends before it begins", &|message| message.not_after = message.not_before - 1);
    refuse("more than 400 days", &|message| message.not_after = message.not_before + VALIDITY_MAX + 1);
    refuse("a stall without a name", &|message| message.stall.clear());
    refuse("a stall's name that is no slug", &|message| message.stall = "River".into());
    refuse("a slug with two hyphens", &|message| message.stall = "river--ceramics".into());
    refuse("a slug of 61 bytes", &|message| message.stall = "a".repeat(61));
    refuse("a gateway with a stall", &|message| message.role = 3);
    refuse("a name of 121 bytes", &|message| message.name = "a".repeat(121));
    refuse("a name with a control character", &|message| message.name = "a\tb".into());
    refuse("a name that turns the reading direction", &|message| message.name = "a\u{202e}b".into());
    refuse("a key of 31 bytes", &|message| message.device.truncate(31));
    refuse("no seal key", &|message| message.seal_key.clear());
    refuse("an invite's id of 15 bytes", &|message| message.invite.truncate(15));
    cases.push(("an unknown field", [owner().to_payload(), vec![0x58, 1]].concat()));
    cases
        .into_iter()
        .map(|(why, bytes)| {
            let error = Certificate::from_payload(&bytes).unwrap_err();
            json!({ "why": why, "payload": hex::encode(bytes), "code": code(error) })
        })
        .collect()
}

fn narrowing() -> Vec<Value> {
    let with = |certificate: Certificate, scope, limit| Certificate {
        scopes: certificate.scopes.clone().with(scope, limit),
        ..certificate
    };
    let without = |certificate: Certificate, scope: Scope| Certificate {
        scopes: certificate.scopes.iter().filter(|(at, _)| *at != scope).collect(),
        ..certificate
    };
    let other_stall = Certificate { stall: "other-stall".into(), ..helper() };
    let cases = [
        ("a hub makes a stall", hub(), owner()),
        ("a hub makes a gateway", hub(), gateway()),
        ("a hub that may only admit makes a gateway", without(hub(), Scope::GRANT), gateway()),
        ("an owner makes a helper", owner(), helper()),
        ("a limit that is the issuer's", with(owner(), Scope::SELL, Some(5_000)), helper()),
        ("a hub makes a hub", hub(), Certificate { device: key(STRANGER).id(), ..hub() }),
        ("a gateway makes a stall", with(gateway(), Scope::GRANT, None), helper()),
        ("an owner makes a gateway", owner(), gateway()),
        ("a hub without grant and admit", without(without(hub(), Scope::GRANT), Scope::ADMIT), gateway()),
        ("a helper grants", helper(), Certificate { device: key(STRANGER).id(), ..helper() }),
        ("a grant of no level", with(owner(), Scope::GRANT, Some(0)), helper()),
        ("another stall's device", owner(), other_stall),
        ("a scope that the issuer lacks", owner(), with(helper(), Scope::SETTLE, None)),
        ("an unknown scope that the issuer lacks", owner(), with(helper(), Scope(99), None)),
        ("an unknown scope that the issuer has", with(owner(), Scope(99), None), with(helper(), Scope(99), Some(1))),
        (
            "no limit where the issuer has one",
            with(owner(), Scope::SELL, Some(5_000)),
            with(helper(), Scope::SELL, None),
        ),
        ("a limit above the issuer's", with(owner(), Scope::SELL, Some(4_999)), helper()),
        ("a level of granting less", with(owner(), Scope::GRANT, Some(2)), with(helper(), Scope::GRANT, Some(1))),
        ("no level of granting less", owner(), with(helper(), Scope::GRANT, Some(1))),
        (
            "granting without limit from three levels",
            with(owner(), Scope::GRANT, Some(3)),
            with(helper(), Scope::GRANT, None),
        ),
        ("granting three levels from no limit", hub(), with(owner(), Scope::GRANT, Some(3))),
        ("granting four levels from no limit", hub(), with(owner(), Scope::GRANT, Some(4))),
        ("valid before its issuer", owner(), Certificate { not_before: MORNING - 1, ..helper() }),
        ("valid after its issuer", owner(), Certificate { not_after: MORNING + 12 * HOUR + 1, ..helper() }),
    ];
    cases
        .into_iter()
        .map(|(what, issuer, subject)| {
            let (issuer_bytes, subject_bytes) = (issuer.to_payload(), subject.to_payload());
            let [issuer, subject] =
                [&issuer_bytes, &subject_bytes].map(|bytes| Certificate::from_payload(bytes).unwrap());
            json!({
                "what": what,
                "issuer": hex::encode(issuer_bytes),
                "subject": hex::encode(subject_bytes),
                "narrows": subject.narrows(&issuer).is_ok(),
            })
        })
        .collect()
}

fn heads(lanes: &[(u8, Lane, u64)]) -> Vec<payload::LogHead> {
    let line = lanes.iter().map(|(incarnation, lane, sequence)| {
        let hash = Hasher::new(Domain::Entry).u64(*sequence).finish();
        ((Incarnation::from_bytes([*incarnation; 16]), *lane), Head { sequence: *sequence, hash })
    });
    write_line(&line.collect())
}

fn line() -> Vec<payload::LogHead> {
    heads(&[(1, Lane::CATALOG, 7), (1, Lane::SALES, 40), (2, Lane::CONTROL, 300)])
}

fn device(who: u8) -> Vec<u8> {
    key(who).id().as_bytes().to_vec()
}

fn judgements() -> Vec<Value> {
    let revocation = payload::Revocation {
        device: device(OWNER),
        line: line(),
        reason: "lost on the square".into(),
        below_standing: true,
    };
    let empty = payload::Revocation { device: device(OWNER), ..Default::default() };
    let raise = payload::Raise { device: device(OWNER), line: line() };
    let readmission = payload::Readmission { device: device(OWNER), incarnation: vec![0xa3; 16] };
    [
        (Kind::REVOCATION, payload::encode(&revocation)),
        (Kind::REVOCATION, payload::encode(&empty)),
        (Kind::RAISE, payload::encode(&raise)),
        (Kind::READMISSION, payload::encode(&readmission)),
    ]
    .into_iter()
    .map(|(kind, bytes)| {
        let body = read_control(kind, &bytes).unwrap().unwrap();
        let (device, line) = match &body {
            ControlBody::Revocation { device, line, .. } | ControlBody::Raise { device, line } => {
                (device, line.clone())
            }
            ControlBody::Readmission { device, .. } => (device, Default::default()),
            ControlBody::Certificate(certificate) => (&certificate.device, Default::default()),
        };
        let line = line.iter().map(|((incarnation, lane), head)| {
            json!({
                "incarnation": incarnation.to_string(),
                "lane": lane.0,
                "sequence": head.sequence,
                "hash": head.hash.to_string(),
            })
        });
        json!({
            "kind": kind.0,
            "payload": hex::encode(&bytes),
            "device": device.to_string(),
            "line": line.collect::<Vec<_>>(),
        })
    })
    .collect()
}

fn refused_judgements() -> Vec<Value> {
    let mut swapped = line();
    swapped.swap(0, 1);
    let mut twice = line();
    twice.insert(0, twice[0].clone());
    let mut short = line();
    short[0].hash.pop();
    let raise = |line| payload::encode(&payload::Raise { device: device(OWNER), line });
    let reading = payload::Readmission { device: device(OWNER), incarnation: vec![1; 15] };
    [
        ("a line out of order", Kind::RAISE, raise(swapped)),
        ("a log twice", Kind::RAISE, raise(twice)),
        ("a short hash", Kind::RAISE, raise(short)),
        ("a short incarnation", Kind::READMISSION, payload::encode(&reading)),
        ("nothing", Kind::REVOCATION, Vec::new()),
    ]
    .into_iter()
    .map(|(why, kind, bytes)| {
        let error = read_control(kind, &bytes).unwrap_err();
        json!({ "why": why, "kind": kind.0, "payload": hex::encode(bytes), "code": code(error) })
    })
    .collect()
}

struct Facts(Vec<(ControlFact, Kind, Vec<u8>)>);

impl Facts {
    fn add(&mut self, author: u8, sequence: u64, timestamp: u64, kind: Kind, bytes: Vec<u8>) {
        let log: LogName = log(author, Lane::CONTROL);
        let hash = Hasher::new(Domain::Entry).u8(author).u64(sequence).bytes(&bytes).finish();
        let body = read_control(kind, &bytes).unwrap().unwrap();
        let fact = ControlFact { at: Position { log, sequence, hash }, timestamp, seen: [0; 8], body };
        self.0.push((fact, kind, bytes));
    }

    fn certify(&mut self, author: u8, sequence: u64, certificate: &Certificate) {
        self.add(author, sequence, MORNING + sequence, Kind::CERTIFICATE, certificate.to_payload());
    }

    fn revoke(&mut self, author: u8, sequence: u64, subject: u8, line: Vec<(Lane, Head)>) {
        let line = line.into_iter().map(|(lane, head)| ((Incarnation::from_bytes([0xa0 + subject; 16]), lane), head));
        let message =
            payload::Revocation { device: device(subject), line: write_line(&line.collect()), ..Default::default() };
        self.add(author, sequence, MORNING + sequence, Kind::REVOCATION, payload::encode(&message));
    }

    fn case(&self, what: &str) -> Value {
        let facts: Vec<ControlFact> = self.0.iter().map(|(fact, _, _)| fact.clone()).collect();
        let view = Membership::build(key(ROOT).id(), &facts, &[], &NoCoverage, &BySequence);
        let members = view.devices().map(|device| {
            json!({
                "device": device.to_string(),
                "role": view.role(device).map(Role::number),
                "stall": view.stall(device),
                "revoked": view.is_revoked(device),
            })
        });
        let facts = self.0.iter().map(|(fact, kind, bytes)| {
            json!({
                "author": fact.at.log.author.to_string(),
                "incarnation": fact.at.log.incarnation.to_string(),
                "sequence": fact.at.sequence,
                "hash": fact.at.hash.to_string(),
                "timestamp": fact.timestamp,
                "kind": kind.0,
                "payload": hex::encode(bytes),
                "effective": !view.refused().contains_key(&fact.at),
            })
        });
        json!({
            "what": what,
            "root": key(ROOT).id().to_string(),
            "members": members.collect::<Vec<_>>(),
            "facts": facts.collect::<Vec<_>>(),
        })
    }
}

/// Without checkpoints: what timestamps, lines and ranks alone decide. Exports show the rest.
fn memberships() -> Vec<Value> {
    let start = || {
        let mut facts = Facts(Vec::new());
        facts.certify(ROOT, 2, &hub());
        facts.certify(HUB, 2, &owner());
        facts.certify(OWNER, 2, &helper());
        facts.certify(HUB, 3, &gateway());
        facts
    };
    let mut out = vec![start().case("root, hub, owner, helper and gateway")];
    let mut facts = start();
    facts.certify(HELPER, 2, &Certificate { device: key(STRANGER).id(), ..helper() });
    facts.certify(STRANGER, 2, &owner());
    out.push(facts.case("a helper and a stranger grant what they don't have"));
    let mut facts = start();
    let position = facts.0[2].0.at;
    facts.revoke(HUB, 4, OWNER, vec![(Lane::CONTROL, Head { sequence: position.sequence, hash: position.hash })]);
    out.push(facts.case("an owner is revoked after it certified its helper"));
    let mut facts = start();
    facts.revoke(HUB, 4, OWNER, vec![(Lane::CONTROL, Head { sequence: 1, hash: Hash::from_bytes([1; 32]) })]);
    out.push(facts.case("an owner is revoked before it certified its helper"));
    let mut facts = start();
    facts.revoke(OWNER, 3, HUB, Vec::new());
    facts.revoke(GATEWAY, 2, HELPER, Vec::new());
    facts.revoke(OWNER, 4, HELPER, Vec::new());
    out.push(facts.case("who has a say: not upwards, not sideways, but over one's own helper"));
    let mut facts = start();
    let raise = payload::Raise { device: device(HELPER), line: line() };
    facts.add(OWNER, 3, MORNING, Kind::RAISE, payload::encode(&raise));
    facts.add(HUB, 4, MORNING, Kind::RAISE, payload::encode(&raise));
    out.push(facts.case("a raise is a hub's alone"));
    let mut facts = start();
    let late = Certificate { device: key(STRANGER).id(), not_before: MORNING, ..helper() };
    facts.add(OWNER, 9, MORNING + 13 * HOUR, Kind::CERTIFICATE, late.to_payload());
    out.push(facts.case("an expired owner grants no more"));
    out
}
