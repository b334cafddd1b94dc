//! The streams of a connection: channels, and the one on which entries are handed in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quinn::{Connection, RecvStream, SendStream, VarInt};
use stallmesh_protocol::DeviceId;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use super::{Gate, HANDSHAKE, Report};
use crate::link::{Channel, FrameQueue, LinkEvent, LinkEvents, LinkId, read_frame, read_frames, write_frames};

/// A peer that hasn't admitted us yet resets the stream; it is opened again after this time, then less often.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);
/// The first byte of the stream on which entries are handed in.
const SUBMIT: u8 = 3;
/// Frames on it, and the bytes of each: what fits a first flight with room to spare.
const SUBMIT_FRAMES_MAX: usize = 64;
const SUBMIT_FRAME_MAX: usize = 64 * 1024;

/// A stream that a peer has opened.
pub(super) type Streams = (SendStream, RecvStream);

fn channel_byte(channel: Channel) -> u8 {
    match channel {
        Channel::Join => 0,
        Channel::Live => 1,
        Channel::Bulk => 2,
    }
}

/// Takes what comes on the streams of one connection.
#[derive(Clone)]
pub(super) struct Desk {
    link: LinkId,
    gate: Gate,
    events: LinkEvents,
    pub(super) reports: mpsc::UnboundedSender<Report>,
    /// Entries were handed in: once a connection.
    submitted: Arc<AtomicBool>,
}

impl Desk {
    pub(super) fn new(link: LinkId, gate: Gate, events: LinkEvents, reports: mpsc::UnboundedSender<Report>) -> Self {
        Desk { link, gate, events, reports, submitted: Arc::default() }
    }

    pub(super) fn link(&self) -> LinkId {
        self.link
    }

    pub(super) fn is_member(&self, device: &DeviceId) -> bool {
        self.gate.is_member(device)
    }

    /// Takes the streams that a peer opens, until the connection ends; why it ended. `waiting`: those that it had opened
    /// before.
    pub(super) async fn serve(self, connection: Connection, peer: DeviceId, waiting: Vec<Streams>) -> String {
        waiting.into_iter().for_each(|streams| self.spawn(&connection, streams, peer, false));
        loop {
            match connection.accept_bi().await {
                Ok(streams) => self.spawn(&connection, streams, peer, false),
                Err(error) => return error.to_string(),
            }
        }
    }

    /// Takes one stream. `early`: the handshake hasn't ended, and whoever sends this may be repeating what another sent.
    pub(super) fn spawn(&self, connection: &Connection, streams: Streams, peer: DeviceId, early: bool) {
        let (desk, connection) = (self.clone(), connection.clone());
        tokio::spawn(async move {
            let (send, receive) = streams;
            if let Err(reason) = desk.take(send, receive, &peer, early).await {
                // Before the handshake has ended the reason would not arrive, and the next one may be honest.
                if !early {
                    connection.close(VarInt::from_u32(3), reason.as_bytes());
                }
            }
        });
    }

    async fn take(
        self,
        mut send: SendStream,
        mut receive: RecvStream,
        peer: &DeviceId,
        early: bool,
    ) -> Result<(), String> {
        let mut name = [0];
        let named = tokio::time::timeout(HANDSHAKE, receive.read_exact(&mut name)).await;
        let named = matches!(named, Ok(Ok(())));
        let member = self.gate.is_member(peer);
        if named && name[0] == SUBMIT && member && !self.submitted.swap(true, Ordering::Relaxed) {
            return self.submission(send, receive, *peer).await;
        }
        let channel = Channel::ALL.into_iter().find(|channel| channel_byte(*channel) == name[0]);
        let allowed = channel.filter(|channel| !early && (*channel == Channel::Join || member));
        let (true, Some(channel)) = (named, allowed) else {
            // As if it did not exist: a stranger learns nothing about what there is.
            let _ = receive.stop(VarInt::from_u32(0));
            let _ = send.reset(VarInt::from_u32(0));
            return Ok(());
        };
        send.write_all(&[1]).await.map_err(|error| error.to_string())?;
        let _ = send.finish();
        read_frames(receive, self.link, channel, self.events).await
    }

    /// Entries that are handed in, as soon as each is whole.
    async fn submission(self, send: SendStream, mut receive: RecvStream, peer: DeviceId) -> Result<(), String> {
        let answers = FrameQueue::default();
        let _ = self.reports.send(Report::Submitting { link: self.link, answers: answers.clone() });
        tokio::spawn(write_frames(send, answers, self.link, Channel::Live, self.events.clone()));
        for _ in 0..SUBMIT_FRAMES_MAX {
            let Some(frame) = read_frame(&mut receive, SUBMIT_FRAME_MAX).await? else { break };
            if self.events.send(LinkEvent::Submitted { link: self.link, peer, frame }).await.is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// Hands entries in; what comes back are the answers. None where there are none, or the stream can't be opened.
pub(super) async fn submit(connection: &Connection, frames: &[Vec<u8>]) -> Option<RecvStream> {
    if frames.is_empty() {
        return None;
    }
    let (mut send, answers) = connection.open_bi().await.ok()?;
    let mut bytes = vec![SUBMIT];
    for frame in frames.iter().take(SUBMIT_FRAMES_MAX) {
        // The engine makes them far smaller than 4 GiB.
        bytes.extend_from_slice(&(frame.len() as u32).to_be_bytes());
        bytes.extend_from_slice(frame);
    }
    // All at once: they fit the windows that the other end has promised.
    send.write_all(&bytes).await.ok()?;
    send.shutdown().await.ok()?;
    Some(answers)
}

/// Reads the answers to what was handed in, until the connection ends.
pub(super) async fn hear_answers(mut answers: RecvStream, peer: DeviceId, events: LinkEvents) {
    for _ in 0..SUBMIT_FRAMES_MAX {
        let Ok(Some(frame)) = read_frame(&mut answers, SUBMIT_FRAME_MAX).await else { return };
        if events.send(LinkEvent::Answered { peer, frame }).await.is_err() {
            return;
        }
    }
}

/// Opens a channel, again and again until the peer takes it, and writes its frames.
pub(super) async fn write_channel(
    connection: Connection,
    queue: FrameQueue,
    link: LinkId,
    channel: Channel,
    events: LinkEvents,
) {
    let mut wait = RETRY_MIN;
    while connection.close_reason().is_none() {
        match open_channel(&connection, channel).await {
            Some(send) => {
                wait = RETRY_MIN;
                if write_frames(send, queue.clone(), link, channel, events.clone()).await.is_ok() {
                    return;
                }
            }
            None => {
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(RETRY_MAX);
            }
        }
    }
}

async fn open_channel(connection: &Connection, channel: Channel) -> Option<SendStream> {
    let (mut send, mut receive) = connection.open_bi().await.ok()?;
    send.write_all(&[channel_byte(channel)]).await.ok()?;
    let mut answer = [0];
    receive.read_exact(&mut answer).await.ok()?;
    (answer[0] == 1).then_some(send)
}
