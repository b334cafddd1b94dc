//! Members that lie, and strangers: what they send.

use stallmesh_node::engine::Identity;
use stallmesh_node::link::{Channel, LinkId, Road};
use stallmesh_node::quote::canonical;
use stallmesh_node::quote::files::PromotionFile;
use stallmesh_node::store::{Direction, Store, Table};
use stallmesh_protocol::acknowledgement::Acknowledgement;
use stallmesh_protocol::certificate::{Certificate, Role, Scope, Scopes};
use stallmesh_protocol::checkpoint::Checkpoint;
use stallmesh_protocol::codec::Reader;
use stallmesh_protocol::entry::Part;
use stallmesh_protocol::hash::{Domain, hash};
use stallmesh_protocol::interval::Interval;
use stallmesh_protocol::page::take_entry;
use stallmesh_protocol::payload::{self, encode as encode_payload};
use stallmesh_protocol::replica::unpack;
use stallmesh_protocol::sign::DeviceKey;
use stallmesh_protocol::wire::{self, frame::Body};
use stallmesh_protocol::{DeviceId, Hash, Incarnation, Kind as EntryKind, Lane, LogName};

use super::Day;
use super::dice::Dice;
use super::fault::Kind;
use crate::simulation::hostile::{encode, forged_log, written_log};
use crate::simulation::{Disk, entry_key};

/// Times that somebody who floods sends each frame.
const FLOOD: usize = 20;
/// Frames that somebody who replays has ready.
const REPLAYED: usize = 50;

/// An entry as it is signed: time, seen checkpoint, kind, payload.
type Written = (u64, [u8; 8], EntryKind, Vec<u8>);

impl Day {
    pub(super) fn corrupt(&mut self, kind: Kind, device: usize, mut dice: Dice) {
        self.truth.devices[device].dishonest = true;
        let id = self.simulation.nodes[device].id();
        self.simulation.witness.release(&id);
        let hub = self.simulation.nodes[0].id();
        let (market, opening) = (self.simulation.market_id(), self.simulation.opening_ms);
        let own = self.simulation.nodes[device].identity.device.clone();
        let mut sent: Vec<(Channel, Vec<u8>)> = Vec::new();
        self.simulation.tamper(device, move |channel, mut frame| match kind {
            Kind::Garbage => {
                if dice.chance(10) && !frame.is_empty() {
                    let at = usize::try_from(dice.between(0, frame.len() as u64 - 1)).unwrap_or(0);
                    frame[at] ^= 1 << dice.between(0, 7);
                }
                vec![(channel, frame)]
            }
            Kind::Replay => {
                let mut frames = vec![(channel, frame.clone())];
                frames.extend(dice.pick(&sent).cloned());
                if sent.len() < REPLAYED {
                    sent.push((channel, frame));
                }
                frames
            }
            Kind::Flood => vec![(channel, frame); FLOOD],
            Kind::Withhold => match body(channel, &frame) {
                Some(Body::Page(_)) if dice.chance(80) => Vec::new(),
                _ => vec![(channel, frame)],
            },
            Kind::ForgedAck => {
                let mut frames = Vec::new();
                if let Some(Body::Page(page)) = &body(channel, &frame)
                    && page.custody
                {
                    let forged = forged_acknowledgement(page, &market, &own, opening);
                    frames.extend(forged.map(|mut forged| {
                        // Signed by somebody who is no hub, or by nobody in a hub's name.
                        if dice.chance(50) {
                            forged.hub = hub.as_bytes().to_vec();
                        }
                        (Channel::Live, encode(Body::Acknowledgement(forged)))
                    }));
                }
                frames.push((channel, frame));
                frames
            }
            _ => vec![(channel, frame)],
        });
    }

