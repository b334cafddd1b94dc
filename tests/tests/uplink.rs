//! The road to the hub on real sockets: connections that move, that are resumed with entries in their first packets, and
//! first packets that somebody sends again.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use stallmesh_node::link::{Admission, Channel, LinkCommand, LinkEvent, LinkId, LinkNumbers, Road};
use stallmesh_node::uplink::{self, UplinkConfig};
use stallmesh_protocol::DeviceId;
use stallmesh_protocol::sign::DeviceKey;
use stallmesh_tests::proxy::{Direction, Faults, UdpProxy};
use tokio::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(60);
const HUB: [u8; 32] = [1; 32];
const STALL: [u8; 32] = [2; 32];

fn id(seed: &[u8; 32]) -> DeviceId {
    DeviceKey::from_seed(seed).id()
}

/// The road's shell, with a test in the engine's place.
struct Shell {
    commands: mpsc::UnboundedSender<LinkCommand>,
    events: mpsc::Receiver<LinkEvent>,
    task: tokio::task::JoinHandle<()>,
}

impl Shell {
    fn start(seed: &[u8; 32], config: &UplinkConfig) -> Self {
        // Connections of one that was stopped hold its socket for a while: it is one process here.
        stallmesh_tests::processes::until("the road is there", || {
            let (commands, receiver) = mpsc::unbounded_channel();
            let (sender, events) = mpsc::channel(4_096);
            let task = uplink::start(seed, config, LinkNumbers::default(), sender, receiver);
            task.map(|task| Shell { commands, events, task }).map_err(|error| error.to_string())
        })
    }

    /// A hub that has let the stall in.
    fn hub(listen: SocketAddr, tickets: Option<&Path>) -> Self {
        let config = UplinkConfig {
            listen: Some(listen),
            connections_max: 64,
            reset_key: Some([9; 64]),
            resume: true,
            tickets: tickets.map(Path::to_owned),
        };
        let hub = Shell::start(&HUB, &config);
        hub.admit(&STALL, Admission::Member);
        hub
    }

    fn stall() -> Self {
        let stall =
            Shell::start(&STALL, &UplinkConfig { connections_max: 16, resume: true, ..UplinkConfig::default() });
        stall.admit(&HUB, Admission::Member);
        stall
    }

    fn command(&self, command: LinkCommand) {
        self.commands.send(command).unwrap();
    }

    fn admit(&self, seed: &[u8; 32], admission: Admission) {
        self.command(LinkCommand::Admit { device: id(seed), admission });
    }

    fn dial(&self, address: SocketAddr, submit: &[&str]) {
        let submit = submit.iter().map(|frame| frame.as_bytes().to_vec()).collect();
        self.command(LinkCommand::Dial { road: Road::Uplink, address: address.to_string(), peer: None, submit });
    }

    fn send(&self, link: LinkId, frame: &str) {
        let frame = frame.as_bytes().to_vec();
        self.command(LinkCommand::Send { link, channel: Channel::Live, frame });
    }

    fn close(&self, link: LinkId) {
        self.command(LinkCommand::Close { link, reason: "enough".into() });
    }

    async fn next(&mut self) -> LinkEvent {
        tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("an event").expect("a shell that runs")
    }

    /// The next event that `take` wants, and what came before it.
    async fn until<T>(&mut self, mut take: impl FnMut(&LinkEvent) -> Option<T>) -> (T, Vec<LinkEvent>) {
        let mut before = Vec::new();
        loop {
            let event = self.next().await;
            match take(&event) {
                Some(found) => return (found, before),
                None => before.push(event),
            }
        }
    }

    async fn up(&mut self) -> LinkId {
        self.until(|event| match event {
            LinkEvent::Up { link, .. } => Some(*link),
            LinkEvent::DialFailed { reason, .. } => panic!("{reason}"),
            _ => None,
        })
        .await
        .0
    }

    async fn down(&mut self) -> String {
        self.until(|event| match event {
            LinkEvent::Down { reason, .. } => Some(reason.clone()),
            _ => None,
        })
        .await
        .0
    }

