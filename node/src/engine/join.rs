//! Joining: a new device's side, the side of the member that carries its request blind, and the gate between them.
//!
//! ```text
//!   caller                                   callee
//!     hello: shows that it knows the market ──►
//!     ◄── hello: so does the callee
//!     a member: pages that make it one ──►           the callee admits it, and answers with its own
//!     a new device: its sealed request ──►           the callee carries it to the hub
//!     ◄── pages of `control` that make it a member, once the hub has admitted it
//! ```

use std::collections::BTreeSet;

use prost::Message;
use stallmesh_protocol::hash::{Domain, Hasher};
use stallmesh_protocol::invite::Invite;
use stallmesh_protocol::join::{JoinBy, JoinRequest, commitment, short_code};
use stallmesh_protocol::page::PAGE_MAX;
use stallmesh_protocol::payload;
use stallmesh_protocol::{DeviceId, Hash, Kind, Lane, LogName, MarketId, wire};

use super::{Effect, Engine, Failure, FailureCode, META_INVITE, META_OPENING, Notice};
use crate::link::{Channel, LinkCommand, LinkId};
use crate::phases;
use crate::store::{Store, Table};

/// How long a request stays valid, in milliseconds.
const REQUEST_MS: u64 = 24 * 3_600_000;
/// After this time an unanswered request is sent again, then after twice as long each time, up to [`RETRY_MS_MAX`]: on a
/// link nothing is lost, so this is for members that could do nothing with it before.
const RETRY_MS: u64 = 2_000;
const RETRY_MS_MAX: u64 = 32_000;
/// Frames of pages that one link may bring before its peer is a member.
const PAGE_FRAMES_MAX: usize = 64;
/// Requests that one link may bring.
const ASKS_MAX: usize = 4;
/// Bytes of a request; an honest one has some hundreds. Members publish it for all to keep.
const REQUEST_MAX: usize = 8 * 1024;
/// Requests that a member publishes in [`CARRIED_SPAN_MS`]. Whoever knows a market may ask to join it, from as many links
/// and under as many keys as it likes: that must not fill everybody's store. Others carry an honest one meanwhile.
const CARRIED_MAX: usize = 64;
/// An hour: a market that opens at the door of one gateway gets in.
const CARRIED_SPAN_MS: u64 = 3_600_000;

/// What a member has published for strangers, lately.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Carried {
    /// Since when it counts, in monotonic milliseconds.
    since: u64,
    requests: usize,
}

impl Carried {
    /// Whether one more is carried now.
    fn has_room(&mut self, now: u64) -> bool {
        if now >= self.since.saturating_add(CARRIED_SPAN_MS) {
            *self = Carried { since: now, requests: 0 };
        }
        self.requests < CARRIED_MAX
    }
}

/// How far the handshake of a link has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct JoinState {
    hello_sent: bool,
    /// A hello that came before this device knew of any market.
    early: Option<wire::JoinHello>,
    /// The peer has shown that it knows the market.
    verified: bool,
    /// Devices whose membership was proved to the peer.
    proved: BTreeSet<DeviceId>,
    page_frames: usize,
    asks: usize,
    /// Requests that this peer waits for.
    asking: BTreeSet<Hash>,
}

/// This device's own way in.
#[derive(Clone, Debug)]
pub(crate) struct Joining {
    invite: Invite,
    bytes: Vec<u8>,
    name: String,
    stall: String,
    /// Without a right of its own: the nonce that was committed to.
    nonce: Option<[u8; 16]>,
    request: payload::JoinRequest,
    first: Hash,
    /// The code to compare, once the hub has challenged.
    pub(crate) code: String,
    revealed: bool,
    pub(crate) refused: String,
    again_at: u64,
    /// How long the wait after that is.
    retry_ms: u64,
}

impl Joining {
    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        Some(self.again_at)
    }
}

