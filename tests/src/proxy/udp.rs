//! Datagrams.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::sync::{Notify, mpsc};

use super::Direction;
use super::shaper::{Counts, Faults, Shaper};
use super::thread::Thread;

/// A datagram's room.
const DATAGRAM_MAX: usize = 65_536;
/// Datagrams that wait to be looked at.
const ARRIVED_MAX: usize = 4_096;

/// A datagram under way: from whom, or to whom, and what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Datagram {
    client: SocketAddr,
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct State {
    up: Shaper<Datagram>,
    down: Shaper<Datagram>,
    /// The socket that stands for each client on the far side.
    far: BTreeMap<SocketAddr, Arc<UdpSocket>>,
    /// What clients sent, while it is recorded.
    recorded: Option<Vec<Vec<u8>>>,
    /// Sockets that clients are to have from now on instead of those that they had.
    moving: bool,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
    begun: Instant,
    target: SocketAddr,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }
}

/// Stands before a UDP address on loopback.
#[derive(Debug)]
pub struct UdpProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Ends with it.
    _thread: Thread,
}

impl UdpProxy {
    /// Begins to pass on what comes, without a fault.
    ///
    /// # Panics
    /// No socket, or no thread.
    pub fn start(target: SocketAddr, seed: u64) -> Self {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| {
            socket.set_nonblocking(true)?;
            Ok((socket.local_addr()?, socket))
        });
        let (address, socket) = socket.unwrap_or_else(|error| panic!("a socket for the proxy: {error}"));
        let state = State {
            up: Shaper::new(seed),
            down: Shaper::new(seed ^ 0x5bd1_e995),
            far: BTreeMap::new(),
            recorded: None,
            moving: false,
        };
        let shared =
            Arc::new(Shared { state: Mutex::new(state), changed: Notify::new(), begun: Instant::now(), target });
        let inside = shared.clone();
        let thread = Thread::run(move || run(socket, inside));
        UdpProxy { address, shared, _thread: thread }
    }

    /// Where whoever dials goes.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on.
    pub fn set(&self, direction: Direction, faults: Faults) {
        let mut state = self.shared.state();
        match direction {
            Direction::Up => state.up.faults = faults,
            Direction::Down => state.down.faults = faults,
        }
        drop(state);
        self.shared.changed.notify_one();
    }

    /// From now on, both ways.
    pub fn set_both(&self, faults: Faults) {
        self.set(Direction::Up, faults);
        self.set(Direction::Down, faults);
    }

    /// Nothing gets through, or all does again; other faults stay as they are.
    pub fn cut(&self, cut: bool) {
        self.cut_one(Direction::Up, cut);
        self.cut_one(Direction::Down, cut);
    }

    /// Cuts one direction, or mends it; the other faults stay.
    pub fn cut_one(&self, direction: Direction, cut: bool) {
        let mut state = self.shared.state();
        let lane = match direction {
            Direction::Up => &mut state.up,
            Direction::Down => &mut state.down,
        };
        lane.faults.cut = cut;
    }

    /// What became of datagrams so far.
    pub fn counts(&self, direction: Direction) -> Counts {
        let state = self.shared.state();
        match direction {
            Direction::Up => state.up.counts,
            Direction::Down => state.down.counts,
        }
    }

    /// Every client comes from another address from now on, and what is on its way to the old one is lost: what a phone
    /// does that walks from one network into the next.
    pub fn move_clients(&self) {
        self.shared.state().moving = true;
        self.shared.changed.notify_one();
    }

    /// The addresses from which clients come to the far side now.
    pub fn far_addresses(&self) -> Vec<SocketAddr> {
        self.shared.state().far.values().filter_map(|socket| socket.local_addr().ok()).collect()
    }

    /// Keeps what clients send from now on, and nothing of before.
    pub fn record(&self) {
        self.shared.state().recorded = Some(Vec::new());
    }

    /// What clients have sent since, in order.
    pub fn recorded(&self) -> Vec<Vec<u8>> {
        self.shared.state().recorded.clone().unwrap_or_default()
    }

    /// Sends datagrams to the far side as somebody else would who has them: from an address of its own, past all faults.
    ///
    /// # Panics
    /// No socket.
    pub fn send_again(&self, datagrams: &[Vec<u8>]) {
        send_again(self.shared.target, datagrams);
    }
}

/// Sends datagrams to an address from a socket that nobody else has.
///
/// # Panics
/// No socket.
fn send_again(target: SocketAddr, datagrams: &[Vec<u8>]) {
    let sent = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|socket| datagrams.iter().try_for_each(|datagram| socket.send_to(datagram, target).map(drop)));
    if let Err(error) = sent {
        panic!("sending again: {error}");
    }
}

type Arrived = (Direction, Datagram);

async fn run(socket: std::net::UdpSocket, shared: Arc<Shared>) {
    let Ok(near) = UdpSocket::from_std(socket).map(Arc::new) else { return };
    let (arrived, mut arrivals) = mpsc::channel::<Arrived>(ARRIVED_MAX);
    tokio::spawn(read_near(near.clone(), arrived.clone()));
    loop {
        let now = shared.now();
        let (ups, downs, next) = {
            let mut state = shared.state();
            if std::mem::take(&mut state.moving) {
                state.far.clear();
            }
            let ups: Vec<Datagram> = std::iter::from_fn(|| state.up.pop(now)).collect();
            let downs: Vec<Datagram> = std::iter::from_fn(|| state.down.pop(now)).collect();
            (ups, downs, state.up.next().into_iter().chain(state.down.next()).min())
        };
        for datagram in ups {
            if let Some(far) = far_of(&shared, datagram.client, &arrived).await {
                let _ = far.send(&datagram.bytes).await;
            }
        }
        for datagram in downs {
            let _ = near.send_to(&datagram.bytes, datagram.client).await;
        }
        let sleep = next.map_or(Duration::from_secs(3_600), |next| next.saturating_sub(shared.now()));
        tokio::select! {
            Some((direction, datagram)) = arrivals.recv() => take(&shared, direction, datagram),
            () = shared.changed.notified() => {}
            () = tokio::time::sleep(sleep) => {}
        }
        while let Ok((direction, datagram)) = arrivals.try_recv() {
            take(&shared, direction, datagram);
        }
    }
}

