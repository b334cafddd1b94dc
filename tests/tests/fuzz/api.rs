//! What people and programs ask of a node, as JSON.

use serde::Deserialize;
use stallmesh_node::engine::{Answer, DelegateOrder, InviteOrder, PolicyView, ProductView, Request, SaleOrder};
use stallmesh_protocol::{DeviceId, SaleId};

use super::engine::{Running, ran};

targets! {
    sale_bodies(150, 2_048) |bytes| at_stall(bytes, |order: SaleOrder| Request::RecordSale(order));
    product_bodies(150, 2_048) |bytes| at_stall(bytes, |products: Vec<ProductView>| Request::PublishProducts(products));
    delegate_bodies(150, 1_024) |bytes| at_stall(bytes, |order: DelegateOrder| Request::Delegate(order));
    invite_bodies(150, 1_024) |bytes| at_hub(bytes, |order: InviteOrder| Request::CreateInvite(order));
    policy_bodies(150, 1_024) |bytes| at_hub(bytes, |view: PolicyView| Request::SetPolicy(view));
    other_requests(150, 512) other_check;
}

fn at_stall<T: for<'a> Deserialize<'a>>(bytes: &[u8], request: fn(T) -> Request) {
    if let Ok(body) = serde_json::from_slice(bytes) {
        asked(2, request(body));
    }
}

fn at_hub<T: for<'a> Deserialize<'a>>(bytes: &[u8], request: fn(T) -> Request) {
    if let Ok(body) = serde_json::from_slice(bytes) {
        asked(0, request(body));
    }
}

/// What a node answers: never a panic, a refusal leaves its logs as they were, and a sale adds up.
fn asked(node: usize, request: Request) {
    let ran = ran();
    let mut running = Running::start(&ran, node);
    let before = running.written();
    match running.ask(request.clone()) {
        Answer::Failed(failure) => {
            assert!(!failure.detail.is_empty(), "{failure:?}");
            assert_eq!(running.written(), before, "refused, and written all the same: {request:?}");
        }
        Answer::Sale(sale) => {
            assert_eq!(sale.tenders.iter().map(|tender| tender.amount).sum::<u64>(), sale.total, "{sale:?}");
            assert_eq!(running.ask(request), Answer::Sale(sale), "the same again is the same sale");
        }
        _ => {}
    }
    assert!(matches!(running.ask(Request::Status), Answer::Status(_)));
}

/// Requests that are mostly text.
fn other_check(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else { return };
    let text = String::from_utf8_lossy(rest).into_owned();
    let device = text.parse().unwrap_or(DeviceId::from_bytes([rest.first().copied().unwrap_or(0); 32]));
    let number = u64::from(rest.first().copied().unwrap_or(0)) << rest.get(1).map_or(0, |shift| shift % 57);
    let request = match kind % 16 {
        0 => Request::Join { invite: text, name: "x".into() },
        1 => Request::AskToJoin { market: text.clone(), name: text.clone(), stall: text },
        2 => Request::Approve { code: text, valid_ms: number },
        3 => Request::Revoke { device, reason: text },
        4 => Request::Erase { subject: text },
        5 => Request::Readmit { device },
        6 => Request::Raise { device },
        7 => Request::Catalog { stall: Some(text.clone()), query: text, after: None, limit: number as usize },
        8 => Request::Export { cursor: rest.to_vec() },
        9 => Request::LogShow { author: Some(device), lane: Some(text), before: None, limit: number as usize },
        10 => Request::AddPeer { address: text },
        11 => Request::SetPower { battery: number as u32, metered: true },
        12 => Request::Sales { limit: number as usize, before: text.parse::<SaleId>().ok() },
        13 => Request::Settle { dry_run: number.is_multiple_of(2) },
        14 => Request::Sale(text.parse().unwrap_or(SaleId::from_bytes([0; 16]))),
        _ => Request::JoinRequests,
    };
    for node in [0, 2, 5] {
        asked(node, request.clone());
    }
}