/// Hub: a request without an invite that waits for a person.
#[derive(Clone, Debug)]
pub(crate) struct Asking {
    pub(crate) request: JoinRequest,
    pub(crate) nonce: [u8; 16],
    /// Six digits, once the device has revealed its nonce.
    pub(crate) code: String,
}

impl<S: Store> Engine<S> {
    /// Begins to join with an invite.
    pub(crate) fn begin_joining(&mut self, text: &str, name: &str, asking_for: Option<&str>) -> Result<(), Failure> {
        let (invite, bytes) =
            Invite::from_text(text).map_err(|error| Failure::new(FailureCode::EInvalid, error.to_string()))?;
        if let Some(market) = self.market
            && market.id != invite.market()
        {
            return Err(Failure::new(
                FailureCode::EConflict,
                "this device already belongs to another market: use another --data-dir",
            ));
        }
        if self.is_member() {
            return Err(Failure::new(FailureCode::EConflict, "this device is a member already"));
        }
        // One line for the invite, and where it only names the market a second one for the stall that is asked for.
        let kept = asking_for.map_or_else(|| text.trim().to_owned(), |stall| format!("{}\n{stall}", text.trim()));
        self.overlay.put(Table::Meta, META_INVITE, kept.into_bytes());
        if self.market.is_none() {
            let entered = self.enter_market(invite.root, invite.epoch);
            self.guard(entered);
            self.greet_all();
        }
        self.start_request(invite, bytes, name, asking_for);
        Ok(())
    }

    /// Links that were up before this device knew of a market: now there is something to say on them.
    fn greet_all(&mut self) {
        let links: Vec<(LinkId, bool, Option<wire::JoinHello>)> =
            self.links.iter_mut().map(|(id, link)| (*id, link.dialled, link.join.early.take())).collect();
        for (link, dialled, early) in links {
            if dialled {
                self.send_join_hello(link);
            }
            if let Some(hello) = early {
                let frame = wire::JoinFrame { body: Some(wire::join_frame::Body::Hello(hello)) };
                self.join_frame(link, &frame.encode_to_vec());
            }
        }
    }

    /// After a restart before the join was done.
    pub(crate) fn resume_joining(&mut self, text: &[u8]) {
        if self.is_member() {
            return;
        }
        let Ok(text) = std::str::from_utf8(text) else { return };
        let name = self.settings.name.clone();
        let (text, asking_for) = text.split_once('\n').map_or((text, None), |(text, stall)| (text, Some(stall)));
        if let Ok((invite, bytes)) = Invite::from_text(text) {
            self.start_request(invite, bytes, &name, asking_for);
        }
    }

    fn start_request(&mut self, invite: Invite, bytes: Vec<u8>, name: &str, asking_for: Option<&str>) {
        for address in &invite.hub_addresses {
            self.book.add_hub(address.clone());
        }
        self.remember_hubs();
        self.overlay.put(Table::Meta, META_OPENING, invite.opening_key.to_vec());
        for address in &invite.peers {
            self.book.configure(address.clone());
        }
        let nonce = asking_for.map(|_| self.random_bytes());
        let by = match &nonce {
            Some(nonce) => JoinBy::Asking { commitment: commitment(nonce, &self.device.id()) },
            None => JoinBy::Invite(bytes.clone()),
        };
        let name = if name.is_empty() { invite.name.clone() } else { name.to_owned() };
        let stall = asking_for.unwrap_or(&invite.stall).to_owned();
        let Some((first, request)) = self.seal_request(&invite, &name, &stall, by) else { return };
        self.joining = Some(Joining {
            invite,
            bytes,
            name,
            stall,
            nonce,
            request,
            first,
            code: String::new(),
            revealed: false,
            refused: String::new(),
            again_at: self.now.monotonic_ms + RETRY_MS,
            retry_ms: RETRY_MS,
        });
        self.send_asks();
        self.dial();
    }

