//! Answers to what people and programs ask.

use std::collections::BTreeSet;

use stallmesh_protocol::certificate::{Certificate, Role, Scope, Scopes, VALIDITY_MAX};
use stallmesh_protocol::entry::{Part, PartBody};
use stallmesh_protocol::membership::{Position, write_line};
use stallmesh_protocol::payload::{self, encode};
use stallmesh_protocol::{DeviceId, Kind, Lane};

use super::{
    Answer, CustodyView, DelegateOrder, Engine, EntryView, Failure, FailureCode, HeadView, MemberView, PeerView,
    PolicyView, ProductView, Request, StatementView, StatusView, TrafficView, UplinkView,
};
use crate::link::Road;
use crate::store::Store;

/// Products in one entry: large enough that signatures and headers don't count, small enough to pass quickly.
const PRODUCTS_PER_ENTRY: usize = 100;
/// Products in one request.
const PRODUCTS_MAX: usize = 200_000;

impl<S: Store> Engine<S> {
    pub(crate) fn answer(&mut self, request: Request) -> Answer {
        self.try_answer(request).unwrap_or_else(Answer::Failed)
    }

    fn try_answer(&mut self, request: Request) -> Result<Answer, Failure> {
        if let Request::RecordSale(_) | Request::PublishProducts(_) | Request::Catalog { .. } | Request::CatalogCounts =
            &request
        {
            self.views.refresh_catalog();
        }
        Ok(match request {
            Request::RecordSale(order) => self.record_sale(&order)?,
            Request::Sales { limit, before } => Answer::Sales(self.list_sales(limit, before)?),
            Request::Sale(sale) => {
                let record = self.sale_record(&sale)?.ok_or_else(|| {
                    Failure::new(FailureCode::ENotFound, format!("this device recorded no sale {sale}"))
                })?;
                Answer::Sale(self.sale_view(&record))
            }
            Request::Catalog { stall, query, limit } => Answer::Products(self.search(stall.as_deref(), &query, limit)),
            Request::CatalogCounts => Answer::CatalogCounts(self.catalog_counts()),
            Request::PublishProducts(products) => {
                self.publish_products(products)?;
                Answer::Done
            }
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
            Request::RotateOpeningKey { secret } => {
                self.rotate_opening_key(&secret)?;
                Answer::Done
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
            Request::LogShow { author, lane, limit } => {
                Answer::Entries(self.log_show(author, lane.as_deref(), limit)?)
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

    fn search(&self, stall: Option<&str>, query: &str, limit: usize) -> Vec<ProductView> {
        let words: Vec<String> = query.split_whitespace().map(str::to_lowercase).collect();
        let stalls = self.views.catalog().stalls().filter(|(name, _)| stall.is_none_or(|stall| stall == *name));
        stalls
            .flat_map(|(name, catalog)| catalog.products().map(move |product| (name, product)))
            .filter(|(_, product)| {
                let text = format!("{} {}", product.name, product.sku).to_lowercase();
                words.iter().all(|word| text.contains(word.as_str()))
            })
            .take(limit)
            .map(|(name, product)| product_view(name, &product))
            .collect()
    }

    fn catalog_counts(&self) -> Vec<(String, usize)> {
        let stalls = self.views.catalog().stalls().map(|(name, catalog)| (name.to_owned(), catalog.products().len()));
        stalls.filter(|(_, count)| *count > 0).collect()
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

    fn publish_products(&mut self, products: Vec<ProductView>) -> Result<(), Failure> {
        let certificate = self.valid_certificate(Scope::PUBLISH_CATALOG)?;
        if certificate.stall.is_empty() {
            return Err(Failure::new(FailureCode::EScope, "this device belongs to no stall"));
        }
        if products.len() > PRODUCTS_MAX {
            return Err(Failure::new(FailureCode::EInvalid, format!("more than {PRODUCTS_MAX} products at once")));
        }
        let mut seen = BTreeSet::new();
        for (index, product) in products.iter().enumerate() {
            check_product(index, product)?;
            if !seen.insert(product.sku.as_str()) {
                return Err(Failure::new(
                    FailureCode::EInvalid,
                    format!("products[{index}].sku: `{}` comes twice", product.sku),
                ));
            }
        }
        // What is offered already under the same SKU and unchanged needs no new entry.
        let offered = self.views.catalog().stall(&certificate.stall);
        let known = |sku: &str| offered.and_then(|offered| offered.get(sku));
        let changed: Vec<&ProductView> = products
            .iter()
            .filter(|product| known(&product.sku).is_none_or(|known| known != to_product(product)))
            .collect();
        for chunk in changed.chunks(PRODUCTS_PER_ENTRY) {
            let skus: BTreeSet<&str> = chunk.iter().map(|product| product.sku.as_str()).collect();
            let replaces = self.views.catalog().entries_offering(&certificate.stall, &skus);
            let message = payload::Products {
                products: chunk.iter().map(|product| to_product(product)).collect(),
                replaces: replaces.iter().map(|hash| hash.as_bytes().to_vec()).collect(),
            };
            self.append_public(Lane::CATALOG, Kind::PRODUCTS, encode(&message))?;
        }
        self.notice(super::Notice::Catalog);
        Ok(())
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
        PolicyView {
            fee_rate: policy.fee_rate,
            prices_include_tax: policy.prices_include_tax,
            tax_rates: policy.tax_rates.into_iter().map(|tax| (tax.name, tax.rate)).collect(),
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

    fn log_show(
        &mut self,
        author: Option<DeviceId>,
        lane: Option<&str>,
        limit: usize,
    ) -> Result<Vec<EntryView>, Failure> {
        let author = author.unwrap_or_else(|| self.device.id());
        let logs: Vec<_> = self
            .logs
            .of_author(author)
            .filter(|(name, _)| lane.is_none_or(|lane| name.lane.to_string() == lane))
            .map(|(name, record)| (*name, record.runs.clone()))
            .collect();
        let mut entries = Vec::new();
        for (name, runs) in logs {
            for run in runs {
                let from = run.to.saturating_sub(limit as u64).max(run.from);
                let chain = self.logs.entries(&self.overlay, &name, &run, from, run.to, limit + 1);
                for held in self.guard(chain).unwrap_or_default() {
                    let at = Position { log: name, sequence: held.sequence, hash: held.hash };
                    let standing = match self.views.ineffective.get(&at) {
                        Some(reason) => reason.clone(),
                        None => match self.views.membership.stands(&at, &self.views.coverage, &self.ancestry()) {
                            Ok(()) => "stands".to_owned(),
                            Err(reason) => reason.to_string(),
                        },
                    };
                    entries.push(EntryView {
                        author: name.author.to_string(),
                        incarnation: name.incarnation.to_string(),
                        lane: name.lane.to_string(),
                        sequence: held.sequence,
                        hash: held.hash.to_string(),
                        timestamp: held.entry.timestamp,
                        kind: held.entry.kind.to_string(),
                        bytes: held.entry.payload.length(),
                        erased: matches!(held.entry.payload.part(Part::Personal), Some(PartBody::Erased(_))),
                        standing,
                    });
                }
            }
        }
        entries.sort_by_key(|entry| std::cmp::Reverse((entry.timestamp, entry.sequence)));
        entries.truncate(limit);
        Ok(entries)
    }
}

const UNITS: [&str; 5] = ["piece", "kg", "g", "l", "m"];

fn check_product(index: usize, product: &ProductView) -> Result<(), Failure> {
    let invalid =
        |field: &str, detail: &str| Failure::new(FailureCode::EInvalid, format!("products[{index}].{field}: {detail}"));
    if product.sku.is_empty() || product.sku.len() > 120 || product.sku.chars().any(char::is_control) {
        return Err(invalid("sku", "1 to 120 bytes without control characters"));
    }
    if product.name.is_empty() || product.name.len() > 800 {
        return Err(invalid("name", "1 to 800 bytes"));
    }
    if product.name.chars().any(stallmesh_protocol::certificate::is_unprintable) {
        return Err(invalid("name", "has characters that don't print"));
    }
    if !UNITS.contains(&product.unit.as_str()) {
        return Err(invalid("unit", "is none of piece, kg, g, l, m"));
    }
    if i64::try_from(product.price).is_err() {
        return Err(invalid("price", "is out of range"));
    }
    Ok(())
}

fn to_product(view: &ProductView) -> payload::Product {
    payload::Product {
        sku: view.sku.clone(),
        name: view.name.clone(),
        price: view.price,
        taxes: view.taxes.clone(),
        categories: view.categories.clone(),
        tags: view.tags.clone(),
        barcodes: view.barcodes.clone(),
        unit: UNITS.iter().position(|unit| *unit == view.unit).unwrap_or(0) as u32,
        stock: view.stock.clone(),
        variant_of: view.variant_of.clone(),
        pictures: Vec::new(),
        withdrawn: false,
        effective_at: 0,
    }
}

fn product_view(stall: &str, product: &payload::Product) -> ProductView {
    ProductView {
        stall: stall.to_owned(),
        sku: product.sku.clone(),
        name: product.name.clone(),
        price: product.price,
        taxes: product.taxes.clone(),
        categories: product.categories.clone(),
        tags: product.tags.clone(),
        barcodes: product.barcodes.clone(),
        unit: UNITS.get(product.unit as usize).copied().unwrap_or("piece").to_owned(),
        stock: product.stock.clone(),
        variant_of: product.variant_of.clone(),
    }
}