fn take(shared: &Shared, direction: Direction, datagram: Datagram) {
    let now = shared.now();
    let mut state = shared.state();
    let bytes = datagram.bytes.len();
    match direction {
        Direction::Up => {
            if let Some(recorded) = &mut state.recorded {
                recorded.push(datagram.bytes.clone());
            }
            state.up.push(now, bytes, datagram);
        }
        Direction::Down => state.down.push(now, bytes, datagram),
    }
}

async fn read_near(near: Arc<UdpSocket>, arrived: mpsc::Sender<Arrived>) {
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        // A client that is gone is no end.
        let Ok((length, client)) = near.recv_from(&mut buffer).await else { continue };
        let datagram = Datagram { client, bytes: buffer[..length].to_vec() };
        if arrived.send((Direction::Up, datagram)).await.is_err() {
            return;
        }
    }
}

/// The socket that stands for a client, made where it has none.
async fn far_of(shared: &Arc<Shared>, client: SocketAddr, arrived: &mpsc::Sender<Arrived>) -> Option<Arc<UdpSocket>> {
    if let Some(far) = shared.state().far.get(&client) {
        return Some(far.clone());
    }
    let far = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.ok()?;
    far.connect(shared.target).await.ok()?;
    let far = Arc::new(far);
    shared.state().far.insert(client, far.clone());
    // It ends when the client has moved on: then nobody else holds the socket.
    let (weak, arrived) = (Arc::downgrade(&far), arrived.clone());
    tokio::spawn(async move {
        let mut buffer = vec![0; DATAGRAM_MAX];
        while let Some(far) = weak.upgrade() {
            let read = tokio::time::timeout(Duration::from_millis(100), far.recv(&mut buffer)).await;
            let still = Arc::strong_count(&far) > 1;
            match read {
                Ok(Ok(length)) if still => {
                    let datagram = Datagram { client, bytes: buffer[..length].to_vec() };
                    if arrived.send((Direction::Down, datagram)).await.is_err() {
                        return;
                    }
                }
                // Nobody listens there just now.
                Ok(Err(_)) => tokio::time::sleep(Duration::from_millis(1)).await,
                _ => {}
            }
        }
    });
    Some(far)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::processes::until;

    /// An address that sends back what it gets, with the address from which it came.
    fn echo() -> (SocketAddr, Arc<std::net::UdpSocket>) {
        let socket = Arc::new(std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
        let (address, other) = (socket.local_addr().unwrap(), socket.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 2_048];
            while let Ok((length, from)) = other.recv_from(&mut buffer) {
                if &buffer[..length] == b"end" {
                    return;
                }
                let _ = other.send_to(&[from.to_string().as_bytes(), b" ", &buffer[..length]].concat(), from);
            }
        });
        (address, socket)
    }

    fn client(proxy: &UdpProxy) -> std::net::UdpSocket {
        let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(proxy.address()).unwrap();
        client.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        client
    }

    /// Asks until there is an answer: who came, as the far side saw it.
    fn ask(client: &std::net::UdpSocket, what: &str) -> String {
        until("an answer", || {
            client.send(what.as_bytes()).unwrap();
            let mut buffer = [0; 2_048];
            let length = client.recv(&mut buffer).map_err(|error| error.to_string())?;
            let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let (from, said) = answer.split_once(' ').unwrap();
            if said == what { Ok(from.to_owned()) } else { Err(answer) }
        })
    }

    #[test]
    fn datagrams_go_through_and_clients_that_move_come_from_elsewhere() {
        let (target, socket) = echo();
        let proxy = UdpProxy::start(target, 1);
        let (one, other) = (client(&proxy), client(&proxy));
        let (first, second) = (ask(&one, "a"), ask(&other, "b"));
        assert_ne!(first, second);
        assert_eq!(ask(&one, "c"), first);
        proxy.move_clients();
        let moved = ask(&one, "d");
        assert_ne!(moved, first);
        assert!(proxy.far_addresses().iter().any(|address| address.to_string() == moved));
        socket.send_to(b"end", target).unwrap();
    }

    #[test]
    fn a_cut_way_carries_nothing_and_what_was_recorded_can_be_sent_again() {
        let (target, socket) = echo();
        let proxy = UdpProxy::start(target, 1);
        let client = client(&proxy);
        ask(&client, "before");
        proxy.set(Direction::Down, Faults { cut: true, ..Faults::default() });
        proxy.record();
        client.send(b"one way").unwrap();
        let lost = proxy.counts(Direction::Down).lost;
        until("its answer is lost", || match proxy.counts(Direction::Down).lost {
            now if now > lost => Ok(()),
            now => Err(now.to_string()),
        });
        assert_eq!(proxy.recorded(), [b"one way".to_vec()]);
        proxy.cut(true);
        client.send(b"no way").unwrap();
        until("it is lost", || match proxy.counts(Direction::Up).lost {
            1.. => Ok(()),
            now => Err(now.to_string()),
        });
        proxy.cut(false);
        ask(&client, "after");
        let listener = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        send_again(listener.local_addr().unwrap(), &[b"again".to_vec()]);
        let mut buffer = [0; 16];
        assert_eq!(listener.recv(&mut buffer).unwrap(), 5);
        socket.send_to(b"end", target).unwrap();
    }
}