    fn seal_request(
        &mut self,
        invite: &Invite,
        name: &str,
        stall: &str,
        by: JoinBy,
    ) -> Option<(Hash, payload::JoinRequest)> {
        let time = self.time();
        let seed = self.random_bytes();
        let request = JoinRequest {
            device: self.device.id(),
            seal_key: self.seal_key.public(),
            name: name.to_owned(),
            by,
            stall: stall.to_owned(),
            time,
        };
        // A key that is none was refused when the invite was read by whoever made it; then there is nothing to ask.
        // Before a checkpoint was seen the own clock may be years off either way; the invite's end is the hub's word.
        let believed = if self.clock.is_anchored() { time } else { time.min(invite.expires) };
        let expires = believed.saturating_add(REQUEST_MS).max(invite.expires);
        let sealed = request.seal(&self.device, &invite.market(), &invite.opening_key, expires, seed).ok()?;
        let id = Hash::try_from(sealed.id.as_slice()).ok()?;
        Some((id, sealed))
    }

    /// Sends the request on every link whose peer knows the market.
    fn send_asks(&mut self) {
        let Some(joining) = &self.joining else { return };
        let ask = wire::JoinAsk { request: payload::encode(&joining.request) };
        let links: Vec<LinkId> =
            self.links.iter().filter(|(_, link)| link.join.verified && !link.session).map(|(id, _)| *id).collect();
        for link in links {
            self.send_join(link, wire::join_frame::Body::Ask(ask.clone()));
        }
    }

    pub(crate) fn joining_tick(&mut self) {
        let now = self.now.monotonic_ms;
        if self.is_member() {
            self.joining = None;
        }
        let due = self.joining.as_ref().is_some_and(|joining| joining.again_at <= now && joining.refused.is_empty());
        if let Some(joining) = &mut self.joining
            && joining.again_at <= now
        {
            joining.retry_ms = (2 * joining.retry_ms).min(RETRY_MS_MAX);
            joining.again_at = now + joining.retry_ms;
        }
        if due {
            self.send_asks();
        }
    }

    /// This device is a member now.
    pub(crate) fn joined(&mut self) {
        self.joined_at = Some(self.now.monotonic_ms);
        self.joining = None;
        // Also said at each start of a member, which has none left.
        let invite = self.overlay.get(Table::Meta, META_INVITE);
        if self.guard(invite).flatten().is_some() {
            self.overlay.delete(Table::Meta, META_INVITE);
        }
        tracing::info!(device = %self.device.id().short(), "this device is a member of the market");
        phases::reached("member");
        self.notice(Notice::Joined);
    }

    pub(crate) fn join_code(&self) -> String {
        self.joining.as_ref().map(|joining| joining.code.clone()).unwrap_or_default()
    }

    pub(crate) fn join_problem(&self) -> String {
        self.joining.as_ref().map(|joining| joining.refused.clone()).unwrap_or_default()
    }

    fn send_join(&mut self, link: LinkId, body: wire::join_frame::Body) {
        let Some(road) = self.links.get(&link).map(|link| link.road) else { return };
        let frame = wire::JoinFrame { body: Some(body) }.encode_to_vec();
        self.sent_bytes += frame.len() as u64;
        self.effects.push(Effect::Link(road, LinkCommand::Send { link, channel: Channel::Join, frame }));
    }

    pub(crate) fn send_join_hello(&mut self, link: LinkId) {
        let Some(market) = self.market else { return };
        let nonce: [u8; 16] = self.random_bytes();
        let Some(state) = self.links.get_mut(&link).filter(|state| !state.join.hello_sent) else { return };
        state.join.hello_sent = true;
        let tag = hello_tag(&market.id, &nonce, &self.device.id());
        let hello = wire::JoinHello { nonce: nonce.to_vec(), tag: tag.to_vec() };
        self.send_join(link, wire::join_frame::Body::Hello(hello));
    }

