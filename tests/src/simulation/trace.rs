//! What happened in a run: a hash of all of it, which two runs of one seed must share, and the last of it for people.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

use stallmesh_node::engine::Input;
use stallmesh_node::link::LinkEvent;

/// How many of the last events are kept.
const KEPT: usize = 4_000;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// A process began.
    Start,
    /// A process ended without a word.
    Kill,
    /// A link came up.
    Up,
    /// A link ended.
    Down(String),
    /// A dial came to nothing.
    Unreachable,
    /// A frame of so many bytes arrived.
    Frame(usize),
    /// Something else about the network.
    Network,
    /// A gateway or a card reader answered about a payment.
    Gateway(String),
    /// Somebody asked for something.
    Request(String),
    /// Something that the story says.
    Story(String),
}

/// A running hash and the newest events.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    hasher: DefaultHasher,
    last: VecDeque<(u64, usize, What)>,
}

impl Trace {
    /// Takes in an event at a node.
    pub fn note(&mut self, at: u64, node: usize, what: What) {
        (at, node, &what).hash(&mut self.hasher);
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back((at, node, what));
    }

    pub(super) fn input(&mut self, at: u64, node: usize, input: &Input) {
        let what = match input {
            // Far too many to be kept; they still count.
            Input::Tick => return (at, node).hash(&mut self.hasher),
            Input::Link(LinkEvent::Sent { bytes, .. }) => return (at, node, bytes).hash(&mut self.hasher),
            Input::Link(LinkEvent::Frame { frame, .. }) => {
                frame.hash(&mut self.hasher);
                What::Frame(frame.len())
            }
            Input::Link(LinkEvent::Up { .. }) => What::Up,
            Input::Link(LinkEvent::Down { reason, .. }) => What::Down(reason.clone()),
            Input::Link(LinkEvent::DialFailed { .. }) => What::Unreachable,
            Input::Link(_) => What::Network,
            Input::Gateway(reply) => What::Gateway(reply.payment.clone()),
            Input::Reader(reply) => What::Gateway(reply.payment.clone()),
            Input::Request(_, request) => {
                let text = format!("{request:?}");
                What::Request(text.chars().take(80).collect())
            }
        };
        self.note(at, node, what);
    }

    /// The hash of all that has happened.
    pub fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    /// The newest events that aren't frames, oldest first, as lines.
    pub fn last(&self, count: usize) -> Vec<String> {
        let told = self.last.iter().filter(|(_, _, what)| !matches!(what, What::Frame(_)));
        let lines: Vec<String> = told.map(|(at, node, what)| format!("{at:>10} ms  node {node:<3} {what:?}")).collect();
        lines[lines.len().saturating_sub(count)..].to_vec()
    }
}
