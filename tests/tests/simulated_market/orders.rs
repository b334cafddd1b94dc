//! What nodes believe depends on the entries that they hold, never on how these came.

use prost::Message;
use stallmesh_node::engine::{
    Answer, Engine, Identity, Input, Now, PolicyView, Request, RequestId, Settings, recompute,
};
use stallmesh_node::link::{Channel, LinkEvent, LinkId, Road};
use stallmesh_protocol::page::Page;
use stallmesh_protocol::wire::{self, frame::Body, join_frame};
use stallmesh_protocol::{Lane, LogName};
use stallmesh_tests::simulation::export::{exported_pages, part_of};
use stallmesh_tests::simulation::hostile::{encode, encode_join, join_hello};
use stallmesh_tests::simulation::{Beliefs, Disk, OPENING_MS, Simulation, market_order};

/// A day at a market in which much goes wrong, and all pages that anybody holds of it, both branches of a fork, too.
fn eventful_market(seed: u64) -> (Simulation, Vec<(LogName, Page)>) {
    let mut market = Simulation::market(seed, 4);
    let [helper, lost] = [market.add_helper("stall-1"), market.add_helper("stall-2")];
    let scopes = ["sell", "publish-catalog", "relay", "signal"];
    assert_eq!(market.delegate(2, helper, &scopes, 3_600_000), Answer::Done);
    assert_eq!(market.delegate(3, lost, &scopes, 3_600_000), Answer::Done);
    market.until("the helpers join", 30_000, |market| {
        [helper, lost].into_iter().all(|index| market.status(index).role == "stall")
    });
    market.until("they know the market's terms", 30_000, |market| {
        [helper, lost].into_iter().all(|index| market.products(index, None).len() == 12)
    });
    for round in 0..3 {
        for index in [2, 3, 4, 5, helper, lost] {
            market.publish_at(index, 10 * round + index as u64);
            market.sell(index, &format!("{index}-{round}"));
        }
        let policy = PolicyView { fee_rate: (4 + round).to_string(), ..market_order().policy };
        assert_eq!(market.ask(0, Request::SetPolicy(policy)), Answer::Done);
        market.run_for(2_500);
        market.kill(4);
        market.start(4);
    }
    // One helper is revoked by her owner, another device by the hub, and raised again.
    market.partition(&[&[1, 2, 3, 4, 5, helper], &[lost]]);
    market.publish_at(lost, 90);
    assert_eq!(market.revoke(3, lost), Answer::Done);
    market.run_for(3_000);
    market.publish_at(helper, 95);
    market.run_for(3_000);
    assert_eq!(market.revoke(0, helper), Answer::Done);
    market.heal();
    market.run_for(5_000);
    let device = market.nodes[helper].id();
    assert_eq!(market.ask(0, Request::Raise { device }), Answer::Done);
    // And one forks its catalog; a checkpoint has named one branch.
    market.run_for(3_000);
    let second = market.fork_device(5);
    market.partition(&[&[1, 2, 5, helper], &[3, 4, second]]);
    market.publish_at(5, 70);
    market.publish_at(second, 71);
    market.run_for(6_000);
    let mut pages = exported_pages(&market.export(second));
    market.kill(5);
    market.kill(second);
    market.heal();
    market.run_for(30_000);
    market.until_agreed(&[0, 1, 2, 3, 4], 120_000);
    pages.extend(exported_pages(&market.export(0)));
    pages.retain(|(log, _)| !log.lane.is_sealed());
    (market, pages)
}

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Cuts pages at their signatures, as whoever receives live pushes gets them.
fn slices(market: &Simulation, pages: &[(LogName, Page)], state: &mut u64) -> Vec<(LogName, Page)> {
    let id = market.market_id();
    let mut slices = Vec::new();
    for (log, page) in pages {
        let mut from = page.first;
        for (at, _) in &page.signatures {
            if random(state).is_multiple_of(3) || *at == page.last() {
                slices.extend(part_of(page.clone(), from, *at, log, &id).map(|part| (*log, part)));
                from = at + 1;
            }
        }
    }
    slices
}