    pub(crate) fn join_frame(&mut self, link: LinkId, frame: &[u8]) {
        use wire::join_frame::Body;
        let Ok(frame) = wire::JoinFrame::decode(frame) else {
            return self.close_link(link, "E_DECODE: a join frame that can't be decoded".into());
        };
        let Some(state) = self.links.get_mut(&link) else { return };
        let Some(market) = self.market else {
            if let Some(Body::Hello(hello)) = frame.body {
                state.join.early = Some(hello);
            }
            return;
        };
        match frame.body {
            Some(Body::Hello(hello)) => {
                let Ok(nonce) = <[u8; 16]>::try_from(hello.nonce.as_slice()) else { return };
                if hello.tag != hello_tag(&market.id, &nonce, &state.peer) {
                    // Another market on the same network: no malice, and nothing to say to it.
                    return self.close_link(link, "E_WRONG_MARKET: nothing in common".into());
                }
                let (first, dialled) = (!state.join.verified, state.dialled);
                state.join.verified = true;
                if !dialled {
                    self.send_join_hello(link);
                    if first {
                        self.send_asks();
                    }
                } else if first {
                    self.after_hello(link);
                }
            }
            _ if !state.join.verified => self.close_link(link, "E_NOT_MEMBER: say hello first".into()),
            Some(Body::Pages(pages)) => {
                state.join.page_frames += 1;
                if state.join.page_frames > PAGE_FRAMES_MAX {
                    return self.close_link(link, "E_TOO_LARGE: too many pages before a certificate".into());
                }
                self.join_pages(link, &pages);
            }
            Some(Body::Ask(ask)) => {
                state.join.asks += 1;
                if state.join.asks > ASKS_MAX * 250 || state.join.asking.len() >= ASKS_MAX {
                    let answer =
                        wire::JoinAnswer { state: 4, detail: "too many requests".into(), ..Default::default() };
                    return self.send_join(link, Body::Answer(answer));
                }
                self.join_ask(link, &ask.request);
            }
            Some(Body::Answer(answer)) => self.join_answer(&answer),
            None => {}
        }
    }

    /// The caller's move, once both know that they mean the same market. A callee that sees a member in this device has
    /// greeted it before it answered; any other needs the proof, also where the caller knows whom it called.
    fn after_hello(&mut self, link: LinkId) {
        let greeted = self.links.get(&link).is_some_and(|state| state.greeted);
        if !self.is_member() {
            self.send_asks();
        } else if !greeted {
            self.send_proof(link, self.device.id());
        }
    }

    /// Sends the pages of `control` that make a device a member.
    fn send_proof(&mut self, link: LinkId, device: DeviceId) {
        let Some(state) = self.links.get_mut(&link) else { return };
        if !state.join.proved.insert(device) {
            return;
        }
        // A page ends at a signed entry, and what was appended just now isn't signed yet.
        self.sign_heads();
        let mut logs = self.proof_logs(device);
        // Whoever learns here that it is a member must see us as one, too: a hub that has been restarted since has
        // certified the two in logs of their own.
        for log in self.proof_logs(self.device.id()) {
            if !logs.contains(&log) {
                logs.push(log);
            }
        }
        let mut frames: Vec<Vec<wire::Page>> = vec![Vec::new()];
        let mut bytes = 0;
        for log in logs {
            let mut next = 1;
            while let Some(page) = self.read_page(&log, next) {
                next = page.last() + 1;
                let page = page.encode();
                if bytes + page.len() > PAGE_MAX {
                    frames.push(Vec::new());
                    bytes = 0;
                }
                bytes += page.len();
                if let Some(frame) = frames.last_mut() {
                    frame.push(wire::Page { request: 0, log: Some((&log).into()), page, custody: false, unpacked: 0 });
                }
            }
        }
        let last = frames.len() - 1;
        for (index, pages) in frames.into_iter().enumerate() {
            let pages = wire::JoinPages { pages, complete: index == last };
            self.send_join(link, wire::join_frame::Body::Pages(pages));
        }
    }

    fn read_page(&mut self, log: &LogName, from: u64) -> Option<stallmesh_protocol::page::Page> {
        let page = self.logs.page(&self.overlay, log, from, u64::MAX - 1, None, PAGE_MAX);
        self.guard(page).flatten()
    }

