//! Answers to what people and programs ask.

use stallmesh_protocol::certificate::{Certificate, Role, Scope, Scopes, VALIDITY_MAX};
use stallmesh_protocol::membership::write_line;
use stallmesh_protocol::payload::{self, encode};
use stallmesh_protocol::{DeviceId, Kind, Lane};

use super::cards;
use super::{
    Answer, CustodyView, DelegateOrder, Engine, Failure, FailureCode, HeadView, MemberView, PeerView, PolicyView,
    Request, StatementView, StatusView, TrafficView, UplinkView,
};
use crate::link::Road;
use crate::store::Store;

impl<S: Store> Engine<S> {
    pub(crate) fn answer(&mut self, request: Request) -> Answer {
        self.try_answer(request).unwrap_or_else(Answer::Failed)
    }

    pub(super) fn try_answer(&mut self, request: Request) -> Result<Answer, Failure> {
        if let Request::PublishProducts(_)
        | Request::Catalog { .. }
        | Request::CatalogCounts
        | Request::FindProducts { .. }
        | Request::CatalogStatus { .. }
        | Request::Stock { .. }
        | Request::SetStock(_) = &request
        {
            self.views.refresh_catalog(self.time());
            self.refresh_sold();
        }
        cards::check(&request)?;
        self.check_key_is_free(&request)?;
        Ok(match request {
            Request::Once { key, asked, request } => self.once(&key, &asked, *request)?,
            Request::Recall { key, asked } => self
                .recall(&key, &asked)?
                .ok_or_else(|| Failure::new(FailureCode::ENotFound, "nothing was asked with this key"))?,
            Request::RecordSale(mut order) => {
                order.rehearsal |= self.settings.rehearsal;
                self.record_sale(&order)?
            }
            Request::Sales { limit, before } => Answer::Sales(self.list_sales(limit, before)?),
            Request::Sale(sale) => {
                let record = self.sale_record(&sale)?.ok_or_else(|| {
                    Failure::new(FailureCode::ENotFound, format!("this device recorded no sale {sale}"))
                })?;
                Answer::Sale(self.sale_view(&record))
            }
            Request::Catalog { stall, query, after, limit } => {
                Answer::Products(self.search(stall.as_deref(), &query, after.as_ref(), limit))
            }
            Request::FindProducts { query, stall, after, limit } => {
                Answer::Found(self.find_products(&query, stall.as_deref(), after.as_ref(), limit)?)
            }
            Request::CatalogStatus { day } => Answer::CatalogStatus(Box::new(self.catalog_status(day.as_deref())?)),
            Request::Stock { stall, limit } => Answer::Stock(self.stock(stall, limit)?),
            Request::SetStock(order) => {
                self.set_stock(&order)?;
                Answer::Done
            }
            Request::CatalogCounts => Answer::CatalogCounts(self.catalog_counts()),
            Request::PublishProducts(products) => {
                self.publish_products(products)?;
                Answer::Done
            }
            Request::Quote(basket) => Answer::Quote(Box::new(self.quote(&basket)?)),
            Request::OpenBasket { basket, key } => Answer::Basket(Box::new(self.open_basket(&basket, key.as_deref())?)),
            Request::ChangeBasket { id, order, key } => {
                Answer::Basket(Box::new(self.change_basket(id, &order, key.as_deref())?))
            }
            Request::Basket(id) => Answer::Basket(Box::new(self.basket(id)?)),
            Request::Baskets => Answer::Baskets(self.baskets()?),
            Request::DiscardBasket(id) => {
                self.discard_basket(id)?;
                Answer::Done
            }
            Request::SellBasket { id, mut sale } => {
                sale.rehearsal |= self.settings.rehearsal;
                self.sell_basket(id, &sale)?
            }
            Request::TakeTender { id, order, key } => {
                Answer::Basket(Box::new(self.take_tender(id, &order, key.as_deref())?))
            }
            Request::VoidTender { id, number, confirmed } => {
                Answer::Basket(Box::new(self.void_tender(id, number, &confirmed)?))
            }
            Request::CheckoutRules => Answer::CheckoutRules(Box::new(self.rules_view()?)),
            Request::SetCheckoutRules(order) => {
                self.set_checkout_rules(&order)?;
                Answer::Done
            }
            Request::NarrowRisk(file) => {
                self.narrow_risk(&file)?;
                Answer::Done
            }
            Request::BlockCard(order) => {
                self.block_card(&order)?;
                Answer::Done
            }
            Request::Signals { limit } => Answer::Signals(self.signal_views(limit)),
            Request::PublishPromotions(order) => {
                self.publish_promotions(&order)?;
                Answer::Done
            }
            Request::Promotions { stall } => Answer::Promotions(self.promotions(stall)?),
            Request::SayConditions(order) => {
                self.say_conditions(&order)?;
                Answer::Done
            }
            Request::Conditions => Answer::Conditions(self.conditions_here()?),
            Request::Members => Answer::Members(self.members()),
            Request::Status => Answer::Status(Box::new(self.status())),
            Request::Explain(subject) => Answer::Explain(self.explain(&subject)),
            Request::CreateInvite(order) => Answer::Invite(self.create_invite(&order)?),
            Request::Join { invite, name } => {
                self.begin_joining(&invite, &name, None)?;
                Answer::Done
            }
            Request::AskToJoin { market, name, stall } => {
                self.begin_joining(&market, &name, Some(&stall))?;
                Answer::Done
            }
            Request::JoinRequests => Answer::JoinRequests(self.join_requests()),
            Request::Approve { code, valid_ms } => {
                self.approve(&code, valid_ms)?;
                Answer::Done
            }
            Request::Delegate(order) => {
                self.delegate(&order)?;
                Answer::Done
            }
            Request::Revoke { device, reason } => {
                self.revoke(device, reason)?;
                Answer::Done
            }
            Request::Erase { subject } => {
                self.erase(&subject)?;
                Answer::Done
            }
            Request::Readmit { device } => {
                self.readmit(device)?;
                Answer::Done
            }
            Request::Raise { device } => {
                self.raise(device)?;
                Answer::Done
            }
            Request::SetPolicy(view) => {
                self.set_policy(&view)?;
                Answer::Done
            }
            Request::RotateOpeningKey { secret, file } => {
                self.rotate_opening_key(&secret)?;
                Answer::OpeningKey(file)
            }
            Request::AcceptLoss { settlement } => {
                self.accept_loss(settlement)?;
                Answer::Done
            }
            Request::Settle { dry_run } => Answer::Settlement(self.settle(dry_run)?),
            Request::Policy => Answer::Policy(self.policy_view()),
            Request::Ledger => Answer::Ledger(self.ledger()?),
            Request::Statements => Answer::Statements(
                self.sales
                    .statements()
                    .into_iter()
                    .map(|statement| StatementView {
                        stall: statement.stall.clone(),
                        settlement: statement.settlement,
                        body: serde_json::to_value(statement).unwrap_or_default(),
                    })
                    .collect(),
            ),
            Request::Export { cursor } => {
                let (bytes, cursor) = self.export(&cursor)?;
                Answer::Export { bytes, cursor }
            }
            Request::LogShow { author, lane, before, limit } => {
                Answer::Entries(self.log_show(author, lane.as_deref(), before, limit)?)
            }
            Request::SetUplink { up } => {
                self.set_uplink(up);
                Answer::Done
            }
            Request::SetPower { battery, metered } => {
                (self.battery, self.metered) = (battery.min(100), metered);
                self.update_status();
                Answer::Done
            }
            Request::AddPeer { address } => {
                self.book.configure(address);
                self.dial();
                Answer::Done
            }
        })
    }

