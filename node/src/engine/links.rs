//! Links: who is at the other end, whether it may talk to us, and one session for each incarnation of it.

use stallmesh_protocol::replica::{Channel as ReplicaChannel, SessionId, keeps_link};
use stallmesh_protocol::{DeviceId, Incarnation, wire};

use super::join::JoinState;
use super::peers::Ending;
use super::{Effect, Engine, HoldingsView, META_CLONES, Notice};
use crate::link::{Admission, Channel, LinkCommand, LinkEvent, LinkId, Road};
use crate::phases;
use crate::store::{Store, StoreError, Table};

/// How long a link may stay without becoming a session, in milliseconds: a join through slow neighbours takes a while.
const STRANGER_MS: u64 = 120_000;
/// Links that a peer may open beside its first one: it closes what it doesn't want, an honest one at once.
const TWINS_MAX: usize = 4;

/// Bytes of a session that are kept until it is open on this side, too: a member may hear that a new device belongs before
/// the device does; and its bulk stream doesn't wait for the greeting, which a lost packet may hold up.
const EARLY_BYTES_MAX: usize = 1024 * 1024;

/// One live link.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) peer: DeviceId,
    pub(crate) road: Road,
    pub(crate) dialled: bool,
    pub(crate) address: String,
    pub(crate) up_at: u64,
    /// Its transport finds out when the peer is gone.
    notices_silence: bool,
    /// A replication session is open on it.
    pub(crate) session: bool,
    /// Both sides have greeted.
    pub(crate) greeted: bool,
    /// The peer gets `control` alone.
    pub(crate) restricted: bool,
    pub(crate) incarnation: Option<Incarnation>,
    pub(crate) status: wire::Status,
    pub(crate) join: JoinState,
    /// Frames that came too early.
    early: Vec<(Channel, Vec<u8>)>,
    /// It ends for what the peer sent.
    at_fault: bool,
}