    /// Waits for a frame that is handed in; its link, and what came before it.
    async fn submitted(&mut self, what: &str) -> (LinkId, Vec<LinkEvent>) {
        self.until(|event| match event {
            LinkEvent::Submitted { link, peer, frame } if frame == what.as_bytes() => {
                assert_eq!(*peer, id(&STALL));
                Some(*link)
            }
            _ => None,
        })
        .await
    }

    /// Waits until the handshake behind what was handed in has ended.
    async fn settled(&mut self, before: &[LinkEvent]) {
        if !before.iter().any(is_up) {
            self.up().await;
        }
    }

    async fn stop(self) {
        drop(self.commands);
        let Shell { mut events, task, .. } = self;
        // It may wait for somebody who reads.
        tokio::spawn(async move { while events.recv().await.is_some() {} });
        tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap();
    }
}

fn is_up(event: &LinkEvent) -> bool {
    matches!(event, LinkEvent::Up { .. })
}

fn submissions(events: &[LinkEvent]) -> Vec<String> {
    let frames = events.iter().filter_map(|event| match event {
        LinkEvent::Submitted { frame, .. } => Some(String::from_utf8_lossy(frame).into_owned()),
        _ => None,
    });
    frames.collect()
}

/// An address for the hub, so that it can come back to the same one.
fn free_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], stallmesh_tests::processes::free_port()))
}

/// Waits until a word of the hub has come, and the tickets, which left before it.
async fn hear(hub: &Shell, link: LinkId, stall: &mut Shell) {
    hub.command(LinkCommand::Send { link, channel: Channel::Join, frame: b"heard?".to_vec() });
    stall.until(|event| matches!(event, LinkEvent::Frame { frame, .. } if frame == b"heard?").then_some(())).await;
}

/// Dials and hands in what reaches the hub before the handshake has ended: until then, nothing comes back.
async fn early(hub: &mut Shell, stall: &Shell, proxy: &UdpProxy, submit: &[&str]) -> LinkId {
    proxy.cut_one(Direction::Down, true);
    stall.dial(proxy.address(), submit);
    let (link, before) = hub.submitted(submit[0]).await;
    assert!(!before.iter().any(is_up), "nobody is here before the handshake has ended");
    proxy.cut_one(Direction::Down, false);
    link
}

/// Somebody on the way sends what a client sends, from an address of its own, until the hub has been handed something;
/// what that took.
async fn somebody_hands_in(proxy: &UdpProxy, address: SocketAddr, hub: &mut Shell) -> Vec<Vec<u8>> {
    let somebody = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut sent = 0;
    tokio::time::timeout(PATIENCE, async {
        loop {
            let recorded = proxy.recorded();
            for datagram in &recorded[sent..] {
                somebody.send_to(datagram, address).await.unwrap();
            }
            sent = recorded.len();
            match tokio::time::timeout(Duration::from_millis(20), hub.events.recv()).await {
                Ok(Some(LinkEvent::Submitted { .. })) => return recorded,
                Ok(other) => panic!("{other:?}"),
                Err(_) => {}
            }
        }
    })
    .await
    .expect("what it sends is enough")
}

