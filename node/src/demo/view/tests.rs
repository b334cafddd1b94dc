#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use serde_json::json;

use super::*;

fn status(device: &str, role: &str, sales: [u64; 4], peers: &[(&str, &str)]) -> Value {
    let peers: Vec<Value> = peers.iter().map(|(device, link)| json!({ "device": device, "link": link })).collect();
    json!({
        "device": device, "role": role, "peers": peers, "uplink": { "up": peers.iter().any(|peer| peer["link"] == "uplink") },
        "sales": { "recorded": sales.iter().sum::<u64>(), "copied": sales[1], "at_the_hub": sales[2], "settled": sales[3] },
        "custody": { "held_entries": 7 }, "checkpoint": 3,
    })
}

fn market(stalls: usize) -> (State, BTreeMap<usize, Value>) {
    let board = Board::new(false);
    board.set_network("namespaces");
    board.set_dashboard("http://127.0.0.1:1/?token=x");
    let mut statuses = BTreeMap::new();
    for index in 0..stalls + 2 {
        let (name, role) = match index {
            0 => ("hub".to_owned(), "hub"),
            1 => ("gateway".to_owned(), "gateway"),
            _ => (format!("stall-{}", index - 1), "stall"),
        };
        board.seat(&name, if index > 1 { "a-stall-with-a-long-name" } else { "" }, PathBuf::new());
        board.set_running(index, true, "");
        let peers: &[(&str, &str)] = if index == 1 { &[("d0", "uplink"), ("d2", "mesh")] } else { &[] };
        statuses.insert(index, status(&format!("d{index}"), role, [1, 2, 3, 4], peers));
    }
    board.begin(2);
    board.say("a proof that is long enough to be wrapped on any terminal that is not very wide, and says so at length");
    (board.snapshot(), statuses)
}

#[test]
fn the_picture_fits_every_terminal_and_has_no_colours_where_none_are_wanted() {
    for stalls in [2, 8, 30] {
        let (state, statuses) = market(stalls);
        for (width, height) in [(200, 60), (80, 24), (40, 12), (20, 5), (1, 1), (0, 0)] {
            let frame = compose(&state, &statuses, width, height, false);
            assert!(frame.len() <= height, "{width}x{height}: {} lines", frame.len());
            for line in &frame {
                assert!(line.chars().count() <= width, "{width}x{height}: {line}");
                assert!(!line.contains('\x1b'), "{line}");
            }
            let coloured = compose(&state, &statuses, width, height, true);
            assert_eq!(coloured.len(), frame.len());
        }
    }
}

#[test]
fn links_and_the_places_of_sales_are_shown() {
    let (state, statuses) = market(3);
    let frame = compose(&state, &statuses, 120, 40, false);
    let gateway = frame.iter().find(|line| line.contains("gateway")).unwrap();
    assert!(gateway.contains("▲\\●") && gateway.contains("up") && gateway.contains("carries 7"), "{gateway}");
    let stall = frame.iter().find(|line| line.contains("stall-1")).unwrap();
    let count = |glyph: char| stall.chars().filter(|character| *character == glyph).count();
    assert!(count('█') > count('▓') && count('▓') > count('▒') && count('▒') > count('░'), "{stall}");
    assert!(count('░') > 0 && stall.contains("10"), "{stall}");
    assert!(frame[1].contains("▸ Sell"), "{}", frame[1]);
    assert!(frame.last().unwrap().contains("http://127.0.0.1:1/"));
}

#[test]
fn what_a_node_says_can_not_write_to_the_terminal() {
    let (state, mut statuses) = market(2);
    statuses.insert(2, json!({ "device": "d2", "role": "\x1b[2J", "peers": "\x1b[2J" }));
    let frame = compose(&state, &statuses, 80, 24, false);
    assert!(frame.iter().all(|line| !line.contains('\x1b')));
}
