//! Who had a way to the hub, and when: from the hub's own log of its links, and from the cables.

use std::collections::BTreeMap;

/// A time in which something held: (from, to), milliseconds since 1970.
pub(super) type Span = (u64, u64);

/// The hub's links by the beginning of the device's key, from its log.
pub(super) fn hub_links(log: &str) -> BTreeMap<String, Vec<Span>> {
    let mut spans: BTreeMap<String, Vec<Span>> = BTreeMap::new();
    let mut open: BTreeMap<String, (usize, u64)> = BTreeMap::new();
    for line in log.lines() {
        let up = line.contains("link up peer=");
        if !up && !line.contains("link down peer=") {
            continue;
        }
        let Some(at) = line.split_whitespace().next().and_then(milliseconds) else { continue };
        let peer = line.split("peer=").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap_or_default();
        let (count, since) = open.entry(peer.to_owned()).or_insert((0, at));
        if up {
            if *count == 0 {
                *since = at;
            }
            *count += 1;
        } else {
            *count = count.saturating_sub(1);
            if *count == 0 {
                spans.entry(peer.to_owned()).or_default().push((*since, at));
            }
        }
    }
    for (peer, (_, since)) in open.into_iter().filter(|(_, (count, _))| *count > 0) {
        spans.entry(peer).or_default().push((since, u64::MAX));
    }
    spans
}

/// The times in which a node's way to the hub was plugged in.
pub(super) fn plugged(changes: &[(u64, bool)]) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut since = None;
    for (at, up) in changes {
        match (up, since) {
            (true, None) => since = Some(*at),
            (false, Some(from)) => {
                spans.push((from, *at));
                since = None;
            }
            _ => {}
        }
    }
    spans.extend(since.map(|from| (from, u64::MAX)));
    spans
}

/// Whether any of the times meets this one.
pub(super) fn meets(spans: &[Span], from: u64, to: u64) -> bool {
    spans.iter().any(|(begin, end)| *begin <= to && *end >= from)
}

/// `2026-11-25T16:12:54.123456Z` as milliseconds since 1970.
fn milliseconds(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut clock = clock.splitn(3, ':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let thousandths: String = fraction.chars().chain("000".chars()).take(3).collect();
    // Days since 1970 in the proleptic Gregorian calendar, counted from March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * month + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let seconds = u64::try_from(days).ok()? * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(seconds * 1_000 + thousandths.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hubs_log_says_who_had_a_link_and_when() {
        assert_eq!(milliseconds("1970-01-01T00:00:00.000001Z"), Some(0));
        assert_eq!(milliseconds("2024-02-29T12:34:56.789012Z"), Some(1_709_210_096_789));
        let log = "\
2024-02-29T12:34:56.000000Z DEBUG stallmesh_node::engine::links: link up peer=aa11 road=Uplink dialled=false address=10.78.0.2:1
2024-02-29T12:34:57.000000Z DEBUG stallmesh_node::engine::links: link up peer=aa11 road=Uplink dialled=false address=10.78.0.2:2
2024-02-29T12:34:58.000000Z DEBUG stallmesh_node::engine::links: link down peer=aa11 road=Uplink reason=\"timed out\"
2024-02-29T12:34:59.500000Z DEBUG stallmesh_node::engine::links: link down peer=aa11 road=Uplink reason=\"timed out\"
2024-02-29T12:35:00.000000Z DEBUG stallmesh_node::engine::links: link up peer=bb22 road=Uplink dialled=false address=10.78.0.3:1
";
        let links = hub_links(log);
        assert_eq!(links["aa11"], [(1_709_210_096_000, 1_709_210_099_500)]);
        assert_eq!(links["bb22"], [(1_709_210_100_000, u64::MAX)]);
    }

    #[test]
    fn a_way_that_was_there_at_any_time_between_is_a_way() {
        let spans = plugged(&[(10, true), (20, false), (30, true)]);
        assert_eq!(spans, [(10, 20), (30, u64::MAX)]);
        assert!(meets(&spans, 5, 10) && meets(&spans, 12, 13) && meets(&spans, 20, 25) && meets(&spans, 0, 99));
        assert!(!meets(&spans, 21, 29) && !meets(&spans, 0, 9));
        assert!(meets(&spans, 99, u64::MAX));
    }
}
