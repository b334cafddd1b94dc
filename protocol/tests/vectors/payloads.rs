use serde_json::{Value, json};
use stallmesh_protocol::payload::{self, decode, encode};
use stallmesh_protocol::{Kind, SaleId};

use super::{HELPER, HUB, MORNING, OWNER, ROOT, code, key};

fn device(who: u8) -> Vec<u8> {
    key(who).id().as_bytes().to_vec()
}

fn head(incarnation: u8, lane: u32, sequence: u64) -> payload::LogHead {
    payload::LogHead { incarnation: vec![incarnation; 16], lane, sequence, hash: vec![sequence as u8; 32] }
}

fn position(sequence: u64) -> payload::LogPosition {
    payload::LogPosition {
        author: device(OWNER),
        incarnation: vec![0xa3; 16],
        lane: 5,
        sequence,
        hash: vec![sequence as u8; 32],
    }
}

fn wrap(recipient: u8) -> payload::Wrap {
    payload::Wrap { recipient: vec![recipient; 32], encapsulated: vec![0x10; 32], ciphertext: vec![0x20; 48] }
}

/// A sale of two lines, a fee, and cash rounding, paid in two ways.
pub(crate) fn sale() -> payload::Sale {
    let tax = |base, amount| payload::SaleTax { name: "standard".into(), rate: "20".into(), base, amount };
    payload::Sale {
        sale: SaleId::derive("river-ceramics", "till-1/4711").as_bytes().to_vec(),
        receipt: 1,
        currency: "EUR".into(),
        lines: vec![
            payload::SaleLine {
                sku: "MUG".into(),
                name: "Mug, blue".into(),
                quantity: "2".into(),
                unit_price: 1_200,
                gross: 2_400,
                reductions: vec![payload::SaleReduction {
                    promotion: "early".into(),
                    name: "Early bird".into(),
                    amount: 400,
                    why: "before ten".into(),
                    entry: vec![5; 8],
                }],
                net: 2_000,
                taxes: vec![tax(1_667, 333)],
                total: 2_000,
            },
            payload::SaleLine {
                sku: "CLAY".into(),
                name: "Clay by weight".into(),
                quantity: "0.355".into(),
                unit_price: 990,
                gross: 351,
                net: 351,
                total: 351,
                ..Default::default()
            },
        ],
        fees: vec![payload::SaleFee {
            promotion: "bag".into(),
            name: "Bag".into(),
            amount: 10,
            taxes: vec![tax(8, 2)],
            total: 10,
        }],
        subtotal: 2_751,
        reduction: 400,
        fee: 10,
        tax: 335,
        cash_rounding: -1,
        total: 2_360,
        tenders: vec![
            payload::Tender { kind: 1, amount: 360, given: 500, ..Default::default() },
            payload::Tender {
                kind: 2,
                amount: 2_000,
                token: "tok_visa_4242".into(),
                fingerprint: vec![7; 16],
                authorised: 2,
                reference: "A1".into(),
                tip: 150,
                number: 1,
                market_bears: true,
                ..Default::default()
            },
        ],
        catalog_version: vec![1; 8],
        relies_on: vec![position(3)],
        refundable_until: MORNING,
        policy_version: vec![2; 8],
        ..Default::default()
    }
}

macro_rules! case {
    ($kind:expr, $what:literal, $message:expr) => {{
        let message = $message;
        let bytes = encode(&message);
        assert_eq!(decode($what, &bytes), Ok(message));
        json!({ "kind": $kind.0, "message": $what, "payload": hex::encode(bytes) })
    }};
}

pub(crate) fn make() -> Value {
    json!({
        "about": "One payload of every kind that has a message, and encodings that their values don't have.",
        "accepted": accepted(),
        "refused": refused(),
    })
}

