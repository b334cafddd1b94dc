//! A. What travels: lengths, encodings, lanes, versions, signatures.

use std::path::Path;

use prost::Message;
use serde_json::Value;
use stallmesh_node::config::Config;
use stallmesh_node::engine::{Answer, FailureCode, ProductView, Request, SaleOrder};
use stallmesh_node::link::Channel;
use stallmesh_protocol::certificate::Certificate;
use stallmesh_protocol::codec::{CodecError, Reader, put_varint};
use stallmesh_protocol::page::Page;
use stallmesh_protocol::sign::{Context, Signature, verify};
use stallmesh_protocol::wire::{self, frame::Body, join_frame};
use stallmesh_protocol::{DeviceId, Kind, Lane, LogName, MarketId, payload};
use stallmesh_tests::simulation::Simulation;
use stallmesh_tests::simulation::hostile::{encode, encode_join};

use super::{Turncoat, held, log_of, state};

fn vectors(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/vectors").join(format!("{name}.json"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn bytes(case: &Value, field: &str) -> Vec<u8> {
    hex::decode(case[field].as_str().unwrap()).unwrap()
}

#[test]
fn adv_002_a_number_has_one_encoding_and_no_more_than_ten_bytes() {
    for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), 1 << 62, u64::MAX] {
        let mut one = Vec::new();
        put_varint(&mut one, value);
        assert_eq!(Reader::new(&one).varint("a number"), Ok(value));
        // Longer by zeros at its end: the same number, for whoever isn't strict.
        for zeros in 1..=11 - one.len().min(10) {
            let mut longer = one.clone();
            *longer.last_mut().unwrap() |= 0x80;
            longer.extend(vec![0x80; zeros - 1]);
            longer.push(0);
            assert_eq!(Reader::new(&longer).varint("a number"), Err(CodecError::Varint("a number")), "{longer:x?}");
        }
    }
    for beyond in [vec![0xff; 11], [vec![0xff; 9], vec![0x02]].concat(), [vec![0x80; 10], vec![1]].concat()] {
        assert_eq!(Reader::new(&beyond).varint("a number"), Err(CodecError::Varint("a number")), "{beyond:x?}");
    }
}

#[test]
fn adv_006_a_hundred_thousand_levels_are_an_error_and_no_recursion() {
    const LEVELS: usize = 100_000;
    // Protobuf: groups in groups, known and unknown fields, open and closed.
    for tag in [0x0b_u8, 0x7b] {
        let open = vec![tag; LEVELS];
        let closed = [open.clone(), vec![tag + 1; LEVELS]].concat();
        for nested in [open, closed] {
            assert!(wire::Frame::decode(nested.as_slice()).is_err());
            assert!(wire::JoinFrame::decode(nested.as_slice()).is_err());
            assert!(payload::decode::<payload::Sale>("sale", &nested).is_err());
        }
    }
    // JSON, as the API reads it.
    for (open, close) in [("[", "]"), ("{\"lines\":", "}")] {
        let text = open.repeat(LEVELS) + &close.repeat(LEVELS);
        assert!(serde_json::from_str::<SaleOrder>(&text).is_err());
        assert!(serde_json::from_str::<Vec<ProductView>>(&text).is_err());
        assert!(serde_json::from_str::<Value>(&text).is_err());
    }
    // TOML, as the configuration is.
    let file = tempfile::NamedTempFile::new().unwrap();
    for text in [format!("name = {}{}", "[".repeat(LEVELS), "]".repeat(LEVELS)), "a.".repeat(LEVELS) + "b = 1"] {
        std::fs::write(file.path(), text).unwrap();
        assert!(Config::load(Some(file.path()), []).is_err());
    }
}

/// The fields of a message, each with its tag.
fn fields(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let varint = |bytes: &[u8]| bytes.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(bytes);
        let length = match bytes[0] & 7 {
            0 => tag + varint(&bytes[tag..]),
            1 => tag + 8,
            5 => tag + 4,
            _ => {
                let mut reader = Reader::new(&bytes[tag..]);
                let inner = reader.varint("a length").unwrap() as usize;
                bytes.len() - reader.remaining() + inner
            }
        };
        fields.push(bytes[..length].to_vec());
        bytes = &bytes[length..];
    }
    fields
}