    /// The `control` logs that a device's membership follows from, issuers before those they certified.
    fn proof_logs(&self, device: DeviceId) -> Vec<LogName> {
        let membership = &self.views.membership;
        let mut order: Vec<LogName> = Vec::new();
        let mut open = vec![device];
        let mut seen = BTreeSet::new();
        while let Some(next) = open.pop() {
            if !seen.insert(next) {
                continue;
            }
            for at in membership.issued_at(&next) {
                order.push(at.log);
                if at.log.author != membership.root() {
                    open.push(at.log.author);
                }
            }
        }
        order.reverse();
        let mut logs: Vec<LogName> = Vec::new();
        for log in order {
            if !logs.contains(&log) {
                logs.push(log);
            }
        }
        logs.sort_by_key(|log| log.author != membership.root());
        logs
    }

    fn join_pages(&mut self, link: LinkId, pages: &wire::JoinPages) {
        for page in &pages.pages {
            let Some(log) = page.log.as_ref().and_then(wire::LogName::to_domain) else {
                return self.close_link(link, "E_DECODE: a page without a log".into());
            };
            let trusted = self.market.is_some_and(|market| market.root == log.author)
                || self.views.membership.is_known(&log.author);
            if log.lane != Lane::CONTROL || !trusted {
                return self.close_link(link, "E_CERT: pages that no certificate leads to".into());
            }
            if let Err(reason) = self.take_control_page(&log, &page.page) {
                return self.close_link(link, reason);
            }
            self.refresh();
        }
        let Some(state) = self.links.get(&link) else { return };
        if !pages.complete {
            return;
        }
        if !self.is_member() {
            // Shown to be a member, and none by these pages alone: whoever let it in has forked since, say, and only the
            // hub's checkpoints tell that its certificate came before. They come by replication.
            if self.views.membership.is_known(&state.peer) {
                self.open_session(link);
            }
            return;
        }
        if !self.views.membership.is_known(&state.peer) {
            self.close_link(link, "E_CERT: its pages don't make it a member".into());
        } else if !state.greeted {
            // Known from before, perhaps by a link that ended before this device's own proof was through: a peer that
            // sees a member here has greeted.
            self.send_proof(link, self.device.id());
        }
    }

    /// A peer is known as a member now: admits it, and shows what it lacks to see us as one.
    pub(crate) fn welcome(&mut self, link: LinkId) {
        let Some(state) = self.links.get_mut(&link) else { return };
        let peer = state.peer;
        let asked = !state.join.asking.is_empty();
        if asked {
            self.send_proof(link, peer);
        } else if state.join.verified {
            self.send_proof(link, self.device.id());
        }
        self.open_session(link);
    }

    /// A stranger asks: the hub answers, a member carries it on.
    fn join_ask(&mut self, link: LinkId, bytes: &[u8]) {
        if bytes.len() > REQUEST_MAX {
            return self.close_link(link, format!("E_TOO_LARGE: a join request of {} bytes", bytes.len()));
        }
        let Ok(message) = payload::decode::<payload::JoinRequest>("join request", bytes) else {
            return self.close_link(link, "E_DECODE: a damaged join request".into());
        };
        let Ok(id) = stallmesh_protocol::join::check_id(&message) else {
            return self.close_link(link, "E_HASH: a join request under another's id".into());
        };
        if let Some(state) = self.links.get_mut(&link) {
            state.join.asking.insert(id);
        }
        if !self.is_member() {
            return;
        }
        if let Some(peer) =
            self.links.get(&link).map(|state| state.peer).filter(|peer| self.views.membership.is_known(peer))
        {
            // Admitted already; the word hasn't come to it.
            return self.send_proof(link, peer);
        }
        if message.expires < self.time() {
            let detail = "the request has expired".to_owned();
            let answer = wire::JoinAnswer { request: message.id, state: 4, detail, ..Default::default() };
            return self.send_join(link, wire::join_frame::Body::Answer(answer));
        }
        if self.is_hub() {
            self.admit_request(&message);
        } else if !self.views.join_requests.contains_key(&id) {
            if !self.carried.has_room(self.now.monotonic_ms) {
                let detail = "this member carries as many requests as it may for now".to_owned();
                let answer = wire::JoinAnswer { request: message.id, state: 4, detail, ..Default::default() };
                return self.send_join(link, wire::join_frame::Body::Answer(answer));
            }
            self.carried.requests += 1;
            // The signal lane takes it to the hub through whoever gets there first.
            let appended = self.append_public(Lane::SIGNAL, Kind::JOIN_REQUEST, bytes.to_vec());
            if let Err(error) = appended {
                tracing::warn!(%error, "a join request could not be carried");
            }
        }
        self.answer_askers();
    }