fn accepted() -> Vec<Value> {
    let product = payload::Product {
        sku: "MUG".into(),
        name: "Mug, blue".into(),
        price: 1_200,
        taxes: vec!["standard".into()],
        categories: vec!["ceramics".into(), "gifts".into()],
        barcodes: vec!["4006381333931".into()],
        stock: "12".into(),
        pictures: vec![payload::Picture { blob: vec![3; 32], length: 20_000 }],
        ..Default::default()
    };
    let interval = payload::InputInterval { from: 1, to: 9, hash: vec![9; 32] };
    let input =
        payload::InputLog { author: device(OWNER), incarnation: vec![0xa3; 16], lane: 5, intervals: vec![interval] };
    vec![
        case!(Kind::OPENING, "Opening", payload::Opening::default()),
        case!(Kind::OPENING, "Opening", payload::Opening { parents: vec![head(1, 3, 7), head(1, 5, 40)] }),
        case!(Kind::LOW_MARK, "LowMark", payload::LowMark { incarnation: vec![1; 16], lane: 4, sequence: 300 }),
        case!(Kind::KEY, "DayKey", payload::DayKey { commitment: vec![1; 32], wraps: vec![wrap(HUB), wrap(OWNER)] }),
        case!(
            Kind::MARKET,
            "Market",
            payload::Market {
                name: "Saturday".into(),
                currency: "EUR".into(),
                epoch: 1,
                recovery_key: vec![ROOT; 32],
                replaces: vec![vec![1; 32]],
            }
        ),
        case!(
            Kind::POLICY,
            "Policy",
            payload::Policy {
                fee_rate: "5".into(),
                prices_include_tax: true,
                tax_rates: vec![payload::TaxRate {
                    name: "standard".into(),
                    rate: "20".into(),
                    on: vec!["sugar".into()],
                }],
                carriers: 3,
                card_floor_limit: 5_000,
                cash_rounding: 5,
                tax_rounding: 1,
                time_zone: "Europe/Paris".into(),
                ..Default::default()
            }
        ),
        case!(
            Kind::OPENING_KEY,
            "OpeningKey",
            payload::OpeningKey { public_key: vec![2; 32], recovery: Some(wrap(ROOT)) }
        ),
        case!(
            Kind::STALL_KEY,
            "StallKey",
            payload::StallKey {
                stall: "river-ceramics".into(),
                day: 20_610,
                public_key: vec![3; 32],
                wraps: vec![wrap(OWNER), wrap(HELPER)],
            }
        ),
        case!(
            Kind::JOIN_CHALLENGE,
            "JoinChallenge",
            payload::JoinChallenge { request: vec![1; 32], nonce: vec![2; 16] }
        ),
        case!(Kind::JOIN_REFUSAL, "JoinRefusal", payload::JoinRefusal { request: vec![1; 32], reason: "no".into() }),
        case!(
            Kind::SETTLEMENT,
            "Settlement",
            payload::Settlement {
                number: 1,
                closing: vec![1; 32],
                digest: vec![2; 32],
                statements: vec![payload::StatementBlob {
                    stall: "river-ceramics".into(),
                    blob: vec![3; 32],
                    length: 900,
                }],
            }
        ),
        case!(Kind::ERASURE, "Erasure", payload::Erasure { entry: Some(position(4)) }),
        case!(Kind::SUCCESSION, "Succession", payload::Succession { hub: device(OWNER), burned: vec![device(HUB)] }),
        case!(Kind::RESTORATION, "Restoration", payload::Restoration { until: 1_780_000_000_000 }),
        case!(
            Kind::PRODUCTS,
            "Products",
            payload::Products {
                products: vec![product],
                replaces: vec![vec![1; 32], vec![2; 32]],
                ..Default::default()
            }
        ),
        case!(
            Kind::PROMOTIONS,
            "Promotions",
            payload::Promotions {
                promotions: vec![
                    payload::Promotion {
                        id: "RAIN".into(),
                        terms: r#"{"effect":{"percentage":"10"},"id":"RAIN","name":"Rainy day"}"#.into(),
                        borne_by_market: "50".into(),
                        ..Default::default()
                    },
                    payload::Promotion { id: "SUN".into(), withdrawn: true, ..Default::default() },
                ],
                replaces: vec![vec![1; 32]],
            }
        ),
        case!(
            Kind::CONDITIONS,
            "Conditions",
            payload::Conditions {
                conditions: vec![payload::Condition {
                    name: "rain_mm".into(),
                    value: "3.2".into(),
                    expires_at: 1_780_000_000_000,
                }],
            }
        ),
        case!(
            Kind::SIGNALS,
            "Signals",
            payload::Signals {
                signals: vec![
                    payload::Signal {
                        fact: 1,
                        subject: vec![7; 16],
                        first: 1_250,
                        expires_at: 1_780_000_000_000,
                        ..Default::default()
                    },
                    payload::Signal {
                        fact: 5,
                        subject: vec![8; 16],
                        first: -720_000,
                        expires_at: 1_780_000_000_000,
                        ..Default::default()
                    },
                    payload::Signal {
                        fact: 8,
                        subject: vec![7; 16],
                        expires_at: 1_780_000_000_000,
                        rule: vec![9; 16],
                        ..Default::default()
                    },
                ],
            }
        ),
        case!(
            Kind::CHECKOUT_RULES,
            "CheckoutRules",
            payload::CheckoutRules {
                replaces: vec![vec![4; 32]],
                fraud: r#"{"rules":[]}"#.into(),
                risk: r#"{"borne_by":"stall"}"#.into(),
                fingerprint_key: vec![6; 32],
            }
        ),
        case!(Kind::SALE, "Sale", sale()),
        case!(
            Kind::SALE,
            "SalePersonal",
            payload::SalePersonal { operator: "Ada".into(), note: "gift".into(), ..Default::default() }
        ),
        case!(
            Kind::PAYMENT_INTENT,
            "PaymentIntent",
            payload::PaymentIntent {
                sale: vec![2; 16],
                number: 1,
                amount: 1_250,
                currency: "EUR".into(),
                token: "tok_1".into(),
                fingerprint: vec![7; 16],
                answer_key: vec![8; 32],
            }
        ),
        case!(Kind::PAYMENT_VOID, "PaymentVoid", payload::PaymentVoid { sale: vec![2; 16], number: 1 }),
        case!(
            Kind::PAYMENT_OUTCOME,
            "PaymentOutcome",
            payload::PaymentOutcome { intent: vec![9; 16], sealed: vec![1; 96] }
        ),
        case!(
            Kind::PAYMENT_OUTCOME,
            "PaymentAnswer",
            payload::PaymentAnswer {
                answer: 1,
                amount: 1_000,
                reference: "auth_1".into(),
                because: "the bank approved less".into(),
            }
        ),
        case!(Kind::CLOSING_INPUT, "ClosingInput", payload::ClosingInput { number: 1, logs: vec![input] }),
        case!(Kind::STANDING, "Standing", payload::Standing { leaves: vec![vec![1; 300], vec![2; 300]] }),
        case!(
            Kind::CLOSING,
            "Closing",
            payload::Closing {
                number: 1,
                checkpoint: vec![1; 32],
                function: 1,
                inputs: 1,
                inputs_hash: vec![2; 32],
                digest: vec![3; 32],
                ..Default::default()
            }
        ),
        case!(
            Kind::PRODUCTS,
            "Products",
            payload::Products {
                products: vec![payload::Product {
                    sku: "TEA".into(),
                    name: "Tea".into(),
                    price: 300,
                    stock: "-1.5".into(),
                    counted_at: 1_780_000_000_000,
                    ..Default::default()
                }],
                stock_changes: vec![
                    payload::StockChange { sku: "MUG".into(), change: "24".into() },
                    payload::StockChange { sku: "TEA".into(), change: "-0.5".into() },
                ],
                ..Default::default()
            }
        ),
    ]
}