#[test]
fn adv_007_payloads_have_no_second_encoding_no_floats_and_no_maps() {
    for file in ["payload.proto", "wire.proto"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/proto").join(file);
        let text = std::fs::read_to_string(path).unwrap();
        for kind in ["float ", "double ", "map<", "Any ", "packed"] {
            let code = text.lines().map(|line| line.split("//").next().unwrap());
            assert!(
                code.clone().all(|line| !line.trim_start().starts_with(kind) && !line.contains(&format!(" {kind}")))
            );
        }
    }
    let read = |message: &str, bytes: &[u8]| match message {
        "Market" => payload::decode::<payload::Market>("market", bytes).is_ok(),
        "Policy" => payload::decode::<payload::Policy>("policy", bytes).is_ok(),
        "Sale" => payload::decode::<payload::Sale>("sale", bytes).is_ok(),
        "Settlement" => payload::decode::<payload::Settlement>("settlement", bytes).is_ok(),
        _ => Certificate::from_payload(bytes).is_ok(),
    };
    let payloads = vectors("payloads");
    let mut cases: Vec<(String, Vec<u8>)> = Vec::new();
    for case in payloads["accepted"].as_array().unwrap() {
        let message = case["message"].as_str().unwrap();
        if ["Market", "Policy", "Sale", "Settlement"].contains(&message) && !bytes(case, "payload").is_empty() {
            cases.push((message.to_owned(), bytes(case, "payload")));
        }
    }
    for case in vectors("members")["certificates"].as_array().unwrap() {
        cases.push(("Certificate".to_owned(), bytes(case, "payload")));
    }
    let kinds: std::collections::BTreeSet<&str> = cases.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds.len(), 5, "{kinds:?}");
    for (message, good) in &cases {
        assert!(read(message, good));
        let fields = fields(good);
        let refused = |what: &str, changed: Vec<Vec<u8>>| {
            let changed = changed.concat();
            assert!(changed == *good || !read(message, &changed), "{message}: {what} was accepted");
        };
        for (at, field) in fields.iter().enumerate() {
            let number = |field: &[u8]| field[0] >> 3;
            if at + 1 < fields.len() && number(&fields[at]) != number(&fields[at + 1]) {
                let mut swapped = fields.clone();
                swapped.swap(at, at + 1);
                refused("fields out of order", swapped);
            }
            // A length or number in more bytes than it needs.
            if field[0] & 7 == 2 && field[1] < 0x80 {
                let mut longer = fields.clone();
                longer[at][1] |= 0x80;
                longer[at].insert(2, 0);
                refused("a length that isn't minimal", longer);
            }
        }
        let with = |more: &[u8]| [fields.clone(), vec![more.to_vec()]].concat();
        // A field that nobody knows; a group; a default that is said.
        refused("an unknown field", with(&[0xf8, 0x3f, 1]));
        refused("a group", with(&[0xfb, 0x3f, 0xfc, 0x3f]));
        let absent = (1..16_u8).find(|number| fields.iter().all(|field| field[0] >> 3 != *number)).unwrap();
        let place = fields.iter().position(|field| field[0] >> 3 > absent).unwrap_or(fields.len());
        let mut said = fields.clone();
        said.insert(place, vec![absent << 3, 0]);
        refused("a default that is said", said);
    }
}

#[test]
fn adv_009_what_is_not_known_is_passed_on_or_passed_over_and_costs_no_link() {
    let mut market = Simulation::market(900, 3);
    let turncoat = Turncoat::of(&mut market, 2, 3);
    // Kinds of entries that nobody knows, on a lane that everybody keeps.
    let unknown = [(Kind(4_711), vec![1, 2, 3]), (Kind(u32::MAX), Vec::new())];
    let (log, page) = log_of(&market, &turncoat.key, 40, Lane::SIGNAL, &unknown);
    turncoat.hands_on(&mut market, &log, &page);
    // Messages and fields that nobody knows.
    for frame in [&[0xc2, 0x3e, 3, 1, 2, 3][..], &[0xf8, 0x3f, 7]] {
        turncoat.sends(&mut market, Channel::Live, frame);
        let known = encode(Body::Ping(wire::Ping { nonce: 5 }));
        turncoat.sends(&mut market, Channel::Live, &[&known[..], frame].concat());
    }
    market.until("the entries are everywhere", 20_000, |market| {
        [0, 1, 3, 4].into_iter().all(|node| held(market, node, &log) == 3)
    });
    assert!(!turncoat.was_shown_out(&market), "{:?}", turncoat.reasons(&market));
    let answered =
        turncoat.heard(&market).into_iter().filter(|body| matches!(body, Body::Pong(pong) if pong.nonce == 5));
    assert_eq!(answered.count(), 2, "what it knows of a message it takes");
}