/// A device of the market whose disk was wiped, beside one neighbour that sends it pages in some order.
struct Wiped {
    engine: Engine<Disk>,
    now: Now,
    request: u64,
}

impl Wiped {
    fn new(market: &Simulation, invite: &str, identity: Identity, neighbour: &Identity) -> Self {
        let now = Now { monotonic_ms: 0, wall_ms: OPENING_MS + market.now };
        let engine = Engine::open(Disk::default(), identity, Settings::default(), [3; 32], now).unwrap();
        let mut wiped = Wiped { engine, now, request: 0 };
        wiped.ask(Request::Join { invite: invite.to_owned(), name: String::new() });
        let peer = neighbour.device.id();
        let (link, road) = (LinkId(1), Road::Mesh);
        wiped.input(Input::Link(LinkEvent::Up {
            link,
            peer,
            road,
            dialled: false,
            address: "here".into(),
            notices_silence: true,
        }));
        let hello = join_hello(&market.market_id(), neighbour);
        wiped.frame(Channel::Join, encode_join(join_frame::Body::Hello(hello)));
        wiped
    }

    fn input(&mut self, input: Input) -> Option<Answer> {
        self.engine.handle(input, self.now);
        self.engine.commit(self.now).unwrap();
        let mut answer = None;
        while let Some(effect) = self.engine.poll_effect() {
            if let stallmesh_node::engine::Effect::Answer(_, given) = effect {
                answer = Some(given);
            }
        }
        answer
    }

    fn frame(&mut self, channel: Channel, frame: Vec<u8>) {
        self.input(Input::Link(LinkEvent::Frame { link: LinkId(1), channel, frame }));
    }

    fn ask(&mut self, request: Request) -> Answer {
        self.request += 1;
        self.input(Input::Request(RequestId(self.request), request)).unwrap()
    }

    fn show(&mut self, log: &LogName, page: &Page) {
        let pages =
            vec![wire::Page { request: 0, log: Some(log.into()), page: page.encode(), custody: false, unpacked: 0 }];
        let pages = wire::JoinPages { pages, complete: false };
        self.frame(Channel::Join, encode_join(join_frame::Body::Pages(pages)));
    }

    fn greet(&mut self, market: &Simulation) {
        let hello = wire::Hello {
            version: stallmesh_protocol::replica::VERSION,
            market: market.market_id().as_bytes().to_vec(),
            incarnation: vec![1; 16],
            nonce: vec![2; 16],
            ..wire::Hello::default()
        };
        self.frame(Channel::Live, encode(Body::Hello(hello)));
    }

    fn page(&mut self, log: &LogName, page: &Page) {
        let page = wire::Page { request: 0, log: Some(log.into()), page: page.encode(), custody: false, unpacked: 0 };
        self.frame(Channel::Live, wire::Frame { body: Some(Body::Page(page)) }.encode_to_vec());
    }

    /// The same as [`Simulation::beliefs`], of everybody but this run of this device.
    fn beliefs(&mut self, market: &Simulation) -> Beliefs {
        let Answer::Members(members) = self.ask(Request::Members) else { panic!() };
        let Answer::Status(status) = self.ask(Request::Status) else { panic!() };
        let mut beliefs = Beliefs::default();
        for author in members.iter().map(|member| member.device).chain([market.root]) {
            let show = Request::LogShow { author: Some(author), lane: None, before: None, limit: 100_000 };
            let Answer::Entries(entries) = self.ask(show) else { panic!() };
            for entry in entries {
                if entry.standing == "stands" && entry.incarnation != status.incarnation {
                    let place = (entry.author, entry.incarnation, entry.lane, entry.sequence, entry.hash);
                    beliefs.standing.insert(place);
                }
            }
        }
        beliefs.members = members
            .into_iter()
            .map(|member| (member.device, member.role, member.stall, member.scopes, member.state))
            .collect();
        let request = Request::Catalog { stall: None, query: String::new(), after: None, limit: 100_000 };
        let Answer::Products(products) = self.ask(request) else { panic!() };
        beliefs.products = products;
        beliefs
    }
}