/// A hub, a stall that was connected to it once and has tickets, and the way between them.
async fn met(tickets: Option<&Path>) -> (Shell, Shell, UdpProxy, SocketAddr) {
    let address = free_address();
    let mut hub = Shell::hub(address, tickets);
    let mut stall = Shell::stall();
    let proxy = UdpProxy::start(address, 1);
    stall.dial(proxy.address(), &["first"]);
    let link = stall.up().await;
    let (theirs, before) = hub.submitted("first").await;
    assert!(before.iter().any(is_up), "without a ticket nothing goes ahead of the handshake");
    hear(&hub, theirs, &mut stall).await;
    stall.close(link);
    stall.down().await;
    hub.down().await;
    (hub, stall, proxy, address)
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_ticket_entries_go_ahead_of_the_handshake_and_are_answered_ahead_of_it() {
    let (mut hub, mut stall, proxy, _) = met(None).await;
    for round in 0..3 {
        let frame = format!("round {round}");
        let link = early(&mut hub, &stall, &proxy, &[&frame, "another"]).await;
        hub.command(LinkCommand::Answer { link, frame: b"the hub's word".to_vec() });
        let (second, before) = hub.submitted("another").await;
        assert_eq!(second, link);
        hub.settled(&before).await;
        let theirs = stall.up().await;
        stall
            .until(|event| match event {
                LinkEvent::Answered { peer, frame } if *peer == id(&HUB) => {
                    assert_eq!(frame, b"the hub's word");
                    Some(())
                }
                _ => None,
            })
            .await;
        // And it is a link like any other.
        stall.send(theirs, "hello");
        hub.until(|event| matches!(event, LinkEvent::Frame { frame, .. } if frame == b"hello").then_some(())).await;
        hear(&hub, link, &mut stall).await;
        stall.close(theirs);
        stall.down().await;
        hub.down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn adv_032_a_first_flight_that_is_sent_again_delivers_nothing_twice_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let tickets = folder.path().join("tickets");
    let (mut hub, mut stall, proxy, address) = met(Some(&tickets)).await;
    // Somebody on the way keeps it, and lets it through, too.
    proxy.record();
    let theirs = early(&mut hub, &stall, &proxy, &["sales"]).await;
    hub.up().await;
    let link = stall.up().await;
    let flight = proxy.recorded();
    assert!(!flight.is_empty());
    // Tickets that are lost with their connection push out those that the stall has.
    hear(&hub, theirs, &mut stall).await;
    stall.close(link);
    hub.down().await;
    stall.down().await;

    proxy.send_again(&flight);
    // What comes after it has come, too; by a full handshake or by a ticket, whatever there is.
    stall.dial(proxy.address(), &["later"]);
    let (theirs, before) = hub.submitted("later").await;
    assert_eq!(submissions(&before), Vec::<String>::new());
    hub.settled(&before).await;
    let link = stall.up().await;
    hear(&hub, theirs, &mut stall).await;
    stall.close(link);
    stall.down().await;
    hub.down().await;

    // One that never arrived: only whoever kept it has it.
    proxy.record();
    proxy.cut_one(Direction::Up, true);
    stall.dial(proxy.address(), &["withheld"]);
    let withheld = somebody_hands_in(&proxy, address, &mut hub).await;
    hub.stop().await;
    // Whose flight it is says no more of it.
    stall.stop().await;

    // The hub comes back with the tickets that it had, but for those that were used.
    assert!(tickets.exists());
    let mut hub = Shell::hub(address, Some(&tickets));
    assert!(!tickets.exists());
    for again in [&flight, &withheld, &flight, &withheld] {
        proxy.send_again(again);
    }
    let fresh = Shell::stall();
    fresh.dial(address, &["after"]);
    let (_, before) = hub.submitted("after").await;
    assert_eq!(submissions(&before), Vec::<String>::new(), "a copy was delivered after the restart");
    assert_eq!(before.iter().filter(|event| is_up(event)).count(), 1, "whoever sends copies is never there");
}

#[tokio::test(flavor = "multi_thread")]
async fn tickets_are_good_over_a_clean_stop_and_gone_after_a_crash_and_then_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let tickets = folder.path().join("tickets");
    let (hub, mut stall, proxy, address) = met(Some(&tickets)).await;
    hub.stop().await;
    let mut hub = Shell::hub(address, Some(&tickets));
    let link = early(&mut hub, &stall, &proxy, &["after a stop"]).await;
    assert_eq!(hub.up().await, link);
    stall.up().await;

    // A crash leaves no file.
    hub.stop().await;
    std::fs::remove_file(&tickets).unwrap();
    stall.down().await;
    let mut hub = Shell::hub(address, Some(&tickets));
    stall.dial(proxy.address(), &["after a crash"]);
    let (link, before) = hub.submitted("after a crash").await;
    assert!(before.iter().any(is_up), "the ticket is unknown, so its early data was not read");
    let theirs = stall.up().await;
    stall.send(theirs, "mark");
    let marked = |event: &LinkEvent| matches!(event, LinkEvent::Frame { link: on, .. } if *on == link).then_some(());
    let (_, before) = hub.until(marked).await;
    assert_eq!(submissions(&before), Vec::<String>::new(), "it came twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_gets_in_no_more_resumes_nothing_and_hands_nothing_in() {
    let (mut hub, mut stall, proxy, _) = met(None).await;
    hub.admit(&STALL, Admission::Stranger);
    stall.dial(proxy.address(), &["mine"]);
    let link = hub.up().await;
    let theirs = stall.up().await;
    // The channel that a stranger has, as a mark: all before it was looked at.
    stall.command(LinkCommand::Send { link: theirs, channel: Channel::Join, frame: b"mark".to_vec() });
    let (_, before) =
        hub.until(|event| matches!(event, LinkEvent::Frame { link: on, .. } if *on == link).then_some(())).await;
    assert_eq!(submissions(&before), Vec::<String>::new());
    hear(&hub, link, &mut stall).await;
    stall.close(theirs);
    stall.down().await;
    hub.down().await;
    // It was given tickets as a stranger: let in again, it can use them.
    hub.admit(&STALL, Admission::Member);
    early(&mut hub, &stall, &proxy, &["again"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dials_that_reach_nobody_do_not_use_up_the_tickets() {
    let (mut hub, mut stall, proxy, _) = met(None).await;
    proxy.cut(true);
    for _ in 0..20 {
        stall.dial(proxy.address(), &["lost"]);
    }
    for _ in 0..20 {
        stall.until(|event| matches!(event, LinkEvent::DialFailed { .. }).then_some(())).await;
    }
    proxy.cut(false);
    stall.dial(proxy.address(), &["found"]);
    let (theirs, before) = hub.submitted("found").await;
    hub.settled(&before).await;
    let link = stall.up().await;
    hear(&hub, theirs, &mut stall).await;
    stall.close(link);
    stall.down().await;
    hub.down().await;
    early(&mut hub, &stall, &proxy, &["early"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn adv_116_a_connection_whose_client_moves_goes_on_and_loses_nothing() {
    let address = free_address();
    let (mut hub, mut stall) = (Shell::hub(address, None), Shell::stall());
    let proxy = UdpProxy::start(address, 1);
    proxy.set_both(Faults { jitter: Duration::from_millis(5), ..Faults::one_way(Duration::from_millis(10)) });
    stall.dial(proxy.address(), &[]);
    let link = stall.up().await;
    let theirs = hub.up().await;
    let mut addresses = proxy.far_addresses();
    let count = 1_000;
    for number in 0..count {
        stall.send(link, &number.to_string());
        if number % 100 == 50 {
            // Some of it is under way.
            let arrived = |event: &LinkEvent| match event {
                LinkEvent::Frame { frame, .. } if *frame == format!("{}", number - 40).into_bytes() => Some(()),
                LinkEvent::Down { reason, .. } => panic!("{reason}"),
                _ => None,
            };
            hub.until(arrived).await;
            proxy.move_clients();
            stall.send(link, "from elsewhere");
            let moved = stallmesh_tests::processes::until("it comes from elsewhere", || {
                let now = proxy.far_addresses();
                let moved = now.iter().find(|address| !addresses.contains(address)).copied();
                moved.ok_or_else(|| format!("{now:?}"))
            });
            addresses.push(moved);
            hub.command(LinkCommand::Send { link: theirs, channel: Channel::Live, frame: b"down".to_vec() });
            let heard =
                |event: &LinkEvent| matches!(event, LinkEvent::Frame { frame, .. } if frame == b"down").then_some(());
            stall.until(heard).await;
        }
    }
    let last = (count - 1).to_string().into_bytes();
    let (_, before) =
        hub.until(|event| matches!(event, LinkEvent::Frame { frame, .. } if *frame == last).then_some(())).await;
    assert!(!before.iter().any(|event| is_up(event) || matches!(event, LinkEvent::Down { .. })), "{before:?}");
}