#[test]
fn adv_010_nothing_counts_on_another_lane_than_its_own() {
    let mut market = Simulation::market(901, 3);
    let mut turncoat = Turncoat::of(&mut market, 2, 3);
    market.run_for(3_000);
    let before = state(&mut market, &[1, 3, 4]);
    // An entry that was signed for one lane, under the name of another: the lane is in what was signed.
    let product = payload::Products::default();
    let (catalog, page) =
        log_of(&market, &turncoat.key, 41, Lane::CATALOG, &[(Kind::PRODUCTS, payload::encode(&product))]);
    for lane in [Lane::CONTROL, Lane::CHECKPOINT, Lane::SIGNAL, Lane::SALES, Lane::LEDGER] {
        turncoat.hands_on(&mut market, &LogName { lane, ..catalog }, &page);
        market.until("its link ends", 5_000, |market| turncoat.was_shown_out(market));
        assert!(turncoat.reasons(&market).last().unwrap().contains("E_SIG"), "{:?}", turncoat.reasons(&market));
        turncoat.comes_again(&mut market);
    }
    assert_eq!(state(&mut market, &[1, 3, 4]), before);
    // Join frames in a session, and a session's frames at the gate.
    let ask = encode_join(join_frame::Body::Ask(wire::JoinAsk { request: vec![1; 40] }));
    for (channel, frame) in [
        (Channel::Live, ask.clone()),
        (Channel::Bulk, ask),
        (
            Channel::Join,
            encode(Body::Page(wire::Page {
                request: 0,
                log: Some((&catalog).into()),
                page: page.encode(),
                custody: true,
                unpacked: 0,
            })),
        ),
    ] {
        turncoat.sends(&mut market, channel, &frame);
        market.run_for(1_000);
        if turncoat.was_shown_out(&market) {
            turncoat.comes_again(&mut market);
        }
    }
    // Kinds where they have no meaning: kept, without effect.
    let policy = payload::Policy { fee_rate: "99".into(), ..Default::default() };
    let (log, page) = log_of(&market, &turncoat.key, 42, Lane::SIGNAL, &[(Kind::POLICY, payload::encode(&policy))]);
    turncoat.hands_on(&mut market, &log, &page);
    market.until("it is kept", 20_000, |market| held(market, 4, &log) == 2);
    let Answer::Policy(policy) = market.ask(4, Request::Policy) else { panic!() };
    assert_eq!(policy.fee_rate, "5");
}

#[test]
fn adv_011_what_a_newer_version_says_is_kept_for_those_who_understand_it() {
    let mut market = Simulation::market(902, 3);
    let mut turncoat = Turncoat::of(&mut market, 2, 3);
    // A product with a field of tomorrow is no product today: not the one encoding. It is kept and passed on all the same.
    let mut tomorrow = payload::encode(&payload::Products {
        products: vec![payload::Product { sku: "T".into(), name: "Tomorrow's".into(), price: 1, ..Default::default() }],
        ..Default::default()
    });
    tomorrow.extend_from_slice(&[0xf8, 0x3f, 7]);
    let (log, page) = log_of(&market, &turncoat.key, 43, Lane::CATALOG, &[(Kind::PRODUCTS, tomorrow)]);
    turncoat.hands_on(&mut market, &log, &page);
    market.until("it is everywhere", 20_000, |market| [0, 1, 4].into_iter().all(|node| held(market, node, &log) == 2));
    assert!(market.products(4, None).iter().all(|product| product.name != "Tomorrow's"));
    // A lane that nobody here keeps is declined, and costs no link.
    let (log, page) = log_of(&market, &turncoat.key, 44, Lane(77), &[(Kind(900), vec![1])]);
    turncoat.hands_on(&mut market, &log, &page);
    market.until("it is declined", 5_000, |market| {
        turncoat
            .heard(market)
            .iter()
            .any(|body| matches!(body, Body::Refusal(refusal) if refusal.log == Some((&log).into())))
    });
    assert!(!turncoat.was_shown_out(&market));
    // Another version of pages can't be read at all: whoever sends it to this version is shown out, and nothing is taken.
    let (log, page) = log_of(&market, &turncoat.key, 45, Lane::CATALOG, &[(Kind::PRODUCTS, Vec::new())]);
    let mut second = page.encode();
    second[0] = 2;
    let page = wire::Page { request: 0, log: Some((&log).into()), page: second, custody: false, unpacked: 0 };
    turncoat.says(&mut market, Body::Page(page));
    market.until("its link ends", 5_000, |market| turncoat.was_shown_out(market));
    turncoat.comes_again(&mut market);
    assert_eq!(held(&mut market, 3, &log), 0);
}