    /// Tells waiting strangers what the hub said.
    pub(crate) fn answer_askers(&mut self) {
        let mut answers: Vec<(LinkId, wire::JoinAnswer)> = Vec::new();
        for (link, state) in &self.links {
            for request in &state.join.asking {
                let mut answer = wire::JoinAnswer { request: request.as_bytes().to_vec(), ..Default::default() };
                if let Some(reason) = self.views.refusal(request) {
                    (answer.state, answer.detail) = (2, reason.to_owned());
                } else if let Some(nonce) = self.views.challenge(request) {
                    (answer.state, answer.challenge) = (3, nonce.to_vec());
                } else {
                    continue;
                }
                answers.push((*link, answer));
            }
        }
        for (link, answer) in answers {
            self.send_join(link, wire::join_frame::Body::Answer(answer));
        }
    }

    fn join_answer(&mut self, answer: &wire::JoinAnswer) {
        let Some(mut joining) = self.joining.clone() else { return };
        let ours = Hash::try_from(answer.request.as_slice());
        let known = ours.is_ok_and(|ours| ours == joining.first) || answer.request == joining.request.id;
        match answer.state {
            2 if known => {
                tracing::warn!(reason = %answer.detail, "the hub refused");
                joining.refused = answer.detail.clone();
            }
            3 if known && !joining.revealed => {
                if let (Some(nonce), Ok(challenge)) = (joining.nonce, <[u8; 16]>::try_from(answer.challenge.as_slice()))
                {
                    let invite = joining.invite.clone();
                    joining.code = short_code(&self.device.id(), &invite.opening_key, &invite.root, &nonce, &challenge);
                    joining.revealed = true;
                    let by = JoinBy::Revealing { request: joining.first, nonce };
                    if let Some((_, request)) = self.seal_request(&invite, &joining.name, &joining.stall, by) {
                        joining.request = request;
                    }
                }
            }
            _ => return,
        }
        self.joining = Some(joining);
        self.send_asks();
    }

    /// What an unfinished join waits for, in a sentence.
    pub(crate) fn join_state(&self) -> Option<String> {
        let joining = self.joining.as_ref()?;
        Some(if !joining.refused.is_empty() {
            format!("the hub refused to admit this device: {}", joining.refused)
        } else if !joining.code.is_empty() {
            format!("asking to join: compare code {} with the hub's screen, and have it approved there", joining.code)
        } else if self.links.values().any(|link| link.join.verified) {
            "joining: a member carries this device's request to the hub".into()
        } else {
            format!(
                "joining: no member of the market was found yet ({} bytes of invite, {} addresses known)",
                joining.bytes.len(),
                joining.invite.peers.len() + joining.invite.hub_addresses.len()
            )
        })
    }
}

/// Shows knowledge of the market's id to whoever has it, and nothing to whoever hasn't.
pub(crate) fn hello_tag(market: &MarketId, nonce: &[u8; 16], sender: &DeviceId) -> [u8; 16] {
    let hash = Hasher::keyed(market.as_bytes(), Domain::Join).bytes(nonce).bytes(sender.as_bytes()).finish();
    let mut tag = [0; 16];
    tag.copy_from_slice(&hash.as_bytes()[..16]);
    tag
}
