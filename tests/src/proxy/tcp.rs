//! Connections. What is lost or comes twice is the system's to mend, so of the faults those of a stream remain: delay, a
//! rate, a cut that lets nothing through, and an end in the middle.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::thread::Thread;
use super::{Direction, Faults};

/// Bytes that are read at once, and chunks of them that wait.
const CHUNK: usize = 4_096;
const CHUNKS_MAX: usize = 256;

#[derive(Debug, Default)]
struct State {
    up: Faults,
    down: Faults,
    /// How often all connections were ended.
    ends: u64,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self, direction: Direction) -> Faults {
        let state = self.state();
        if direction == Direction::Up { state.up } else { state.down }
    }

    /// Waits until something is set, or for a while: whoever came too late looks again.
    async fn change(&self) {
        let _ = tokio::time::timeout(Duration::from_millis(20), self.changed.notified()).await;
    }
}

/// Stands before a TCP address on loopback.
#[derive(Debug)]
pub struct TcpProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Ends with it.
    _thread: Thread,
}

impl TcpProxy {
    /// Begins to pass on what comes, without a fault.
    ///
    /// # Panics
    /// No socket, or no thread.
    pub fn start(target: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok((listener.local_addr()?, listener))
        });
        let (address, listener) = listener.unwrap_or_else(|error| panic!("a socket for the proxy: {error}"));
        let shared = Arc::new(Shared::default());
        let inside = shared.clone();
        let thread = Thread::run(move || async move {
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(connect(near, target, inside.clone()));
            }
        });
        TcpProxy { address, shared, _thread: thread }
    }

    /// Where whoever dials goes.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on: its cut, delay and rate.
    pub fn set(&self, direction: Direction, faults: Faults) {
        let mut state = self.shared.state();
        match direction {
            Direction::Up => state.up = faults,
            Direction::Down => state.down = faults,
        }
        drop(state);
        self.shared.changed.notify_waiters();
    }

    /// From now on, both ways.
    pub fn set_both(&self, faults: Faults) {
        self.set(Direction::Up, faults);
        self.set(Direction::Down, faults);
    }

    /// All connections end, in the middle of whatever they carry.
    pub fn end_all(&self) {
        self.shared.state().ends += 1;
        self.shared.changed.notify_waiters();
    }
}

async fn connect(near: TcpStream, target: SocketAddr, shared: Arc<Shared>) {
    let Ok(far) = TcpStream::connect(target).await else { return };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let begun = shared.state().ends;
    let ended = async {
        while shared.state().ends == begun {
            shared.change().await;
        }
    };
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    tokio::select! {
        _ = async { tokio::join!(
            pass(near_read, far_write, Direction::Up, &shared),
            pass(far_read, near_write, Direction::Down, &shared),
        ) } => {}
        () = ended => {}
    }
}

async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    direction: Direction,
    shared: &Shared,
) {
    let (sender, mut chunks) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS_MAX);
    let reading = async move {
        loop {
            let mut chunk = vec![0; CHUNK];
            match from.read(&mut chunk).await {
                Ok(length @ 1..) => chunk.truncate(length),
                _ => return,
            }
            if sender.send((Instant::now(), chunk)).await.is_err() {
                return;
            }
        }
    };
    let writing = async {
        while let Some((came, chunk)) = chunks.recv().await {
            tokio::time::sleep_until(came + shared.faults(direction).delay).await;
            while shared.faults(direction).cut {
                shared.change().await;
            }
            let takes = (chunk.len() as u64 * 1_000_000_000).checked_div(shared.faults(direction).rate);
            if let Some(takes) = takes {
                tokio::time::sleep(Duration::from_nanos(takes)).await;
            }
            if to.write_all(&chunk).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(reading, writing);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::{Read, Write};

    use super::*;

    fn echo() -> SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                std::thread::spawn(move || {
                    let mut other = stream.try_clone().unwrap();
                    let _ = std::io::copy(&mut stream, &mut other);
                });
            }
        });
        address
    }

    #[test]
    fn bytes_go_through_whole_later_and_not_at_all_while_it_is_cut() {
        let proxy = TcpProxy::start(echo());
        let mut stream = std::net::TcpStream::connect(proxy.address()).unwrap();
        let bytes: Vec<u8> = (0..100_000_u32).map(|number| (number % 251) as u8).collect();
        let mut writer = stream.try_clone().unwrap();
        let sent = bytes.clone();
        let writing = std::thread::spawn(move || writer.write_all(&sent).unwrap());
        let mut back = vec![0; bytes.len()];
        stream.read_exact(&mut back).unwrap();
        writing.join().unwrap();
        assert!(back == bytes);

        proxy.set_both(Faults::one_way(Duration::from_millis(50)));
        let begun = std::time::Instant::now();
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut back[..1]).unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(100));

        proxy.set(Direction::Up, Faults { cut: true, ..Faults::default() });
        proxy.set(Direction::Down, Faults::default());
        stream.write_all(b"y").unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert!(stream.read(&mut back[..1]).is_err());
        proxy.set_both(Faults::default());
        stream.set_read_timeout(None).unwrap();
        stream.read_exact(&mut back[..1]).unwrap();
        assert_eq!(back[0], b'y');

        proxy.end_all();
        assert!(matches!(stream.read(&mut back), Ok(0) | Err(_)));
        assert!(std::net::TcpStream::connect(proxy.address()).is_ok());
    }
}
