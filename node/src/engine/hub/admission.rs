//! Who gets in: invites, and the judging of join requests that members carried here.

use stallmesh_protocol::certificate::{Certificate, NAME_MAX, Role, Scopes};
use stallmesh_protocol::invite::{self, Invite};
use stallmesh_protocol::join::{JoinBy, JoinRequest, commitment, short_code};
use stallmesh_protocol::payload::{self, encode};
use stallmesh_protocol::{Hash, Kind, Lane};

use super::renewal::SLOW_CLOCK_MS;
use crate::engine::join::Asking;
use crate::engine::{Engine, Failure, FailureCode, InviteOrder, JoinRequestView, Notice};
use crate::store::Store;

/// Join requests that wait for a person at the same time.
const ASKING_MAX: usize = 200;

impl<S: Store> Engine<S> {
    /// Hub: judges what asks to join. Everybody: passes on what was said to those that ask here.
    pub(crate) fn judge_joins(&mut self) {
        if self.is_hub() {
            self.admit_waiting();
        }
        self.answer_askers();
    }

    /// Makes an invite.
    pub(crate) fn create_invite(&mut self, order: &InviteOrder) -> Result<String, Failure> {
        let certificate = self.hub_certificate()?;
        if self.recovery.is_waiting() {
            return Err(Failure::new(FailureCode::EUnavailable, super::recovery::WAITING));
        }
        let Some(opening) = self.opening_key() else {
            return Err(Failure::new(FailureCode::ENotHub, "this node has no opening key"));
        };
        let opening_key = opening.public();
        let role = match order.role.as_str() {
            "stall" => Role::Stall,
            "gateway" => Role::Gateway,
            other => {
                return Err(Failure::new(
                    FailureCode::EInvalid,
                    format!("role: `{other}` is neither stall nor gateway"),
                ));
            }
        };
        let slug = stallmesh_protocol::certificate::is_slug(&order.stall);
        if (role == Role::Stall) == order.stall.is_empty() || !slug {
            return Err(Failure::new(
                FailureCode::EInvalid,
                "stall: lower-case letters, digits and hyphens for stalls; empty for gateways",
            ));
        }
        if order.name.len() > NAME_MAX || order.name.chars().any(stallmesh_protocol::certificate::is_unprintable) {
            return Err(Failure::new(FailureCode::EInvalid, "name: too long, or with characters that don't print"));
        }
        let market = self.market.ok_or_else(|| Failure::new(FailureCode::ENotMember, "no market"))?;
        let epoch = self.views.market().map_or(0, |market| market.epoch);
        let time = self.time();
        let addresses = |road| -> Vec<String> {
            self.listening.iter().filter(|(on, _)| *on == road).map(|(_, address)| address.clone()).take(4).collect()
        };
        let mut hub_addresses = self.settings.uplink_addresses.clone();
        hub_addresses.extend(addresses(crate::link::Road::Uplink));
        hub_addresses.truncate(4);
        let invite = Invite {
            root: market.root,
            epoch,
            hub: self.device.id(),
            opening_key,
            id: self.random_bytes(),
            role,
            stall: order.stall.clone(),
            name: order.name.clone(),
            scopes: if role == Role::Stall { Scopes::stall_owner() } else { Scopes::gateway() },
            expires: time.saturating_add(order.expires_ms),
            not_after: certificate.not_after.min(time.saturating_add(order.valid_ms)),
            hub_addresses,
            peers: Vec::new(),
        };
        Ok(invite::to_text(&invite.sign(&self.device)))
    }

    /// Judges every request that members have carried here and that wasn't judged yet.
    fn admit_waiting(&mut self) {
        let mut waiting: Vec<(u64, payload::JoinRequest)> =
            self.views.join_requests.values().map(|(written, request)| (written.timestamp, request.clone())).collect();
        // What reveals a nonce comes after what committed to it.
        waiting.sort_by_key(|(written, _)| *written);
        for (_, request) in waiting {
            self.admit_request(&request);
        }
    }