    /// Somebody whom nobody knows sends a catalog to a member.
    pub(super) fn intrude(&mut self, target: usize, dice: &mut Dice) {
        let seed: [u8; 32] = *hash(Domain::Blob, &dice.roll().to_be_bytes()).as_bytes();
        let identity = Identity { device: DeviceKey::from_seed(&seed), seal_secret: seed, opening_secrets: Vec::new() };
        let entry = self.forbidden_goods("stranger's goods");
        let puppet = self.send_in(identity, target, &[(Lane::CATALOG, vec![entry])], &[]);
        self.truth.devices[puppet].stranger = true;
    }

    /// Products that nobody may ever offer.
    fn forbidden_goods(&mut self, name: &str) -> Written {
        let name = format!("{name} {}", self.simulation.nodes.len());
        let goods = payload::Products {
            products: vec![payload::Product { sku: "X".into(), name: name.clone(), price: 1, ..Default::default() }],
            ..Default::default()
        };
        self.truth.forbidden.push(name);
        (self.hub_time(), [0; 8], EntryKind::PRODUCTS, encode_payload(&goods))
    }

    /// A member signs what it may not say, and what says nothing, and hands it to another one as honestly as any page.
    pub(super) fn lie(&mut self, liar: usize, target: usize, dice: &mut Dice) {
        let identity = self.simulation.nodes[liar].identity.clone();
        let now = self.hub_time();
        // The stranger whom it would let in, and the member whom it would have out: none whom it may.
        let stranger = *hash(Domain::Blob, identity.device.id().as_bytes()).as_bytes();
        let victim = if self.truth.devices[target].owner == Some(liar) { 0 } else { target };
        let victim = self.simulation.nodes[victim].id();
        let certificate = |role: Role, stall: &str| Certificate {
            device: DeviceKey::from_seed(&stranger).id(),
            role,
            stall: stall.to_owned(),
            name: "friend".into(),
            scopes: [Scope::SELL, Scope::ADMIT, Scope::CHECKPOINT]
                .into_iter()
                .map(|scope| (scope, None))
                .collect::<Scopes>(),
            not_before: now - 1,
            not_after: now + 3_600_000,
            seal_key: [9; 32],
            invite: None,
            request: None,
        };
        let stall = self.truth.devices[liar].stall.clone();
        let mut said: Vec<Written> = vec![
            (now, [0; 8], EntryKind::CERTIFICATE, certificate(Role::Hub, "").to_payload()),
            (now, [0; 8], EntryKind::CERTIFICATE, certificate(Role::Stall, &stall).to_payload()),
            (now, [0; 8], EntryKind::REVOCATION, encode_payload(&revocation(&victim))),
            (
                now,
                [0; 8],
                EntryKind::POLICY,
                encode_payload(&payload::Policy { fee_rate: "99".into(), ..Default::default() }),
            ),
            (
                now,
                [0; 8],
                EntryKind::OPENING_KEY,
                encode_payload(&payload::OpeningKey { public_key: vec![9; 32], recovery: None }),
            ),
            (
                now,
                [0; 8],
                EntryKind::RESTORATION,
                encode_payload(&payload::Restoration { until: now + 365 * 86_400_000 }),
            ),
            (now, [0; 8], EntryKind::PROMOTIONS, encode_payload(&everything_for_nothing())),
            (now, [0; 8], EntryKind::CERTIFICATE, vec![0xff; 40]),
            (now, [0; 8], EntryKind(40_000 + u32::try_from(dice.between(0, 99)).unwrap_or(0)), vec![1, 2, 3]),
        ];
        dice.shuffle(&mut said);
        let checkpoint = Checkpoint {
            epoch: 1_000,
            number: 1,
            previous: None,
            time: now + 365 * 86_400_000,
            revocations: 0,
            root: Hash::ZERO,
            logs: 0,
            changes: Vec::new(),
            skips: Vec::new(),
        };
        let lanes = [
            (Lane::CONTROL, said),
            (Lane::CATALOG, vec![(now, [0; 8], EntryKind::PRODUCTS, vec![0xfe; 30])]),
            (Lane::SIGNAL, vec![(now, [0; 8], EntryKind::SIGNALS, encode_payload(&self.no_card_is_good(now)))]),
            (Lane::CHECKPOINT, vec![(now, [0; 8], EntryKind::CHECKPOINT, checkpoint.to_payload())]),
        ];
        self.truth.devices[liar].dishonest = true;
        self.simulation.witness.release(&self.simulation.nodes[liar].id());
        let frames = [Body::Evidence(wire::Evidence { fork_proof: unproven_fork(victim, dice) })];
        let puppet = self.send_in(identity.clone(), target, &lanes, &frames);
        self.truth.devices[liar].copied = true;
        self.truth.devices[puppet].copied = true;
        // And in another's name, what only that one could sign, to somebody who hasn't seen through it yet.
        let others: Vec<usize> = (1..puppet)
            .filter(|other| *other != liar && self.runs(*other) && self.truth.devices[*other].is_invited())
            .collect();
        let target = dice.pick(&others).copied().unwrap_or(target);
        let goods = self.forbidden_goods("goods in another's name");
        let (market, author) = (self.simulation.market_id(), victim);
        let log = LogName { author, incarnation: Incarnation::from_bytes([11; 16]), lane: Lane::CATALOG };
        let (log, page) = forged_log(&market, &identity.device, log, &[goods]);
        if let Some(link) = self.simulation.puppet_tries(puppet, Road::Mesh, target, 1_000) {
            self.simulation.puppet_opens_session(puppet, link, [11; 16]);
            self.simulation.puppet_sends_page(puppet, link, &log, &page, false);
        }
    }