fn believes_the_same_in_any_order(seed: u64, orders: u64) {
    let (mut market, pages) = eventful_market(seed);
    let expected = market.beliefs(1);
    let [own, neighbour] = [1, 3].map(|index| market.nodes[index].identity.clone());
    let Answer::Invite(invite) = market.invite_text("") else { panic!() };
    let (root, hub) = (market.root, market.nodes[0].id());
    for order in 0..orders {
        let mut state = seed.wrapping_mul(0x9e37_79b9).wrapping_add(order * 77) | 1;
        let mut wiped = Wiped::new(&market, &invite, own.clone(), &neighbour);
        // The gate asks for what makes both of them members; everything else comes as it comes.
        for author in [root, hub] {
            for (log, page) in pages.iter().filter(|(log, _)| log.author == author && log.lane == Lane::CONTROL) {
                let enough = author == root || random(&mut state).is_multiple_of(2) || page.first == 1;
                if enough {
                    wiped.show(log, page);
                }
            }
        }
        wiped.greet(&market);
        let mut left = slices(&market, &pages, &mut state);
        for round in 0..4 {
            for index in (1..left.len()).rev() {
                left.swap(index, (random(&mut state) % (index as u64 + 1)) as usize);
            }
            if round > 0 {
                // Whoever lacks something asks for it in order, and some things come again.
                left.sort_by_key(|(_, page)| page.first);
            }
            for (log, page) in &left {
                wiped.page(log, page);
                if random(&mut state).is_multiple_of(5) {
                    wiped.page(log, page);
                }
            }
        }
        let beliefs = wiped.beliefs(&market);
        assert_eq!(beliefs.members, expected.members, "order {order}");
        assert_eq!(beliefs.products, expected.products, "order {order}");
        let missing: Vec<_> = expected.standing.difference(&beliefs.standing).collect();
        let more: Vec<_> = beliefs.standing.difference(&expected.standing).collect();
        assert!(missing.is_empty() && more.is_empty(), "order {order}: lacks {missing:?}, has more {more:?}");
    }
}

#[test]
fn adv_037_members_catalogs_and_what_stands_are_the_same_in_a_hundred_orders_of_arrival() {
    believes_the_same_in_any_order(50, 60);
}

#[test]
fn members_catalogs_and_what_stands_are_the_same_in_a_hundred_orders_of_another_day() {
    believes_the_same_in_any_order(51, 60);
}

#[test]
fn a_closed_batch_never_changes_and_late_sales_go_to_the_next_in_any_order() {
    let mut market = Simulation::market(52, 3);
    market.partition(&[&[1, 2, 3], &[4]]);
    for number in 0..4 {
        market.sell(2, &format!("early-{number}"));
        market.sell(4, &format!("late-{number}"));
    }
    market.until("the early ones are there", 60_000, |market| market.settle(true).posted == 4);
    let first = market.settle(false);
    market.until("and settled", 60_000, |market| market.status(2).sales.settled == 4);
    let early = market.export(0);
    let statements = market.ask(2, Request::Statements);
    market.heal();
    market.until("the late ones are there", 60_000, |market| market.settle(true).posted == 8);
    let second = market.settle(false);
    assert_eq!((first.number, second.number), (1, 2));
    assert!(second.sums.iter().all(|(_, sum)| *sum == 0));
    market.until("settled as well", 60_000, |market| market.status(4).sales.settled == 4);
    // What was closed is closed: the stall's first statement is the same, and the second adds nothing for it.
    let Answer::Statements(before) = statements else { panic!() };
    let Answer::Statements(after) = market.ask(2, Request::Statements) else { panic!() };
    assert_eq!(before[0], after[0]);
    assert!(after[1..].iter().all(|later| later.body["payout"] == 0), "{after:?}");
    let export = market.export(0);
    for seed in 0..10 {
        let digest = |export: &[u8]| {
            let recomputed = recompute(export, Some(market.root), seed).unwrap();
            recomputed.reconciliation.digest().to_string()
        };
        assert_eq!(digest(&early), first.digest, "order {seed}");
        assert_eq!(digest(&export), second.digest, "order {seed}");
    }
}