#[test]
fn adv_012_no_older_protocol_is_spoken_because_a_peer_asks_for_it() {
    let mut market = Simulation::market(903, 2);
    let mut turncoat = Turncoat::of(&mut market, 2, 3);
    let market_id = market.market_id();
    for version in [0, 2, u32::MAX] {
        turncoat.link = market.puppet_dial(turncoat.puppet, stallmesh_node::link::Road::Mesh, 3);
        let hello = wire::Hello {
            version,
            market: market_id.as_bytes().to_vec(),
            incarnation: vec![9; 16],
            nonce: vec![9; 16],
            ..Default::default()
        };
        turncoat.says(&mut market, Body::Hello(hello));
        market.until("its link ends", 5_000, |market| turncoat.was_shown_out(market));
        let reason = turncoat.reasons(&market).pop().unwrap();
        assert!(reason.contains("E_UNSUPPORTED") && reason.contains("speaks 1"), "{reason}");
        let told = turncoat.heard(&market);
        assert!(told.iter().all(|body| matches!(body, Body::Hello(_))), "{told:?}");
    }
}

#[test]
fn adv_013_names_that_would_pass_for_others_are_refused_and_long_ones_are_capped() {
    let mut market = Simulation::market(904, 1);
    let publish = |market: &mut Simulation, sku: &str, name: &str| {
        let product =
            ProductView { sku: sku.into(), name: name.into(), price: 1, unit: "piece".into(), ..Default::default() };
        market.ask(2, Request::PublishProducts(vec![product]))
    };
    let mebibyte = "x".repeat(1024 * 1024);
    let bomb = format!("a{}", "\u{301}".repeat(2_000));
    for name in
        ["", "nul\0", "\u{feff}bom", "right to \u{202e}left", "new\nline", "zero\u{200b}width", &mebibyte, &bomb]
    {
        let answer = publish(&mut market, "S", name);
        assert!(
            matches!(&answer, Answer::Failed(failure) if failure.code == FailureCode::EInvalid),
            "{name:.20}: {answer:?}"
        );
    }
    for sku in ["", "a\0b", "tab\there", &mebibyte] {
        assert!(matches!(publish(&mut market, sku, "Mug"), Answer::Failed(_)), "{sku:.20}");
    }
    // What people write is taken as it is.
    for name in ["Tasse à café", "מחית", "Ångström’s 杯子 ☕"] {
        assert_eq!(publish(&mut market, "S", name), Answer::Done, "{name}");
        assert!(market.products(2, None).iter().any(|product| product.name == name));
    }
    // Nor do they get in by the other door: what a member's entry names unprintably has no effect, or is shown harmless.
    let certificate = &vectors("members")["certificates"][1];
    let good = Certificate::from_payload(&bytes(certificate, "payload")).unwrap();
    for name in ["nul\0", "right to \u{202e}left", "\u{feff}", &mebibyte] {
        let changed = Certificate { name: name.to_owned(), ..good.clone() };
        assert!(Certificate::from_payload(&changed.to_payload()).is_err(), "{name:.20}");
    }
    // Invalid UTF-8 is no text.
    let mut broken = good.to_payload();
    let at = broken.windows(good.name.len()).position(|window| window == good.name.as_bytes()).unwrap();
    broken[at] = 0xff;
    assert!(Certificate::from_payload(&broken).is_err());
}