    /// Judges one join request. Every request is answered once: by a certificate, a challenge or a refusal.
    pub(crate) fn admit_request(&mut self, message: &payload::JoinRequest) {
        let Some(market) = self.market else { return };
        let Ok(id) = Hash::try_from(message.id.as_slice()) else { return };
        let answered = self.views.refusal(&id).is_some()
            || self.asking.contains_key(&id)
            || self.judged.contains(&id)
            || self.request_is_granted(&id);
        // A hub whose own certificate has ended says nothing that counts: requests wait until it is renewed.
        if answered || self.recovery.is_waiting() || !self.is_valid_now(&self.device.id()) {
            return;
        }
        // An invite names the opening key of its day, which may have been followed by others since.
        let recipient = message.sealed.as_ref().map(|sealed| sealed.recipient.as_slice());
        let Some(opening) = self.opening.all().find(|key| Some(key.public().as_slice()) == recipient).cloned() else {
            // Not for this hub, or nobody's: another hub may be able to.
            return tracing::debug!("a join request that is sealed to another's key");
        };
        let (_, request) = match JoinRequest::open(message, &market.id, &opening) {
            Ok(opened) => opened,
            Err(error) => return tracing::debug!(%error, "a join request that can't be opened"),
        };
        self.judged.insert(id);
        let verdict = match &request.by {
            JoinBy::Invite(bytes) => self.admit_by_invite(id, &request, bytes),
            JoinBy::Asking { .. } => self.challenge(id, &request),
            JoinBy::Revealing { request: first, nonce } => self.reveal(*first, *nonce, &request, &opening.public()),
        };
        if let Err(reason) = verdict {
            tracing::info!(device = %request.device.short(), %reason, "refused a join request");
            let refusal = payload::JoinRefusal { request: id.as_bytes().to_vec(), reason };
            if let Err(error) = self.append_public(Lane::SIGNAL, Kind::JOIN_REFUSAL, encode(&refusal)) {
                tracing::warn!(%error, "a refusal could not be written");
            }
        }
        self.answer_askers();
    }

    fn request_is_granted(&self, id: &Hash) -> bool {
        self.views.membership.devices().any(|device| {
            self.views.membership.certificates(device).any(|certificate| certificate.request == Some(*id))
        })
    }

    fn admit_by_invite(&mut self, id: Hash, request: &JoinRequest, bytes: &[u8]) -> Result<(), String> {
        let invite = Invite::from_bytes(bytes).map_err(|error| error.to_string())?;
        let market = self.market.ok_or("no market")?;
        if invite.market() != market.id {
            return Err("the invite is for another market".into());
        }
        // A hub that is gone has made it in good faith; a revoked one may not have.
        let membership = &self.views.membership;
        if membership.role(&invite.hub) != Some(Role::Hub) || membership.is_revoked(&invite.hub) {
            return Err("the invite was not made by a hub of this market".into());
        }
        if invite.expires < self.time() {
            return Err("the invite has expired: ask the organiser for a new one".into());
        }
        let holder = self
            .views
            .membership
            .devices()
            .find(|device| {
                self.views.membership.certificates(device).any(|certificate| certificate.invite == Some(invite.id))
            })
            .copied();
        match holder {
            Some(device) if device == request.device => return Ok(()),
            Some(_) => return Err("the invite was used by another device: ask the organiser for a new one".into()),
            None => {}
        }
        let name = if request.name.is_empty() { invite.name.clone() } else { request.name.clone() };
        self.grant(
            request,
            invite.role,
            invite.stall.clone(),
            name,
            invite.scopes.clone(),
            invite.not_after,
            Some(invite.id),
            id,
        )
    }