    /// The own certificate, where it allows something now; expiry ends granting and publishing.
    pub(crate) fn valid_certificate(&self, scope: Scope) -> Result<Certificate, Failure> {
        let own = self.device.id();
        if !self.is_member() {
            return Err(Failure::new(FailureCode::ENotMember, "this device is in no market yet: join one first"));
        }
        if self.views.membership.is_revoked(&own) {
            return Err(Failure::new(FailureCode::EScope, "this device's certificate was revoked"));
        }
        let time = self.time();
        let mut valid = self.views.membership.certificates_at(&own, time).peekable();
        if valid.peek().is_none() {
            return Err(Failure::new(
                FailureCode::EScope,
                "this device's certificate has expired: it still sells, but grants and publishes nothing until renewed",
            ));
        }
        valid.find(|certificate| certificate.scopes.allows(scope)).cloned().ok_or_else(|| {
            Failure::new(FailureCode::EScope, format!("this device's certificate has no scope `{scope}`"))
        })
    }

    fn members(&self) -> Vec<MemberView> {
        let membership = &self.views.membership;
        membership
            .devices()
            .filter_map(|device| {
                let newest = membership.issued(device).next()?;
                let certificate = &newest.certificate;
                let state = if membership.is_revoked(device) {
                    "revoked"
                } else if self.views.is_burned(device) {
                    "replaced"
                } else if self.views.is_quarantined(device) {
                    "quarantined"
                } else if self.is_valid_now(device) {
                    "valid"
                } else {
                    "expired"
                };
                let scopes = certificate.scopes.iter().map(|(scope, limit)| match limit {
                    Some(limit) => format!("{scope}≤{limit}"),
                    None => scope.to_string(),
                });
                let mut alarms = Vec::new();
                if self.views.clones(device).is_some() {
                    alarms.push("clone".to_owned());
                }
                if self.views.is_quarantined(device) {
                    alarms.push("fork".to_owned());
                }
                Some(MemberView {
                    device: *device,
                    role: certificate.role.name().to_owned(),
                    stall: certificate.stall.clone(),
                    name: certificate.name.clone(),
                    scopes: scopes.collect(),
                    not_after: membership.valid_until(device).unwrap_or(certificate.not_after),
                    state: state.to_owned(),
                    issuer: newest.at.log.author.to_string(),
                    alarms,
                    linked: self.links.values().any(|link| link.peer == *device && link.greeted),
                })
            })
            .collect()
    }