    /// The word of a stall that every card is blocked: alone it counts at its own till.
    fn no_card_is_good(&self, now: u64) -> payload::Signals {
        let blocked = |fingerprint: &String| payload::Signal {
            fact: 2,
            subject: hex::decode(fingerprint).unwrap_or_default(),
            first: 1,
            expires_at: now + 24 * 3_600_000,
            ..payload::Signal::default()
        };
        payload::Signals { signals: self.truth.cards.values().map(blocked).collect() }
    }

    /// Somebody who has the hub's key tells a member of another market day than the hub tells all others.
    pub(super) fn tell_another_story(&mut self, target: usize) {
        let Some(newest) = newest_checkpoint(&self.simulation.nodes[0].disk) else { return };
        let other = Checkpoint { root: hash(Domain::Blob, newest.root.as_bytes()), changes: Vec::new(), ..newest };
        self.truth.two_stories = true;
        let identity = self.simulation.nodes[0].identity.clone();
        let entry = (self.hub_time(), [0; 8], EntryKind::CHECKPOINT, other.to_payload());
        self.send_in(identity, target, &[(Lane::CHECKPOINT, vec![entry])], &[]);
    }

    /// A network card with a key of its own dials a member, and sends it pages and frames. Gives its number.
    fn send_in(&mut self, identity: Identity, target: usize, lanes: &[(Lane, Vec<Written>)], frames: &[Body]) -> usize {
        let puppet = self.simulation.add_puppet(identity.clone());
        self.truth.devices.resize_with(puppet + 1, Default::default);
        (self.truth.devices[puppet].dishonest, self.truth.devices[puppet].gone) = (true, true);
        self.simulation.network_join(puppet, target);
        let mut incarnation = [9; 16];
        incarnation[..8].copy_from_slice(&(puppet as u64).to_be_bytes());
        if let Some(link) = self.simulation.puppet_tries(puppet, Road::Mesh, target, 1_000) {
            self.simulation.puppet_opens_session(puppet, link, incarnation);
            for (lane, entries) in lanes {
                let market = self.simulation.market_id();
                let (log, page) = written_log(&market, &identity.device, incarnation, *lane, entries);
                self.simulation.puppet_sends_page(puppet, link, &log, &page, false);
            }
            for frame in frames {
                self.send_frame(puppet, link, frame.clone());
            }
        }
        puppet
    }

