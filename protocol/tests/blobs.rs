//! Blobs that nobody has, or one peer alone.
#![allow(missing_docs, clippy::unwrap_used)]

use prost::Message;
use stallmesh_protocol::hash::{Domain, hash};
use stallmesh_protocol::replica::{Holdings, Limits, Output, Replica, SessionId};
use stallmesh_protocol::wire::{self, frame::Body};
use stallmesh_protocol::{DeviceId, Hash, Incarnation, LogName, MarketId};

const HOUR: u64 = 3_600_000;

struct Blobs(Vec<Vec<u8>>);

impl Holdings for Blobs {
    fn page(&self, _: &LogName, _: u64, _: u64, _: usize) -> Option<(Vec<u8>, u64)> {
        None
    }

    fn hash_at(&self, _: &LogName, _: u64) -> Option<Hash> {
        None
    }

    fn blob(&self, wanted: &Hash) -> Option<Vec<u8>> {
        self.0.iter().find(|bytes| hash(Domain::Blob, bytes) == *wanted).cloned()
    }
}

/// One node and its neighbours, each on a session of its own number, with what they hold.
struct Star {
    centre: Replica,
    around: Vec<(Replica, Blobs)>,
    asked: usize,
    got: Vec<Hash>,
}

impl Star {
    fn new(neighbours: usize) -> Self {
        let market = MarketId::from_bytes([7; 32]);
        let node = |number: usize| {
            let incarnation = Incarnation::from_bytes([u8::try_from(number).unwrap(); 16]);
            Replica::new(market, incarnation, Limits::default())
        };
        let around = (0..neighbours).map(|number| (node(number + 1), Blobs(Vec::new()))).collect();
        Star { centre: node(0), around, asked: 0, got: Vec::new() }
    }

    fn link(&mut self, neighbour: usize, now: u64) {
        let (session, nonce) = (SessionId(neighbour as u64), [neighbour as u8; 16]);
        let peer = |number: usize| DeviceId::from_bytes([number as u8; 32]);
        self.centre.open_session(session, peer(neighbour + 1), false, nonce, now);
        self.around[neighbour].0.open_session(session, peer(0), false, [99; 16], now);
        self.talk(now);
    }

    fn talk(&mut self, now: u64) {
        loop {
            let mut quiet = true;
            while let Some(output) = self.centre.poll_output() {
                match output {
                    Output::Send { session, channel, frame } => {
                        quiet = false;
                        let body = wire::Frame::decode(frame.as_slice()).unwrap().body;
                        self.asked += usize::from(matches!(body, Some(Body::WantBlob(_))));
                        let (peer, blobs) = &mut self.around[session.0 as usize];
                        peer.handle_frame(session, &frame, now, blobs);
                        self.centre.handle_sent(session, channel, frame.len(), &Blobs(Vec::new()));
                    }
                    Output::Blob { hash, .. } => self.got.push(hash),
                    _ => {}
                }
            }
            for number in 0..self.around.len() {
                while let Some(output) = self.around[number].0.poll_output() {
                    if let Output::Send { session, channel, frame } = output {
                        quiet = false;
                        self.centre.handle_frame(session, &frame, now, &Blobs(Vec::new()));
                        let (peer, blobs) = &mut self.around[number];
                        peer.handle_sent(session, channel, frame.len(), blobs);
                    }
                }
            }
            if quiet {
                return;
            }
        }
    }

    /// Lets time pass at the node in the middle.
    fn run(&mut self, from: u64, to: u64) {
        let mut now = from;
        while let Some(next) = self.centre.poll_timeout().filter(|next| *next <= to) {
            now = now.max(next);
            self.centre.handle_timeout(now, &Blobs(Vec::new()));
            self.talk(now);
        }
    }
}

#[test]
fn what_nobody_has_is_asked_for_less_and_less_often() {
    let mut star = Star::new(8);
    (0..8).for_each(|neighbour| star.link(neighbour, 0));
    star.centre.want_blob(hash(Domain::Blob, b"lost"), 0);
    star.run(0, HOUR);
    // Ten rounds in the first four minutes, and then one in less than two.
    assert!((8 * 20..8 * 60).contains(&star.asked), "asked {} times", star.asked);
}

#[test]
fn a_newcomer_is_asked_at_once_for_what_nobody_else_has() {
    let mut star = Star::new(3);
    let wanted = hash(Domain::Blob, b"rare");
    star.around[2].1.0.push(b"rare".to_vec());
    (0..2).for_each(|neighbour| star.link(neighbour, 0));
    star.centre.want_blob(wanted, 0);
    star.run(0, HOUR);
    assert_eq!(star.got, []);
    star.link(2, HOUR);
    assert_eq!(star.got, [wanted]);
}