    fn status(&self) -> StatusView {
        let own = self.device.id();
        let certificate = self.views.membership.certificate(&own);
        let market = self.views.market();
        let (held_entries, held_bytes, own_waiting, own_copied) = self.custody_figures();
        let peers = self
            .links
            .iter()
            .filter(|(_, link)| link.greeted)
            .map(|(id, link)| PeerView {
                device: link.peer.to_string(),
                stall: self.views.membership.stall(&link.peer).unwrap_or_default().to_owned(),
                link: if link.road == Road::Mesh { "mesh" } else { "uplink" }.to_owned(),
                address: link.address.clone(),
                uplink: link.status.uplink || self.is_hub_device(&link.peer),
                missing: self.replica.as_ref().map_or(0, |replica| {
                    let session = stallmesh_protocol::replica::SessionId(id.0);
                    let missing = Lane::KEPT_BY_ALL.iter().map(|lane| replica.progress(session, *lane).1);
                    missing.fold(0, u64::saturating_add)
                }),
            })
            .collect();
        let heads = self
            .logs
            .iter()
            .filter_map(|(name, record)| {
                let head = record.newest()?;
                Some(HeadView {
                    author: name.author.to_string(),
                    incarnation: name.incarnation.to_string(),
                    lane: name.lane.to_string(),
                    sequence: head.sequence,
                    hash: head.hash.to_string(),
                })
            })
            .collect();
        let mut notices: Vec<String> = self.alarms.iter().cloned().collect();
        if self.settings.rehearsal {
            notices.push("every sale of this device is marked as a rehearsal".into());
        }
        notices.extend(self.join_state());
        if self.is_member() && !self.clock.is_anchored() && !self.is_hub() {
            notices.push("no checkpoint of a hub was seen yet: times are this device's own".into());
        }
        notices.extend(self.clock.complaint(self.now));
        notices.extend(self.expiry_notice());
        if self.views.membership.is_revoked(&own) {
            notices.push("this device's certificate was revoked".into());
        }
        if self.custody_is_full() {
            notices.push("the room for others' sales is used up: nothing more is carried".into());
        }
        for (number, because) in self.unreleased() {
            notices.push(format!("settlement {number} is closed, not released: {because}"));
        }
        notices.extend(self.closing_problem());
        notices.extend(self.missing_opening_keys());
        notices.extend(self.missing_notice());
        notices.extend(self.replaced_notice());
        let problem = self.join_problem();
        if !problem.is_empty() {
            notices.push(problem);
        }
        StatusView {
            device: own.to_string(),
            role: certificate.map_or("none", |certificate| certificate.role.name()).to_owned(),
            stall: certificate.map(|certificate| certificate.stall.clone()).unwrap_or_default(),
            name: certificate.map_or_else(|| self.settings.name.clone(), |certificate| certificate.name.clone()),
            valid_until: self.views.membership.valid_until(&own),
            market: self.market.map(|market| market.id.to_string()).unwrap_or_default(),
            market_name: market.map(|market| market.name.clone()).unwrap_or_default(),
            currency: market.map(|market| market.currency.clone()).unwrap_or_default(),
            incarnation: self.incarnation.to_string(),
            listen: self.listening.iter().map(|(_, address)| address.clone()).collect(),
            uplink: UplinkView {
                enabled: self.uplink_enabled,
                up: self.links.values().any(|link| link.greeted && self.is_hub_device(&link.peer)),
                hops: self.hops(),
                address: self.book.hub_address(),
                error: String::new(),
            },
            peers,
            custody: CustodyView {
                held_entries,
                held_bytes,
                ledger_entries: self.ledger_entries_carried(),
                own_waiting,
                own_copied,
            },
            heads,
            notices,
            time: self.time(),
            discovered: self.book.discovered(),
            discovery_renewals: self.book.discovery_renewals(),
            joined_after_ms: self.joined_at.map(|at| at.saturating_sub(self.started.monotonic_ms)),
            join_code: self.join_code(),
            sales: self.sales.counts(),
            uncaptured: self.uncaptured(),
            checkpoint: self.views.coverage.latest().map_or(0, |(checkpoint, _)| checkpoint.number),
            traffic: TrafficView { sent: self.sent_bytes, received: self.received_bytes },
            commits: self.overlay.commits(),
            seal_key: hex::encode(self.seal_key.public()),
        }
    }

