//! Frames on byte streams: a length of four bytes, big endian, and then the frame. Each side writes on streams that it
//! opened itself and reads on those that the peer opened, so nobody has to agree on who opens what.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::{Channel, LinkEvent, LinkEvents, LinkId};

/// A frame that was begun must be whole within this time: a peer that trickles bytes holds no place for long.
const FRAME_DEADLINE: Duration = Duration::from_secs(10);
/// Bytes that wait on one link before it is given up. The engine keeps far less under way.
const QUEUE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// More waits on a link than it will ever get rid of.
#[derive(Debug)]
pub(crate) struct QueueFull;

/// Frames that wait to be written on one channel of one link.
#[derive(Clone, Debug, Default)]
pub(crate) struct FrameQueue(Arc<QueueInner>);

#[derive(Debug, Default)]
struct QueueInner {
    state: Mutex<QueueState>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct QueueState {
    frames: VecDeque<Vec<u8>>,
    bytes: usize,
    closed: bool,
}

impl FrameQueue {
    fn state(&self) -> std::sync::MutexGuard<'_, QueueState> {
        // Nothing that holds the lock can panic half-way.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a frame.
    pub(crate) fn push(&self, frame: Vec<u8>) -> Result<(), QueueFull> {
        let mut state = self.state();
        if state.bytes + frame.len() > QUEUE_BYTES_MAX {
            return Err(QueueFull);
        }
        state.bytes += frame.len();
        state.frames.push_back(frame);
        drop(state);
        self.0.changed.notify_one();
        Ok(())
    }

    /// No more frames come; writers end.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.0.changed.notify_one();
    }

    /// The next frame; `None` once the queue is closed.
    async fn pop(&self) -> Option<Vec<u8>> {
        loop {
            {
                let mut state = self.state();
                if state.closed {
                    return None;
                }
                if let Some(frame) = state.frames.pop_front() {
                    state.bytes -= frame.len();
                    return Some(frame);
                }
            }
            self.0.changed.notified().await;
        }
    }
}

/// Writes the frames of a queue until it is closed or the stream ends.
pub(crate) async fn write_frames(
    mut stream: impl AsyncWrite + Unpin,
    queue: FrameQueue,
    link: LinkId,
    channel: Channel,
    events: LinkEvents,
) -> io::Result<()> {
    while let Some(frame) = queue.pop().await {
        // Frames are bounded far below 4 GiB by what the engine makes.
        stream.write_all(&(frame.len() as u32).to_be_bytes()).await?;
        stream.write_all(&frame).await?;
        stream.flush().await?;
        if events.send(LinkEvent::Sent { link, channel, bytes: frame.len() }).await.is_err() {
            break;
        }
    }
    stream.shutdown().await
}

/// Reads one frame; none where the stream ends before it, and why the link must end where it breaks the rules.
pub(crate) async fn read_frame(
    mut stream: impl AsyncRead + Unpin,
    bytes_max: usize,
) -> Result<Option<Vec<u8>>, String> {
    let mut prefix = [0; 4];
    // Between two frames a stream may end.
    if stream.read_exact(&mut prefix[..1]).await.is_err() {
        return Ok(None);
    }
    let rest = async {
        stream.read_exact(&mut prefix[1..]).await.map_err(|error| error.to_string())?;
        let length = u32::from_be_bytes(prefix) as usize;
        if length == 0 {
            return Err("E_EMPTY: an empty frame".to_owned());
        }
        if length > bytes_max {
            return Err(format!("E_TOO_LARGE: a frame of {length} bytes"));
        }
        // Memory grows with what arrives, not with what is claimed.
        let mut frame = Vec::new();
        (&mut stream).take(length as u64).read_to_end(&mut frame).await.map_err(|error| error.to_string())?;
        if frame.len() < length {
            return Err("E_TRUNCATED: a frame that ends early".to_owned());
        }
        Ok(Some(frame))
    };
    match timeout(FRAME_DEADLINE, rest).await {
        Ok(frame) => frame,
        Err(_) => Err("E_SLOW: a frame that doesn't end".to_owned()),
    }
}