fn refused() -> Vec<Value> {
    let opening = encode(&payload::Opening { parents: vec![head(1, 3, 7)] });
    let mark = encode(&payload::LowMark { incarnation: vec![1; 16], lane: 4, sequence: 300 });
    let policy = encode(&payload::Policy { prices_include_tax: true, ..Default::default() });
    let twice = encode(&payload::Erasure { entry: Some(position(4)) });
    let with = |bytes: &[u8], more: &[u8]| [bytes, more].concat();
    let mut cut = opening.clone();
    cut.pop();
    let cases: Vec<(&str, u32, Vec<u8>)> = vec![
        ("cut", 1, cut),
        ("an unknown field", 1, with(&opening, &[0x10, 1])),
        ("a default that is said", 2, with(&mark[..20], &[0x18, 0])),
        ("fields out of order", 2, with(&mark[18..], &mark[..18])),
        ("a field twice", 2, with(&mark, &[0x18, 0xac, 0x02])),
        ("an integer that is not minimal", 2, with(&mark[..20], &[0x18, 0xac, 0x82, 0x00])),
        ("a number above 32 bits", 2, with(&mark[..18], &[0x10, 0x84, 0x80, 0x80, 0x80, 0x10, 0x18, 0xac, 0x02])),
        ("a truth of 2", 21, {
            let mut bytes = policy;
            bytes[1] = 2;
            bytes
        }),
        ("a message in two pieces", 27, with(&twice, &twice)),
        ("text that is not UTF-8", 25, vec![0x12, 1, 0xff]),
        ("another wire type", 2, vec![0x0d, 1, 2, 3, 4]),
        ("a group", 2, vec![0x0b, 0x0c]),
        ("a length beyond the end", 1, vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]),
        ("field 0", 1, vec![0x02, 0]),
    ];
    cases
        .into_iter()
        .map(|(why, kind, bytes)| {
            let error = match kind {
                1 => decode::<payload::Opening>("opening", &bytes).map(drop),
                2 => decode::<payload::LowMark>("low mark", &bytes).map(drop),
                21 => decode::<payload::Policy>("policy", &bytes).map(drop),
                25 => decode::<payload::JoinRefusal>("join refusal", &bytes).map(drop),
                _ => decode::<payload::Erasure>("erasure", &bytes).map(drop),
            }
            .map_or_else(|error| error, |()| panic!("{why} was accepted"));
            json!({ "why": why, "kind": kind, "payload": hex::encode(bytes), "code": code(error) })
        })
        .collect()
}