#[test]
fn adv_014_edge_points_and_second_scalars_are_refused_by_one_rule() {
    let names = vectors("names");
    let context = |name: &str| match name.rsplit('/').next().unwrap() {
        "head" => Context::Head,
        "acknowledgement" => Context::Acknowledgement,
        "invite" => Context::Invite,
        "join" => Context::Join,
        other => panic!("{other}"),
    };
    let check = |case: &Value| {
        let key: [u8; 32] = bytes(case, "public").try_into().unwrap();
        let signature: [u8; 64] = bytes(case, "signature").try_into().unwrap();
        let signature = Signature::from_bytes(signature);
        let context = context(case["context"].as_str().unwrap());
        // Always the same answer, however often it is asked.
        let results =
            [0; 3].map(|_| verify(&DeviceId::from_bytes(key), context, &bytes(case, "message"), &signature).is_ok());
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
        results[0]
    };
    let cases = |list: &str| -> Vec<Value> {
        let all = names[list].as_array().unwrap().iter().cloned();
        all.filter(|case| !case["context"].as_str().unwrap().ends_with("session")).collect()
    };
    assert!(cases("signatures").iter().all(check));
    let refused = cases("refused_signatures");
    for case in &refused {
        assert!(!check(case), "{}", case["why"]);
    }
    assert!(refused.len() >= 8);
}

#[test]
fn adv_016_what_is_named_by_a_hash_is_what_has_that_hash() {
    // A join request under another's id.
    let mut market = Simulation::market(905, 2);
    let identity = stallmesh_node::engine::Identity {
        device: stallmesh_protocol::sign::DeviceKey::from_seed(&[81; 32]),
        seal_secret: [81; 32],
        opening_secrets: Vec::new(),
    };
    let puppet = market.add_puppet(identity);
    let link = market.puppet_greets(puppet, stallmesh_node::link::Road::Mesh, 2);
    let request = &vectors("joining")["requests"][0];
    let mut request: payload::JoinRequest = payload::decode("join request", &bytes(request, "payload")).unwrap();
    request.expires += 1;
    let ask = wire::JoinAsk { request: payload::encode(&request) };
    market.puppet_send(puppet, link, Channel::Join, encode_join(join_frame::Body::Ask(ask)));
    market.until("its link ends", 5_000, |market| market.is_down(puppet, link));
    assert!(market.closed.last().unwrap().reason.contains("E_HASH"), "{:?}", market.closed.last());
    // A page whose predecessor's hash is another than its author's: no signature holds over that.
    let case = &vectors("pages")["accepted"][0];
    let log = LogName {
        author: case["author"].as_str().unwrap().parse().unwrap(),
        incarnation: case["incarnation"].as_str().unwrap().parse().unwrap(),
        lane: Lane(case["lane"].as_u64().unwrap() as u32),
    };
    let market: MarketId = vectors("pages")["market"].as_str().unwrap().parse().unwrap();
    let page = Page::decode(&bytes(case, "page")).unwrap();
    assert!(page.clone().verify(&log.id(&market), &log.author).is_ok());
    for entry in [0, page.entries.len() - 1] {
        let mut other = page.clone();
        other.entries[entry].timestamp += 1;
        assert!(other.verify(&log.id(&market), &log.author).is_err(), "an entry's hash is worked out, never believed");
    }
}

#[test]
fn adv_018_a_page_has_exactly_as_many_entries_as_it_says() {
    let case = &vectors("pages")["accepted"][0];
    let good = bytes(case, "page");
    let page = Page::decode(&good).unwrap();
    // Version, first, the hash before it (32), and then the count.
    let mut head = vec![good[0]];
    put_varint(&mut head, page.first);
    let at = head.len() + 32;
    let mut count = Vec::new();
    put_varint(&mut count, page.entries.len() as u64);
    assert_eq!(good[at..at + count.len()], count);
    for claimed in [0, 1, page.entries.len() as u64 - 1, page.entries.len() as u64 + 1, 1_000, 1_024, 1_025, u64::MAX] {
        let mut other = Vec::new();
        put_varint(&mut other, claimed);
        let lie = [&good[..at], &other, &good[at + count.len()..]].concat();
        assert!(Page::decode(&lie).is_err(), "{claimed} entries are claimed");
    }
}