/// Reads frames until the stream ends, or breaks the rules: then the reason why the link must end.
pub(crate) async fn read_frames(
    mut stream: impl AsyncRead + Unpin,
    link: LinkId,
    channel: Channel,
    events: LinkEvents,
) -> Result<(), String> {
    while let Some(frame) = read_frame(&mut stream, channel.frame_max()).await? {
        if events.send(LinkEvent::Frame { link, channel, frame }).await.is_err() {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    async fn read(bytes: Vec<u8>) -> (Result<(), String>, Vec<LinkEvent>) {
        let (events, mut received) = tokio::sync::mpsc::channel(16);
        let result = read_frames(bytes.as_slice(), LinkId(1), Channel::Live, events).await;
        let mut all = Vec::new();
        while let Ok(event) = received.try_recv() {
            all.push(event);
        }
        (result, all)
    }

    #[tokio::test]
    async fn frames_arrive_whole_and_bad_lengths_end_the_link() {
        let (events, mut received) = tokio::sync::mpsc::channel(16);
        let queue = FrameQueue::default();
        queue.push(b"one".to_vec()).unwrap();
        queue.push(b"two".to_vec()).unwrap();
        let mut wire = Vec::new();
        {
            let writing = write_frames(&mut wire, queue.clone(), LinkId(1), Channel::Live, events);
            let closing = async {
                for _ in 0..2 {
                    received.recv().await.unwrap();
                }
                queue.close();
            };
            let (written, ()) = tokio::join!(writing, closing);
            written.unwrap();
        }
        let (result, all) = read(wire.clone()).await;
        assert_eq!((result, all.len()), (Ok(()), 2));
        for cut in 1..wire.len() {
            let (result, _) = read(wire[..cut].to_vec()).await;
            // Exactly between two frames it may end.
            assert_eq!(result.is_ok(), cut == 7, "cut at {cut}");
        }
        assert!(read(vec![0, 0, 0, 0]).await.0.is_err_and(|reason| reason.starts_with("E_EMPTY")));
        assert!(read(vec![0xff; 4]).await.0.is_err_and(|reason| reason.starts_with("E_TOO_LARGE")));
    }

    #[tokio::test]
    async fn adv_004_a_frame_of_the_largest_size_is_taken_and_one_byte_more_is_not() {
        for channel in Channel::ALL {
            let largest = channel.frame_max();
            let (events, mut received) = tokio::sync::mpsc::channel(16);
            let whole = [&(largest as u32).to_be_bytes()[..], &vec![7; largest]].concat();
            assert_eq!(read_frames(whole.as_slice(), LinkId(1), channel, events.clone()).await, Ok(()));
            assert!(matches!(received.try_recv(), Ok(LinkEvent::Frame { frame, .. }) if frame.len() == largest));
            // What is refused is refused by its prefix alone.
            for (prefix, word) in [(largest as u32 + 1, "E_TOO_LARGE"), (u32::MAX, "E_TOO_LARGE"), (0, "E_EMPTY")] {
                let refused = read_frames(prefix.to_be_bytes().as_slice(), LinkId(1), channel, events.clone()).await;
                assert!(refused.is_err_and(|reason| reason.starts_with(word)), "{prefix} on {channel:?}");
            }
            // What is claimed and doesn't come costs what has come.
            let cut = [&(largest as u32).to_be_bytes()[..], &[1; 4]].concat();
            let refused = read_frames(cut.as_slice(), LinkId(1), channel, events.clone()).await;
            assert!(refused.is_err_and(|reason| reason.starts_with("E_TRUNCATED")));
            assert!(received.try_recv().is_err());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn adv_103_a_frame_that_trickles_ends_the_link() {
        let (mut ours, theirs) = tokio::io::duplex(64);
        let (events, _received) = tokio::sync::mpsc::channel(16);
        let reading = tokio::spawn(read_frames(theirs, LinkId(1), Channel::Live, events));
        ours.write_all(&[0, 0, 0, 9, 1]).await.unwrap();
        assert!(reading.await.unwrap().is_err_and(|reason| reason.starts_with("E_SLOW")));
    }

    #[test]
    fn a_queue_that_nobody_empties_is_given_up() {
        let queue = FrameQueue::default();
        let pushed = (0..100).take_while(|_| queue.push(vec![0; 1024 * 1024]).is_ok()).count();
        assert_eq!(pushed, 16);
    }
}
