//! Answering what a peer says of runs of logs: with less to say each time, until both know.

use super::clock::{Item, Lanes, hash_head, hash_name};
use super::compare::Comparison;
use super::runs::{self, Bound, HASH_BYTES, More, Run, Runs, Told};
use super::{Holdings, Replica, SessionId};
use crate::hash::{Domain, Hasher};
use crate::id::LogName;

/// A run that differs is parted into so many.
const PARTS: usize = 16;
/// A run of at most so many logs is named instead, and of so many where names differ, too.
const LEAF: usize = 32;
const LEAF_BY_NAME: usize = 8;
/// Logs that are told of in one run.
const LIST_MAX: usize = 512;

impl Comparison {
    fn fingerprints(&self, items: &[Item]) -> ([u8; 6], [u8; 4]) {
        let keyed = || Hasher::keyed(&self.key, Domain::Fingerprint);
        let heads = items.iter().fold(keyed(), |hasher, item| hash_head(hash_name(hasher, &item.log), &item.head));
        let mut fingerprint = [0; 6];
        fingerprint.copy_from_slice(&heads.finish().as_bytes()[..6]);
        (fingerprint, self.names(items))
    }

    fn names(&self, items: &[Item]) -> [u8; 4] {
        let keyed = Hasher::keyed(&self.key, Domain::Fingerprint);
        let names = items.iter().fold(keyed, |hasher, item| hash_name(hasher, &item.log)).finish();
        let mut fingerprint = [0; 4];
        fingerprint.copy_from_slice(&names.as_bytes()[..4]);
        fingerprint
    }

    /// All of a run, or, where it is long, of the runs that it is cut into.
    pub(super) fn listed(&self, items: &[Item], end: &Bound, ask: bool, in_order: bool) -> Vec<(Bound, Run)> {
        let run = |items: &[Item]| {
            if in_order {
                let logs = items.iter().map(|item| runs::told(&item.head)).collect();
                Run::InOrder { ask, names: self.names(items), logs }
            } else {
                Run::ByName { ask, logs: items.iter().map(|item| (item.log, runs::told(&item.head))).collect() }
            }
        };
        cut(items, end, LIST_MAX).into_iter().map(|(end, items)| (end, run(items))).collect()
    }

    pub(super) fn parted(&self, items: &[Item], end: &Bound, size: usize) -> Vec<(Bound, Run)> {
        let run = |items: &[Item]| {
            let (heads, names) = self.fingerprints(items);
            Run::Fingerprint { heads, names }
        };
        cut(items, end, size).into_iter().map(|(end, items)| (end, run(items))).collect()
    }
}

/// Cuts a run into runs of `size` logs. One author's stay together as far as that goes: a bound between two authors takes
/// few bytes.
fn cut<'a>(items: &'a [Item], end: &Bound, size: usize) -> Vec<(Bound, &'a [Item])> {
    let mut cuts = Vec::new();
    let mut rest = items;
    while rest.len() > size.max(1) {
        let same = |at: &usize| rest[*at - 1].log.author == rest[*at].log.author;
        let at = size.max(1);
        let at = at + (at..(2 * at).min(rest.len())).take_while(same).count();
        if at >= rest.len() {
            break;
        }
        let (run, next) = rest.split_at(at);
        cuts.push((Bound::between(&run[at - 1].log, &next[0].log), run));
        rest = next;
    }
    cuts.push((end.clone(), rest));
    cuts
}