    fn send_frame(&mut self, puppet: usize, link: LinkId, body: Body) {
        self.simulation.puppet_send(puppet, link, Channel::Live, encode(body));
    }
}

/// The word of somebody who is no hub that the hub has all of a page's log.
fn forged_acknowledgement(
    page: &wire::Page,
    market: &stallmesh_protocol::MarketId,
    own: &DeviceKey,
    time: u64,
) -> Option<wire::Acknowledgement> {
    let log = page.log.as_ref()?.to_domain()?;
    let read = stallmesh_protocol::page::Page::decode(&unpack(page).ok()?).ok()?;
    let (from, to) = (read.first, read.last());
    let verified = read.verify(&log.id(market), &log.author).ok()?;
    let interval = Interval { from: from.min(1), to, hash: verified.head().hash };
    Some(Acknowledgement::sign(own, market, log, vec![interval], time).to_wire())
}

/// The checkpoint with the greatest number on a hub's disk.
fn newest_checkpoint(disk: &Disk) -> Option<Checkpoint> {
    let all = [0xff; 129];
    let logs = disk.scan(Table::Logs, &[], &all, usize::MAX, Direction::Forward).ok()?;
    let lane = Lane::CHECKPOINT.0.to_be_bytes();
    let logs = logs.into_iter().filter(|(_, value)| value.get(48..52) == Some(lane.as_slice()));
    let newest = logs.filter_map(|(log, _)| {
        let end = [log.as_slice(), &[0xff; 17]].concat();
        let entries = disk.scan(Table::Entries, &log, &end, 1, Direction::Backward).ok()?;
        let (key, value) = entries.first()?;
        let (_, sequence, _) = entry_key(key)?;
        let entry = take_entry(&mut Reader::new(value.get(64..)?), sequence, 0, [0; 8]).ok()?;
        Checkpoint::from_payload(entry.payload.bytes(Part::Public)?).ok()
    });
    newest.max_by_key(|checkpoint| (checkpoint.epoch, checkpoint.number))
}

fn revocation(victim: &DeviceId) -> payload::Revocation {
    payload::Revocation {
        device: victim.as_bytes().to_vec(),
        line: Vec::new(),
        reason: "in the way".into(),
        below_standing: true,
    }
}

/// What looks like a proof that a device has signed two histories, and is signed by nobody.
fn unproven_fork(victim: DeviceId, dice: &mut Dice) -> Vec<u8> {
    let log = LogName { author: victim, incarnation: Incarnation::from_bytes([3; 16]), lane: Lane::CATALOG };
    let branch = |root: u8| payload::ForkBranch {
        headers: vec![payload::ForkHeader { timestamp: 1, seen: Vec::new(), kind: 64, payload_root: vec![root; 32] }],
        signature: vec![root; 64],
    };
    let first = u8::try_from(dice.between(1, 100)).unwrap_or(1);
    let proof = payload::ForkProof {
        author: log.author.as_bytes().to_vec(),
        incarnation: log.incarnation.as_bytes().to_vec(),
        lane: log.lane.0,
        sequence: 1,
        previous: Vec::new(),
        branches: vec![branch(first), branch(first + 1)],
    };
    encode_payload(&proof)
}

fn body(channel: Channel, frame: &[u8]) -> Option<Body> {
    use prost::Message;
    wire::Frame::decode(frame).ok().filter(|_| channel != Channel::Join)?.body
}

/// A promotion that only the organiser could give, and that she would not.
fn everything_for_nothing() -> payload::Promotions {
    let file = serde_json::json!({
        "id": "LIE", "name": "Lie", "owner": "market", "effect": { "percentage": "100" }, "borne_by_market": "100",
    });
    let terms = serde_json::from_value::<PromotionFile>(file).map(|file| canonical(&file)).unwrap_or_default();
    let promotion =
        payload::Promotion { id: "LIE".into(), terms, borne_by_market: "100".into(), ..payload::Promotion::default() };
    payload::Promotions { promotions: vec![promotion], replaces: Vec::new() }
}