    fn delegate(&mut self, order: &DelegateOrder) -> Result<(), Failure> {
        let invalid = |detail: String| Failure::new(FailureCode::EInvalid, detail);
        let own = self.valid_certificate(Scope::GRANT)?;
        let mut seal_key = [0; 32];
        hex::decode_to_slice(&order.seal_key, &mut seal_key)
            .map_err(|_| invalid("seal_key: 64 hexadecimal digits, as the helper's `status` shows them".into()))?;
        let mut scopes = Vec::new();
        for text in &order.scopes {
            let (name, limit) = text.split_once('=').map_or((text.as_str(), None), |(name, limit)| (name, Some(limit)));
            let scope = Scope::from_name(name).ok_or_else(|| {
                let known: Vec<&str> = Scope::KNOWN.iter().filter_map(|scope| scope.name()).collect();
                invalid(format!("scopes: `{name}` is none of {}", known.join(", ")))
            })?;
            let limit = limit
                .map(|limit| {
                    limit.parse::<u64>().map_err(|_| invalid(format!("scopes: `{text}`: the limit is no number")))
                })
                .transpose()?;
            scopes.push((scope, limit));
        }
        let time = self.time();
        let certificate = Certificate {
            device: order.device,
            role: Role::Stall,
            stall: own.stall.clone(),
            name: order.name.clone(),
            scopes: scopes.into_iter().collect::<Scopes>(),
            not_before: own.not_before.max(time.saturating_sub(3_600_000)),
            not_after: own.not_after.min(time.saturating_add(order.valid_ms.min(VALIDITY_MAX / 2))),
            seal_key,
            invite: None,
            request: None,
        };
        certificate.narrows(&own).map_err(|error| Failure::new(FailureCode::EScope, error.to_string()))?;
        let bytes = certificate.to_payload();
        // What this device would not take from others, it doesn't write.
        Certificate::from_payload(&bytes).map_err(|error| invalid(error.to_string()))?;
        self.append_public(Lane::CONTROL, Kind::CERTIFICATE, bytes)?;
        Ok(())
    }