impl<S: Store> Engine<S> {
    pub(crate) fn handle_link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up { link, peer, road, dialled, address, notices_silence } => {
                self.link_up(link, peer, road, dialled, address, notices_silence);
            }
            LinkEvent::Frame { link, channel, frame } => self.frame(link, channel, &frame),
            LinkEvent::Sent { link, channel, bytes } => {
                if channel == Channel::Bulk
                    && let Some(replica) = &mut self.replica
                {
                    let holdings = HoldingsView { logs: &self.logs, overlay: &self.overlay };
                    replica.handle_sent(SessionId(link.0), ReplicaChannel::Bulk, bytes, &holdings);
                    self.custody.room_was_made();
                }
            }
            LinkEvent::Submitted { link, peer, frame } => self.submitted(link, peer, &frame),
            LinkEvent::Answered { frame, .. } => self.submission_answered(&frame),
            LinkEvent::Down { link, reason } => self.link_down(link, &reason),
            LinkEvent::Discovered { peer, address } => self.hear_of(peer, address, true),
            LinkEvent::DiscoveryRenewed => self.book.discovery_renewed(),
            LinkEvent::DialFailed { road, address, reason } => self.dial_failed(road, &address, &reason),
            LinkEvent::Listening { road, address } => {
                self.listening.insert((road, address));
                self.tell_addresses();
            }
        }
    }

    fn tell_addresses(&mut self) {
        let mesh = self.listening.iter().filter(|(road, _)| *road == Road::Mesh).map(|(_, address)| address.clone());
        let addresses: Vec<String> = mesh.chain(self.settings.advertise.iter().cloned()).take(8).collect();
        if let Some(replica) = &mut self.replica {
            replica.set_addresses(addresses);
        }
    }

    fn link_up(
        &mut self,
        link: LinkId,
        peer: DeviceId,
        road: Road,
        dialled: bool,
        address: String,
        notices_silence: bool,
    ) {
        tracing::debug!(peer = %peer.short(), ?road, dialled, %address, "link up");
        self.book.connected(peer, road, dialled.then_some(address.as_str()));
        let state = Link {
            peer,
            road,
            dialled,
            address,
            up_at: self.now.monotonic_ms,
            notices_silence,
            session: false,
            greeted: false,
            restricted: false,
            incarnation: None,
            status: wire::Status::default(),
            join: JoinState::default(),
            early: Vec::new(),
            at_fault: false,
        };
        self.links.insert(link, state);
        if peer == self.device.id() && road == Road::Mesh {
            // A copy of this device's disk, on another machine: it is talked to, so that both find out.
            tracing::warn!("another process answers under this device's own key");
        }
        if self.is_member() && self.views.membership.is_known(&peer) {
            self.open_session(link);
        }
        // Also to a peer that is known as a member: it may not know that yet.
        if dialled {
            self.send_join_hello(link);
        }
        self.notice(Notice::Links);
    }

    /// A member's link begins to replicate. A revoked or expired one gets `control` alone.
    pub(crate) fn open_session(&mut self, link: LinkId) {
        self.tell_addresses();
        let nonce = self.random_bytes();
        let now = self.now.monotonic_ms;
        let status = self.status_now();
        let Some((peer, notices_silence)) =
            self.links.get(&link).filter(|state| !state.session).map(|state| (state.peer, state.notices_silence))
        else {
            return;
        };
        let restricted = self.is_restricted(&peer);
        let (Some(state), Some(replica)) = (self.links.get_mut(&link), &mut self.replica) else { return };
        state.session = true;
        state.restricted = restricted;
        replica.set_status(status);
        replica.open_session(SessionId(link.0), peer, restricted, nonce, now);
        if !notices_silence {
            replica.ping(SessionId(link.0));
        }
        self.early_frames(link, |channel| channel == Channel::Live);
    }

    /// Hands over what came too early.
    fn early_frames(&mut self, link: LinkId, now: impl Fn(Channel) -> bool) {
        let Some(state) = self.links.get_mut(&link) else { return };
        let (ripe, later) = std::mem::take(&mut state.early).into_iter().partition(|(channel, _)| now(*channel));
        state.early = later;
        let ripe: Vec<(Channel, Vec<u8>)> = ripe;
        ripe.iter().for_each(|(_, frame)| self.session_frame(link, frame));
    }

    fn frame(&mut self, link: LinkId, channel: Channel, frame: &[u8]) {
        self.received_bytes += frame.len() as u64;
        match channel {
            Channel::Join => self.join_frame(link, frame),
            Channel::Live | Channel::Bulk => {
                let Some(state) = self.links.get_mut(&link) else { return };
                if state.session && (state.greeted || channel == Channel::Live) {
                    return self.session_frame(link, frame);
                }
                if !state.session && !self.views.membership.is_known(&state.peer) {
                    return;
                }
                let kept: usize = state.early.iter().map(|(_, frame)| frame.len()).sum();
                if kept + frame.len() > EARLY_BYTES_MAX {
                    return self.close_for_fault(link, "E_TOO_LARGE: too much before its greeting".into());
                }
                state.early.push((channel, frame.to_vec()));
            }
        }
    }

    fn session_frame(&mut self, link: LinkId, frame: &[u8]) {
        if let Some(replica) = &mut self.replica {
            let holdings = HoldingsView { logs: &self.logs, overlay: &self.overlay };
            replica.handle_frame(SessionId(link.0), frame, self.now.monotonic_ms, &holdings);
        }
    }

    fn link_down(&mut self, link: LinkId, reason: &str) {
        let Some(state) = self.links.remove(&link) else { return };
        tracing::debug!(peer = %state.peer.short(), road = ?state.road, reason, "link down");
        if let Some(replica) = &mut self.replica {
            replica.close_session(SessionId(link.0));
        }
        self.custody.forget_session(SessionId(link.0));
        self.branches_tried.retain(|(session, ..)| session.0 != link.0);
        self.divergences.retain(|(session, ..), _| session.0 != link.0);
        self.custody.mark_all();
        let still = self.links.values().any(|other| other.peer == state.peer && other.road == state.road);
        let now = self.now.monotonic_ms;
        let ending = Ending::after(now.saturating_sub(state.up_at), !state.session || state.at_fault);
        self.book.disconnected(state.peer, state.road, &state.address, still, ending, now);
        self.update_status();
        self.dial();
        self.notice(Notice::Links);
    }

    /// Ends a link for what the peer sent on it: it is not dialled again at once, or whoever breaks the protocol on every
    /// link would be worth four handshakes a second.
    pub(crate) fn close_for_fault(&mut self, link: LinkId, reason: String) {
        if let Some(state) = self.links.get_mut(&link) {
            state.at_fault = true;
        }
        self.close_link(link, reason);
    }

    pub(crate) fn close_link(&mut self, link: LinkId, reason: String) {
        if let Some(state) = self.links.get(&link) {
            tracing::info!(peer = %state.peer.short(), %reason, "closing a link");
            let road = state.road;
            self.effects.push(Effect::Link(road, LinkCommand::Close { link, reason }));
        }
    }

    pub(crate) fn greeted(&mut self, session: SessionId, incarnation: Incarnation, addresses: Vec<String>) {
        let link = LinkId(session.0);
        let Some(state) = self.links.get_mut(&link) else { return };
        state.greeted = true;
        phases::reached("greeted");
        state.incarnation = Some(incarnation);
        let (peer, road, dialled) = (state.peer, state.road, state.dialled);
        for address in addresses.into_iter().take(8) {
            self.hear_of(peer, address, false);
        }
        self.remember_peer(peer);
        // One connection a session: (device, incarnation). Both sides choose the same one without asking.
        let twins: Vec<(LinkId, bool)> = self
            .links
            .iter()
            .filter(|(other, state)| {
                **other != link && state.peer == peer && state.road == road && state.incarnation == Some(incarnation)
            })
            .map(|(other, state)| (*other, state.dialled))
            .collect();
        let closing = twins.first().and_then(|(other, other_dialled)| match (dialled, *other_dialled) {
            // Two that one side dialled: that side knows which came first, and the other leaves it to it, within reason.
            (true, true) => Some(link.min(*other)),
            (false, false) => (twins.len() >= TWINS_MAX).then_some(*other),
            (this, _) if keeps_link(&self.device.id(), &peer, this) => Some(*other),
            _ => Some(link),
        });
        if let Some(closing) = closing {
            self.close_link(closing, "a second connection of one session".into());
        }
        self.update_status();
        self.session_began(session, peer, incarnation);
        self.heard_of(&peer);
        self.early_frames(link, |_| true);
        self.notice(Notice::Links);
    }

    pub(crate) fn peer_status(&mut self, session: SessionId, status: wire::Status) {
        if let Some(state) = self.links.get_mut(&LinkId(session.0)) {
            state.status = status;
            self.custody.mark_all();
        }
        // Who has a way out tells how far this node is from one.
        self.update_status();
    }

    pub(crate) fn update_status(&mut self) {
        if self.update_ways() {
            self.custody.mark_all();
        }
        let status = self.status_now();
        if let Some(replica) = &mut self.replica {
            replica.set_status(status);
        }
    }

    pub(crate) fn peer_of(&self, session: SessionId) -> Option<DeviceId> {
        self.links.get(&LinkId(session.0)).map(|link| link.peer)
    }

    pub(crate) fn link_timeout(&self) -> Option<u64> {
        self.links.values().filter(|link| !link.session).map(|link| link.up_at + STRANGER_MS).min()
    }

    pub(crate) fn link_timeouts(&mut self) {
        let now = self.now.monotonic_ms;
        let late: Vec<LinkId> = self
            .links
            .iter()
            .filter(|(_, state)| !state.session && state.up_at + STRANGER_MS <= now)
            .map(|(link, _)| *link)
            .collect();
        for link in late {
            if let Some(state) = self.links.get_mut(&link) {
                state.up_at = now;
            }
            self.close_link(link, "E_NOT_MEMBER: it didn't join in time".into());
        }
    }

    /// Takes in what changed about members: who is admitted, whose links end, who may be told.
    pub(crate) fn refresh(&mut self) {
        if !self.views.refresh() {
            return;
        }
        self.books.reconciled = None;
        self.settle_forks();
        self.take_up();
        if let Some(time) = self.views.coverage.time() {
            self.witness_time(time);
        }
        let devices: Vec<DeviceId> = self.views.membership.devices().copied().collect();
        for device in devices {
            if self.admitted.insert(device) {
                self.book.certified(&device);
                let admit = LinkCommand::Admit { device, admission: Admission::Member };
                self.effects.push(Effect::Link(Road::Mesh, admit.clone()));
                self.effects.push(Effect::Link(Road::Uplink, admit));
                self.notice(Notice::Members);
            }
        }
        self.shut_out_former_members();
        let member = self.is_member();
        if member && self.joined_at.is_none() {
            self.joined();
        }
        let links: Vec<(LinkId, DeviceId, bool)> =
            self.links.iter().map(|(link, state)| (*link, state.peer, state.session)).collect();
        for (link, peer, session) in links {
            let known = self.views.membership.is_known(&peer);
            if member && known && !session {
                self.welcome(link);
            }
            if session {
                self.judge_session(link);
            }
        }
        self.custody.mark_all();
        self.carry_out_erasures();
        self.check_clones();
        self.check_hubs();
        self.after_refresh();
    }

    /// Two checkpoints of one number that a hub signed: no honest one can, and these two prove it to anybody.
    fn check_hubs(&mut self) {
        let contradictions: Vec<_> = self.views.coverage.contradictions().collect();
        for (one, other) in contradictions {
            let number = self.views.coverage.get(&one).map_or(0, |checkpoint| checkpoint.number);
            self.alarm(format!(
                "the hub tells two stories: it signed checkpoints {one} and {other}, both with number {number}. Keep \
                 this device's data, and show it to whoever you trust to judge"
            ));
        }
    }

    /// Whoever was a member by an entry that no longer counts (on a lost branch, beyond a line) is a stranger again.
    fn shut_out_former_members(&mut self) {
        let membership = &self.views.membership;
        let former: Vec<DeviceId> =
            self.admitted.iter().copied().filter(|device| !membership.is_known(device)).collect();
        for device in former {
            self.admitted.remove(&device);
            let admit = LinkCommand::Admit { device, admission: Admission::Stranger };
            self.effects.push(Effect::Link(Road::Mesh, admit.clone()));
            self.effects.push(Effect::Link(Road::Uplink, admit));
            self.notice(Notice::Members);
            let links: Vec<LinkId> = self
                .links
                .iter()
                .filter(|(_, state)| state.peer == device && state.session)
                .map(|(link, _)| *link)
                .collect();
            for link in links {
                self.close_link(link, "E_NOT_MEMBER: the certificate of this device has no effect any more".into());
            }
        }
    }

    fn check_clones(&mut self) {
        let devices: Vec<DeviceId> = self.views.membership.devices().copied().collect();
        devices.into_iter().for_each(|device| self.check_clones_of(device));
    }

    /// Tells of two copies of a device, and keeps that they were seen.
    pub(crate) fn check_clones_of(&mut self, device: DeviceId) {
        let Some((one, other)) = self.views.clones(&device) else { return };
        if self.views.note_clones(device, (one, other)) {
            let key = [META_CLONES, device.as_bytes().as_slice()].concat();
            self.overlay.put(Table::Meta, key, [one.as_bytes().as_slice(), other.as_bytes()].concat());
        }
        let name = self.views.membership.certificate(&device).map(|c| c.name.clone()).unwrap_or_default();
        self.alarm(clone_alarm(&device, &name, &one, &other));
    }

    pub(crate) fn load_clones(&mut self) -> Result<(), StoreError> {
        for (key, value) in self.overlay.scan_prefix(Table::Meta, META_CLONES)? {
            let device = key.get(META_CLONES.len()..).and_then(|device| DeviceId::try_from(device).ok());
            let incarnation = |bytes: Option<&[u8]>| bytes?.try_into().ok().map(Incarnation::from_bytes);
            if let (Some(device), Some(one), Some(other)) =
                (device, incarnation(value.get(..16)), incarnation(value.get(16..)))
            {
                self.views.note_clones(device, (one, other));
            }
        }
        Ok(())
    }
}

/// What people are told of a cloned device.
pub(crate) fn clone_alarm(device: &DeviceId, name: &str, one: &Incarnation, other: &Incarnation) -> String {
    format!(
        "two copies of device {} ({name}) are running: incarnations {} and {}. Both sides' sales stand; stop one of \
         them and join it anew",
        device.short(),
        one.short(),
        other.short()
    )
}