    #[allow(clippy::too_many_arguments, reason = "each is one field of the certificate")]
    fn grant(
        &mut self,
        request: &JoinRequest,
        role: Role,
        stall: String,
        name: String,
        scopes: Scopes,
        not_after: u64,
        invite: Option<[u8; 16]>,
        id: Hash,
    ) -> Result<(), String> {
        let own = self.hub_certificate().map_err(|failure| failure.detail)?;
        if name.len() > NAME_MAX || name.chars().any(stallmesh_protocol::certificate::is_unprintable) {
            return Err("its name is too long, or has characters that don't print".into());
        }
        // Nothing reaches beyond the hub's own certificate, which may have ended.
        let not_after = not_after.min(own.not_after);
        if not_after < self.time() {
            return Err("it is for a time that is over: ask the organiser for a new invite".into());
        }
        let certificate = Certificate {
            device: request.device,
            role,
            stall,
            name,
            scopes,
            not_before: own.not_before.max(self.time().saturating_sub(SLOW_CLOCK_MS)),
            not_after,
            seal_key: request.seal_key,
            invite,
            request: Some(id),
        };
        certificate.narrows(&own).map_err(|error| error.to_string())?;
        self.append_public(Lane::CONTROL, Kind::CERTIFICATE, certificate.to_payload())
            .map_err(|error| error.to_string())?;
        self.refresh();
        Ok(())
    }

    pub(super) fn challenge(&mut self, id: Hash, request: &JoinRequest) -> Result<(), String> {
        if self.asking.len() >= ASKING_MAX {
            return Err("too many requests wait for the organiser: try again later".into());
        }
        // A hub that was restarted keeps to the challenge that it has given.
        let nonce = match self.views.challenge(&id) {
            Some(nonce) => nonce,
            None => {
                let nonce: [u8; 16] = self.random_bytes();
                let challenge = payload::JoinChallenge { request: id.as_bytes().to_vec(), nonce: nonce.to_vec() };
                self.append_public(Lane::SIGNAL, Kind::JOIN_CHALLENGE, encode(&challenge))
                    .map_err(|error| error.to_string())?;
                nonce
            }
        };
        self.asking.insert(id, Asking { request: request.clone(), nonce, code: String::new() });
        self.notice(Notice::Members);
        Ok(())
    }

    fn reveal(
        &mut self,
        first: Hash,
        nonce: [u8; 16],
        request: &JoinRequest,
        opening: &[u8; 32],
    ) -> Result<(), String> {
        let root = self.market.ok_or("no market")?.root;
        if self.request_is_granted(&first) {
            return Ok(());
        }
        let Some(asking) = self.asking.get_mut(&first) else {
            return Err("the hub doesn't know that request any more: ask again".into());
        };
        let committed = JoinBy::Asking { commitment: commitment(&nonce, &request.device) };
        if asking.request.by != committed || asking.request.device != request.device {
            return Err("what it reveals is not what it committed to".into());
        }
        asking.code = short_code(&request.device, opening, &root, &nonce, &asking.nonce);
        self.notice(Notice::Members);
        Ok(())
    }

    pub(crate) fn join_requests(&self) -> Vec<JoinRequestView> {
        self.asking
            .iter()
            .filter(|(id, _)| !self.request_is_granted(id))
            .map(|(id, asking)| JoinRequestView {
                request: id.to_string(),
                device: asking.request.device.to_string(),
                name: asking.request.name.clone(),
                stall: asking.request.stall.clone(),
                code: asking.code.clone(),
            })
            .collect()
    }

    /// Admits the request that shows this code.
    pub(crate) fn approve(&mut self, code: &str, valid_ms: u64) -> Result<(), Failure> {
        self.hub_certificate()?;
        let found = self
            .asking
            .iter()
            .find(|(_, asking)| !asking.code.is_empty() && asking.code == code)
            .map(|(id, asking)| (*id, asking.clone()));
        let Some((id, asking)) = found else {
            return Err(Failure::new(
                FailureCode::ENotFound,
                format!("no request shows code {code}: see `stallmesh requests`"),
            ));
        };
        let not_after = self.time().saturating_add(valid_ms);
        let request = asking.request;
        let (role, scopes) = if request.stall.is_empty() {
            (Role::Gateway, Scopes::gateway())
        } else {
            (Role::Stall, Scopes::stall_owner())
        };
        self.grant(&request, role, request.stall.clone(), request.name.clone(), scopes, not_after, None, id)
            .map_err(|reason| Failure::new(FailureCode::EInvalid, reason))?;
        self.asking.remove(&id);
        Ok(())
    }
}