    fn revoke(&mut self, device: DeviceId, reason: String) -> Result<(), Failure> {
        let by_root = self.check_say(&device)?;
        let line = write_line(&self.line_of(device));
        let message = payload::Revocation { device: device.as_bytes().to_vec(), line, reason, below_standing: false };
        self.append_judgement(by_root, Kind::REVOCATION, encode(&message))
    }

    fn append_judgement(&mut self, by_root: bool, kind: Kind, bytes: Vec<u8>) -> Result<(), Failure> {
        if by_root {
            self.append_as_root(kind, bytes)?;
            self.refresh();
        } else {
            self.append_public(Lane::CONTROL, kind, bytes)?;
        }
        Ok(())
    }

    fn raise(&mut self, device: DeviceId) -> Result<(), Failure> {
        let by_root = self.check_say(&device)?;
        if !self.is_hub() {
            return Err(Failure::new(FailureCode::ENotHub, "only a hub can raise a line"));
        }
        let message =
            payload::Raise { device: device.as_bytes().to_vec(), line: write_line(&self.raised_line_of(device)) };
        self.append_judgement(by_root, Kind::RAISE, encode(&message))?;
        // What stands now takes no room beyond the line any more.
        self.custody.beyond_line.remove(&device);
        Ok(())
    }

    fn readmit(&mut self, device: DeviceId) -> Result<(), Failure> {
        self.check_say(&device)?;
        let latest = self.views.latest_incarnation(&device).filter(|_| self.views.is_quarantined(&device));
        let Some(incarnation) = latest else {
            return Err(Failure::new(FailureCode::EConflict, "the device is not quarantined: nothing is to be done"));
        };
        let device = device.as_bytes().to_vec();
        let message = payload::Readmission { device, incarnation: incarnation.as_bytes().to_vec() };
        self.append_public(Lane::CONTROL, Kind::READMISSION, encode(&message))?;
        Ok(())
    }

    /// Whether this device has a say over another, and whether only by the root key that it holds.
    fn check_say(&mut self, device: &DeviceId) -> Result<bool, Failure> {
        if !self.views.membership.is_known(device) || *device == self.views.membership.root() {
            return Err(Failure::new(FailureCode::ENotFound, format!("no device {device} in this market")));
        }
        if self.views.membership.has_say(&self.device.id(), device) {
            return Ok(false);
        }
        if self.renewals.root_mut().is_some() {
            return Ok(true);
        }
        let who = match self.views.membership.role(device) {
            Some(Role::Hub) if self.is_hub() => {
                "only the market's root can do that to a hub: put root.key into this hub's data directory, \
                                and restart it"
            }
            _ => "only the hub, or the device that gave the certificate, can do that",
        };
        Err(Failure::new(FailureCode::EScope, who))
    }

    fn policy_view(&self) -> PolicyView {
        let policy = self.views.policy();
        // One that can't be read so has no effect.
        let Ok(terms) = super::market::terms(&policy, "EUR") else { return PolicyView::default() };
        PolicyView {
            fee_rate: policy.fee_rate,
            prices_include_tax: terms.prices_include_tax,
            tax_rates: terms.tax_rates,
            tax_rounding: terms.tax_rounding,
            cash_rounding: terms.cash_rounding,
            time_zone: terms.time_zone,
            carriers: policy.carriers,
            card_floor_limit: policy.card_floor_limit,
        }
    }

    fn set_policy(&mut self, view: &PolicyView) -> Result<(), Failure> {
        self.valid_certificate(Scope::POLICY)?;
        let replaces = self.views.policies_in_force().iter().map(|hash| hash.as_bytes().to_vec()).collect();
        let message = super::market::read_policy(view, replaces)?;
        self.append_public(Lane::CONTROL, Kind::POLICY, encode(&message))?;
        Ok(())
    }

    fn set_uplink(&mut self, up: bool) {
        self.uplink_enabled = up;
        if up {
            self.book.retry_hubs(self.now.monotonic_ms);
            self.dial();
        } else {
            let links: Vec<_> = self
                .links
                .iter()
                .filter(|(_, link)| link.road == Road::Uplink && link.dialled)
                .map(|(id, _)| *id)
                .collect();
            for link in links {
                self.close_link(link, "the uplink was switched off".into());
            }
        }
    }
}