impl Replica {
    /// Takes in what a peer says of its logs; gives the answer, and logs of which it has more.
    pub(super) fn answer_runs(
        &mut self,
        session: SessionId,
        lanes: Lanes,
        since: u64,
        message: &Runs,
        holdings: &dyn Holdings,
    ) -> (Vec<(Bound, Run)>, Vec<LogName>) {
        let (mut answer, mut touched) = (Vec::new(), Vec::new());
        let mut at = message.from.clone();
        let mut runs: Vec<(Vec<Item>, &Bound, &Run)> = Vec::with_capacity(message.runs.len());
        for (end, run) in &message.runs {
            let items =
                if *run == Run::Same { Vec::new() } else { self.clock.items(lanes, since, at.first(), end.end()) };
            runs.push((items, end, run));
            at = end.clone();
        }
        let Some(state) = self.sessions.get(&session) else { return (answer, touched) };
        // Where most differs, finer fingerprints would only be said on top.
        let (mut same, mut differing) = (0, 0);
        for (items, _, run) in &runs {
            if let Run::Fingerprint { heads, .. } = run {
                if state.comparison.fingerprints(items).0 == *heads { same += 1 } else { differing += 1 }
            }
        }
        for (items, end, run) in runs {
            let Some(state) = self.sessions.get(&session) else { break };
            let comparison = &state.comparison;
            match run {
                Run::Same => answer.push((end.clone(), Run::Same)),
                Run::Fingerprint { heads, names } => {
                    let own = comparison.fingerprints(&items);
                    let in_order = own.1 == *names;
                    let leaf = match (in_order, differing > same) {
                        (true, true) => LIST_MAX,
                        (true, false) => LEAF,
                        (false, _) => LEAF_BY_NAME,
                    };
                    if own.0 == *heads {
                        answer.push((end.clone(), Run::Same));
                    } else if items.len() <= leaf {
                        answer.extend(comparison.listed(&items, end, true, in_order));
                    } else {
                        answer.extend(comparison.parted(&items, end, items.len().div_ceil(PARTS)));
                    }
                }
                Run::InOrder { ask, names, logs } => {
                    if comparison.names(&items) != *names || logs.len() != items.len() {
                        answer.extend(comparison.listed(&items, end, true, false));
                        continue;
                    }
                    let mut more = Vec::new();
                    for (place, (item, told)) in items.iter().zip(logs).enumerate() {
                        self.absorb(session, item.log, told, message.prefix, holdings, &mut touched);
                        if has_more(item, told, message.prefix) {
                            let entries = item.head.sequence - told.sequence;
                            let hash = if entries == 0 { item.head.hash.prefix() } else { [0; HASH_BYTES] };
                            more.push(More { place, entries, hash });
                        }
                    }
                    let silent = more.is_empty() || !ask;
                    let run = if silent { Run::Same } else { Run::MoreInOrder { names: *names, logs: more } };
                    answer.push((end.clone(), run));
                }
                Run::ByName { ask, logs } => {
                    let mut more = Vec::new();
                    for (log, told) in logs.iter().filter(|(log, _)| lanes.contains(log.lane)) {
                        self.absorb(session, *log, told, message.prefix, holdings, &mut touched);
                    }
                    for item in &items {
                        let told = logs.binary_search_by(|(log, _)| log.cmp(&item.log)).ok().map(|at| logs[at].1);
                        if told.is_none() {
                            self.note_lack(session, item.log);
                        }
                        if told.is_none_or(|told| has_more(item, &told, message.prefix)) {
                            more.push((item.log, runs::told(&item.head)));
                        }
                    }
                    let silent = more.is_empty() || !ask;
                    let more = if silent { Vec::new() } else { more };
                    answer.extend(more_by_name(more, end));
                }
                Run::MoreInOrder { names, logs } => {
                    // The next run begins where this one ends, also where there is nothing to say of it.
                    answer.push((end.clone(), Run::Same));
                    if comparison.names(&items) != *names {
                        continue;
                    }
                    for more in logs {
                        let Some(item) = items.get(more.place) else { continue };
                        let sequence = item.head.sequence.saturating_add(more.entries);
                        let told = Told { sequence, hash: more.hash };
                        let prefix = if more.entries == 0 { HASH_BYTES } else { 0 };
                        self.absorb(session, item.log, &told, prefix, holdings, &mut touched);
                    }
                }
                Run::MoreByName { logs } => {
                    answer.push((end.clone(), Run::Same));
                    for (log, told) in logs.iter().filter(|(log, _)| lanes.contains(log.lane)) {
                        self.absorb(session, *log, told, message.prefix, holdings, &mut touched);
                    }
                }
            }
        }
        (answer, touched)
    }

    /// A peer has this of a log.
    pub(super) fn absorb(
        &mut self,
        session: SessionId,
        log: LogName,
        told: &Told,
        prefix: usize,
        holdings: &dyn Holdings,
        touched: &mut Vec<LogName>,
    ) {
        if !log.lane.is_kept_by_all() {
            return;
        }
        if let Some(state) = self.sessions.get_mut(&session) {
            state.theirs.set(log, told.sequence, &self.clock, self.limits.told_max);
        }
        self.suspect_fork(session, log, told.sequence, &told.hash[..prefix.min(HASH_BYTES)], holdings);
        touched.push(log);
    }

    fn note_lack(&mut self, session: SessionId, log: LogName) {
        if let Some(state) = self.sessions.get_mut(&session) {
            state.theirs.set(log, 0, &self.clock, self.limits.told_max);
        }
    }
}

/// Whether an own log has something that a peer, which has that, lacks.
fn has_more(own: &Item, told: &Told, prefix: usize) -> bool {
    let prefix = prefix.min(HASH_BYTES);
    own.head.sequence > told.sequence
        || (own.head.sequence == told.sequence && own.head.hash.prefix()[..prefix] != told.hash[..prefix])
}

/// In as many runs as it takes.
fn more_by_name(logs: Vec<(LogName, Told)>, end: &Bound) -> Vec<(Bound, Run)> {
    if logs.is_empty() {
        return vec![(end.clone(), Run::Same)];
    }
    let chunks: Vec<&[(LogName, Told)]> = logs.chunks(LIST_MAX).collect();
    let ends = chunks.windows(2).map(|pair| match (pair[0].last(), pair[1].first()) {
        (Some((last, _)), Some((next, _))) => Bound::between(last, next),
        _ => end.clone(),
    });
    let ends: Vec<Bound> = ends.chain([end.clone()]).collect();
    ends.into_iter().zip(chunks).map(|(end, logs)| (end, Run::MoreByName { logs: logs.to_vec() })).collect()
}
