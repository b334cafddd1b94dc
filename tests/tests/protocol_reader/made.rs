//! Small exports made by hand, from fixed keys: each outcome that F knows.

use stallmesh_protocol::certificate::{Certificate, Role, Scope, Scopes};
use stallmesh_protocol::checkpoint::{CheckpointView, CheckpointWriter, LogUpdate, ProvenLeaf};
use stallmesh_protocol::entry::{Entry, Part, Payload, sign_head};
use stallmesh_protocol::fork::{Branch, ForkProof};
use stallmesh_protocol::interval::Interval;
use stallmesh_protocol::log::LogWriter;
use stallmesh_protocol::membership::{Line, write_line};
use stallmesh_protocol::page::Page;
use stallmesh_protocol::payload::{self, encode};
use stallmesh_protocol::seal::{DayKey, SealKey, SealedAt};
use stallmesh_protocol::sign::DeviceKey;
use stallmesh_protocol::{DeviceId, Hash, Head, Incarnation, Kind, Lane, LogName, MarketId, SaleId};

const ROOT: u8 = 1;
const HUB: u8 = 2;
const OWNER: u8 = 3;
const HELPER: u8 = 4;
const STRANGER: u8 = 6;
/// A second hub.
const SECOND: u8 = 7;
/// 2026-06-06 08:00 UTC.
const MORNING: u64 = 1_780_732_800_000;

fn key(who: u8) -> DeviceKey {
    DeviceKey::from_seed(&[who; 32])
}

fn market() -> MarketId {
    MarketId::new(&key(ROOT).id(), 1)
}

#[derive(Clone)]
struct Log {
    who: u8,
    writer: LogWriter,
    entries: Vec<Entry>,
    heads: Vec<Head>,
    disclosures: Vec<Vec<u8>>,
    /// The checkpoint that its author has seen.
    seen: [u8; 8],
}

impl Log {
    fn open(who: u8, incarnation: u8, lane: Lane) -> Self {
        let name = LogName { author: key(who).id(), incarnation: Incarnation::from_bytes([incarnation; 16]), lane };
        let writer = LogWriter::open(&market(), name);
        let (entries, heads, disclosures) = (Vec::new(), vec![Head::EMPTY], Vec::new());
        let mut log = Log { who, writer, entries, heads, disclosures, seen: [0; 8] };
        log.public(Kind::OPENING, encode(&payload::Opening::default()));
        if lane.is_sealed() {
            let hub = SealKey::from_secret(&[HUB; 32]).unwrap().public();
            let message = log.day_key().publish(&market(), &log.writer.id(), &[hub], [who; 32]).unwrap();
            log.public(Kind::KEY, encode(&message));
        }
        log
    }

    fn day_key(&self) -> DayKey {
        DayKey::new([0x80 + self.who; 32])
    }

    fn time(&self) -> u64 {
        MORNING + 1_000 * self.heads.len() as u64
    }

    fn append(&mut self, kind: Kind, payload: Payload) -> Head {
        let appended = self.writer.append(&key(self.who), self.time(), self.seen, kind, payload).unwrap();
        self.entries.push(appended.entry);
        self.heads.push(appended.head);
        appended.head
    }

    fn public(&mut self, kind: Kind, bytes: Vec<u8>) -> Head {
        self.append(kind, Payload::public(bytes))
    }

    /// A sealed money part, and the secret that discloses it.
    fn sealed(&mut self, kind: Kind, money: &[u8]) -> Head {
        let (id, head) = (self.writer.id(), self.writer.head());
        let at = SealedAt {
            log: id,
            sequence: head.sequence + 1,
            previous: head.hash,
            timestamp: self.time(),
            seen: self.seen,
            kind,
        };
        let mut payload = Payload::default().with(Part::Money, self.day_key().seal(&at, Part::Money, money).unwrap());
        payload.key = Some(2);
        let head = self.append(kind, payload);
        let secret = self.day_key().part_secret(&at, Part::Money);
        let part = [Part::Money as u8];
        let (sequence, hash) = (head.sequence.to_be_bytes(), *head.hash.as_bytes());
        self.disclosures.push([id.as_bytes().as_slice(), &sequence, &hash, &part, secret.as_bytes()].concat());
        head
    }

    fn sell(&mut self, sale: &payload::Sale) -> Head {
        self.sealed(Kind::SALE, &encode(sale))
    }

    fn sell_all(&mut self, sales: impl IntoIterator<Item = payload::Sale>) {
        for sale in sales {
            self.sell(&sale);
        }
    }

    fn page(&self, first: usize, last: usize) -> Vec<u8> {
        let head = self.heads[last];
        let page = Page {
            first: first as u64,
            previous: self.heads[first - 1].hash,
            entries: self.entries[first - 1..last].to_vec(),
            signatures: vec![(head.sequence, sign_head(&key(self.who), &self.writer.id(), &head))],
        };
        let name = self.writer.name();
        let lane = name.lane.0.to_be_bytes();
        [name.author.as_bytes().as_slice(), name.incarnation.as_bytes(), &lane, &page.encode()].concat()
    }

    fn update(&self, sequence: usize) -> LogUpdate {
        let head = self.heads[sequence];
        LogUpdate {
            log: *self.writer.name(),
            id: self.writer.id(),
            standing: Some(head),
            received: vec![Interval { from: 1, to: head.sequence, hash: head.hash }],
        }
    }
}

/// The root's and the hub's logs, and what checkpoints say.
struct Market {
    root: Log,
    control: Log,
    checkpoint: Log,
    writer: CheckpointWriter,
    view: CheckpointView,
    records: Vec<(u8, Vec<u8>)>,
}

fn certificate(who: u8, role: Role, scopes: Scopes) -> Certificate {
    Certificate {
        device: key(who).id(),
        role,
        stall: if role == Role::Stall { "river-ceramics".into() } else { String::new() },
        name: format!("device {who}"),
        scopes,
        not_before: MORNING,
        not_after: MORNING + 12 * 3_600_000,
        seal_key: [who; 32],
        invite: None,
        request: None,
    }
}

impl Market {
    fn open() -> Self {
        let mut root = Log::open(ROOT, 0xa1, Lane::CONTROL);
        let description = payload::Market {
            name: "Saturday".into(),
            currency: "EUR".into(),
            epoch: 1,
            recovery_key: SealKey::from_secret(&[ROOT; 32]).unwrap().public().to_vec(),
            replaces: Vec::new(),
        };
        root.public(Kind::MARKET, encode(&description));
        root.public(Kind::CERTIFICATE, certificate(HUB, Role::Hub, Scopes::hub()).to_payload());
        let mut control = Log::open(HUB, 0xa2, Lane::CONTROL);
        let policy = |fee: &str, replaces| payload::Policy {
            fee_rate: fee.into(),
            prices_include_tax: true,
            tax_rates: vec![payload::TaxRate { name: "standard".into(), rate: "20".into(), on: Vec::new() }],
            replaces,
            ..Default::default()
        };
        let first = control.public(Kind::POLICY, encode(&policy("7", Vec::new())));
        control.public(Kind::POLICY, encode(&policy("2.5", vec![first.hash.as_bytes().to_vec()])));
        control.public(Kind::CERTIFICATE, certificate(OWNER, Role::Stall, Scopes::stall_owner()).to_payload());
        let checkpoint = Log::open(HUB, 0xa2, Lane::CHECKPOINT);
        Market {
            root,
            control,
            checkpoint,
            writer: CheckpointWriter::default(),
            view: CheckpointView::default(),
            records: Vec::new(),
        }
    }

    /// A checkpoint over some logs; of those that it doesn't list, the export gets the leaf.
    fn check(&mut self, logs: &[(&Log, usize)]) {
        for (log, sequence) in logs {
            self.writer.update(log.update(*sequence));
        }
        let last = self.view.latest().map(|(checkpoint, hash)| (checkpoint.clone(), hash));
        let last = last.as_ref().map(|(checkpoint, hash)| (checkpoint, *hash));
        let (checkpoint, taken) =
            self.writer.next(last, 1, self.checkpoint.time(), 0, |name, number| self.view.numbers(name, number));
        let head = self.checkpoint.public(Kind::CHECKPOINT, checkpoint.to_payload());
        self.view.insert(head.hash, checkpoint);
        for log in taken.into_iter().filter(|log| log.lane.is_sealed()) {
            let (leaf, path) = self.writer.proof(&log).unwrap();
            let proven = ProvenLeaf { checkpoint: head.hash, log, leaf: leaf.clone(), path };
            self.records.push((4, proven.to_bytes()));
        }
    }

    /// What an entry says that was written after the newest checkpoint was seen.
    fn seen(&self) -> [u8; 8] {
        self.view.latest().unwrap().1.prefix()
    }

    fn page(&mut self, log: &Log, first: usize, last: usize) {
        self.records.push((2, log.page(first, last)));
    }

    fn whole(&mut self, log: &Log) {
        self.page(log, 1, log.entries.len());
        self.records.extend(log.disclosures.iter().map(|disclosure| (3, disclosure.clone())));
    }

    fn export(mut self) -> (DeviceId, Vec<u8>) {
        let logs = [self.root.clone(), self.control.clone(), self.checkpoint.clone()];
        logs.iter().for_each(|log| self.whole(log));
        let mut out = b"STALLMESH-EXPORT/1\n".to_vec();
        let market = (1, [key(ROOT).id().as_bytes().as_slice(), &1_u32.to_be_bytes()].concat());
        for (kind, bytes) in std::iter::once(market).chain(self.records).chain([(5, Vec::new())]) {
            out.push(kind);
            out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
            out.extend_from_slice(&bytes);
        }
        (key(ROOT).id(), out)
    }
}

/// A sale of some pieces, with its tax inside.
fn sale(id: &str, price: u64, pieces: u64, kind: u32) -> payload::Sale {
    let gross = price * pieces;
    let amount = gross / 6;
    let tax = payload::SaleTax { name: "standard".into(), rate: "20".into(), base: gross - amount, amount };
    payload::Sale {
        sale: SaleId::derive("river-ceramics", id).as_bytes().to_vec(),
        receipt: price,
        currency: "EUR".into(),
        lines: vec![payload::SaleLine {
            sku: "MUG".into(),
            quantity: pieces.to_string(),
            unit_price: price,
            gross,
            net: gross,
            taxes: vec![tax],
            total: gross,
            ..Default::default()
        }],
        subtotal: gross,
        tax: amount,
        total: gross,
        tenders: vec![payload::Tender { kind, amount: gross, ..Default::default() }],
        ..Default::default()
    }
}

fn numbered(number: u64) -> payload::Sale {
    sale(&number.to_string(), 100 + number, 1, 1)
}

fn with(mut sale: payload::Sale, change: impl FnOnce(&mut payload::Sale)) -> payload::Sale {
    change(&mut sale);
    sale
}

/// Priced by weight, with a reduction, a fee, rounding, and two tenders.
fn weighed(id: &str, quantity: &str, gross: u64) -> payload::Sale {
    with(sale(id, 990, 1, 1), |sale| {
        let line = &mut sale.lines[0];
        (line.quantity, line.gross, line.net) = (quantity.into(), gross, gross - 10);
        line.reductions = vec![payload::SaleReduction { amount: 10, ..Default::default() }];
        // Tax that is added, not included.
        line.taxes = vec![payload::SaleTax { name: "reduced".into(), rate: "7".into(), base: gross - 10, amount: 3 }];
        line.total = gross - 7;
        sale.fees = vec![payload::SaleFee { amount: 20, total: 20, ..Default::default() }];
        (sale.subtotal, sale.reduction, sale.fee, sale.tax, sale.cash_rounding) = (gross, 10, 20, 3, -1);
        sale.total = gross + 12;
        let tender = |kind, amount| payload::Tender { kind, amount, ..Default::default() };
        sale.tenders = vec![tender(3, 100), tender(1, 12), tender(2, gross - 100)];
    })
}

/// What a dishonest device could write: none of it may stop a settlement, or come out otherwise elsewhere.
fn dishonest() -> Vec<payload::Sale> {
    let big = |total| with(sale("big", 1, 1, 1), |sale| sale.total = total);
    vec![
        with(sale("total", 1_200, 1, 1), |sale| sale.total += 1),
        with(sale("currency", 1_200, 1, 1), |sale| sale.currency = "USD".into()),
        with(sale("no lines", 1_200, 1, 1), |sale| sale.lines.clear()),
        with(sale("tender", 1_200, 1, 5), |_| ()),
        with(sale("tax name", 1_200, 1, 1), |sale| sale.lines[0].taxes[0].name = "a\tEUR\t5\nrow".into()),
        with(sale("taxes", 1_200, 1, 1), |sale| sale.lines[0].taxes[0].amount = 1_201),
        with(sale("exponent", 1_200, 1, 1), |sale| sale.lines[0].quantity = "1e0".into()),
        with(sale("short id", 1_200, 1, 1), |sale| sale.sale.truncate(15)),
        with(sale("rounding", 0, 1, 1), |sale| {
            sale.cash_rounding = i64::MIN;
            (sale.lines[0].unit_price, sale.lines[0].gross, sale.subtotal) = (1 << 63, 1 << 63, 1 << 63);
            (sale.lines[0].net, sale.lines[0].total) = (1 << 63, 1 << 63);
        }),
        big(u64::MAX),
        big(1 << 53),
        with(sale("most", (1 << 53) - 1, 1, 2), |_| ()),
    ]
}

fn a_day() -> Market {
    let mut market = Market::open();
    let mut owner = Log::open(OWNER, 0xa3, Lane::SALES);
    let mut control = Log::open(OWNER, 0xa3, Lane::CONTROL);
    let scopes = Scopes::default().with(Scope::SELL, Some(5_000));
    control.public(Kind::CERTIFICATE, certificate(HELPER, Role::Stall, scopes).to_payload());
    owner.sell(&sale("one", 1_200, 1, 1));
    owner.sell(&sale("two", 1_999, 3, 2));
    owner.sell(&weighed("by weight", "0.355", 351));
    owner.sell(&weighed("half a cent up", "0.35", 347));
    owner.sell(&weighed("a hair below half, up", "0.35505050505050505050505050", 352));
    owner.sell(&with(sale("rehearsal", 1_200, 1, 1), |sale| sale.mark = 1));
    owner.sell_all(dishonest());
    owner.sealed(Kind::SALE, b"no sale");
    // Not disclosed.
    owner.sell(&sale("kept secret", 500, 1, 1));
    owner.disclosures.pop();
    // The same sale from a second life, with a receipt of its own; and another one under its name.
    let mut again = Log::open(OWNER, 0xb3, Lane::SALES);
    again.sell(&with(sale("two", 1_999, 3, 2), |sale| sale.receipt = 1));
    again.sell(&sale("one", 1_300, 1, 1));
    again.sell(&weighed("by weight", "0.355", 351));
    again.sell(&weighed("half a cent up", "0.35", 347));
    let mut helper = Log::open(HELPER, 0xa4, Lane::SALES);
    helper.sell(&sale("up to the limit", 5_000, 1, 1));
    helper.sell(&sale("above it", 5_001, 1, 1));
    let mut stranger = Log::open(STRANGER, 0xa6, Lane::SALES);
    stranger.sell(&sale("whose", 700, 1, 1));
    let mut orphan = Log::open(OWNER, 0xc3, Lane::SALES);
    orphan.sell(&sale("lost", 600, 1, 1));
    orphan.sell(&sale("found", 800, 1, 1));
    market.check(&[(&market.control.clone(), 4), (&control, 2), (&owner, 5)]);
    for log in [&owner, &control, &again, &helper, &stranger] {
        market.whole(log);
    }
    market.page(&orphan, 1, 2);
    market.page(&orphan, 4, 4);
    market.records.push((3, orphan.disclosures[1].clone()));
    market
}

fn a_line(log: &Log, sequence: usize) -> Vec<payload::LogHead> {
    let name = log.writer.name();
    write_line(&Line::from([((name.incarnation, name.lane), log.heads[sequence])]))
}

/// The line is below what a checkpoint had named; a raise takes one more.
fn revoked() -> Market {
    let mut market = Market::open();
    let mut owner = Log::open(OWNER, 0xa3, Lane::SALES);
    owner.sell_all((0..6).map(numbered));
    let mut other = Log::open(OWNER, 0xb3, Lane::SALES);
    other.sell(&sale("another life", 900, 1, 1));
    other.sell(&sale("another life, later", 901, 1, 1));
    market.check(&[(&market.control.clone(), 4), (&owner, 4), (&other, 3)]);
    let device = key(OWNER).id().as_bytes().to_vec();
    let revocation = payload::Revocation { device: device.clone(), line: a_line(&owner, 3), ..Default::default() };
    market.control.public(Kind::REVOCATION, encode(&revocation));
    let raise = payload::Raise { device, line: a_line(&owner, 6) };
    market.control.public(Kind::RAISE, encode(&raise));
    market.check(&[(&market.control.clone(), 6)]);
    market.whole(&owner);
    market.whole(&other);
    market
}

/// A fork at sequence 5 of a sales log. A checkpoint may have named one branch up to 6.
fn forked(named: bool) -> Market {
    let mut market = Market::open();
    let mut one = Log::open(OWNER, 0xa3, Lane::SALES);
    one.sell_all((0..2).map(numbered));
    let mut other = one.clone();
    other.disclosures.clear();
    one.sell_all((2..5).map(numbered));
    other.sell_all((5..7).map(numbered));
    let mut elsewhere = Log::open(OWNER, 0xb3, Lane::SALES);
    elsewhere.sell(&sale("another life", 900, 1, 1));
    elsewhere.sell(&sale("after all", 901, 1, 1));
    let sales = [(&one, 6), (&elsewhere, 3)];
    market.check(&[(&market.control.clone(), 4)]);
    if named {
        market.check(&sales);
    }
    let branch = |log: &Log| Branch {
        headers: vec![log.entries[4].header(), log.entries[5].header()],
        signature: sign_head(&key(OWNER), &log.writer.id(), &log.heads[6]),
    };
    let name = *one.writer.name();
    let proof = ForkProof::new(&self::market(), name, 5, one.heads[4].hash, [branch(&one), branch(&other)]).unwrap();
    market.control.public(Kind::FORK_RESTATED, proof.to_payload());
    market.check(&[(&market.control.clone(), 5)]);
    market.whole(&one);
    market.page(&other, 5, 6);
    market.records.extend(other.disclosures.iter().map(|disclosure| (3, disclosure.clone())));
    market.whole(&elsewhere);
    market
}

/// The forked device's other life is admitted again.
fn readmitted() -> Market {
    let mut market = forked(true);
    let message = payload::Readmission { device: key(OWNER).id().as_bytes().to_vec(), incarnation: vec![0xb3; 16] };
    market.control.public(Kind::READMISSION, encode(&message));
    market
}

/// The market's fee changes while a stall sells: each sale is charged by what its author had seen.
fn charged() -> Market {
    let mut market = Market::open();
    let mut owner = Log::open(OWNER, 0xa3, Lane::SALES);
    owner.sell(&sale("before it saw anything", 10_000, 1, 1));
    market.check(&[(&market.control.clone(), 2)]);
    owner.sell(&sale("before it saw the first", 10_001, 1, 1));
    owner.seen = market.seen();
    owner.sell(&sale("told of the first", 10_002, 1, 1));
    market.check(&[(&market.control.clone(), 4)]);
    owner.sell(&sale("not told of the second", 10_003, 1, 1));
    owner.seen = market.seen();
    owner.sell(&sale("told of the second", 10_004, 1, 1));
    let message = payload::Policy {
        fee_rate: "9".into(),
        replaces: vec![market.control.heads[3].hash.as_bytes().to_vec()],
        ..Default::default()
    };
    market.control.public(Kind::POLICY, encode(&message));
    owner.sell(&sale("under a policy that no checkpoint covers", 10_005, 1, 1));
    owner.seen = [9; 8];
    owner.sell(&sale("after a checkpoint that nobody knows", 10_006, 1, 1));
    market.whole(&owner);
    market
}

/// The root takes a second hub's policy out again, below what a checkpoint had named, and in the end lets it count after
/// all: from then on, and not over what was sold before.
fn brought_back() -> Market {
    let mut market = Market::open();
    market.root.public(Kind::CERTIFICATE, certificate(SECOND, Role::Hub, Scopes::hub()).to_payload());
    let mut second = Log::open(SECOND, 0xa7, Lane::CONTROL);
    let policy = payload::Policy {
        fee_rate: "11".into(),
        replaces: vec![market.control.heads[3].hash.as_bytes().to_vec()],
        ..Default::default()
    };
    second.public(Kind::POLICY, encode(&policy));
    let mut owner = Log::open(OWNER, 0xa3, Lane::SALES);
    let sold = |market: &mut Market, owner: &mut Log, root, id: &str, price| {
        market.check(&[(&market.root.clone(), root), (&market.control.clone(), 4), (&second, 2)]);
        owner.seen = market.seen();
        owner.sell(&sale(id, price, 1, 1));
    };
    sold(&mut market, &mut owner, 4, "told of it", 10_000);
    let device = key(SECOND).id().as_bytes().to_vec();
    let below = payload::Revocation { device: device.clone(), below_standing: true, ..Default::default() };
    market.root.public(Kind::REVOCATION, encode(&below));
    sold(&mut market, &mut owner, 5, "told that it is gone", 10_001);
    let raise = payload::Raise { device, line: a_line(&second, 2) };
    market.root.public(Kind::RAISE, encode(&raise));
    sold(&mut market, &mut owner, 6, "told that it is back", 10_002);
    market.whole(&owner);
    market.whole(&second);
    market
}

/// A sale whose promotions took something off.
fn reduced(id: &str, promotions: &[(&str, u64)]) -> payload::Sale {
    let mut sale = sale(id, 2_000, 1, 1);
    let reduction: u64 = promotions.iter().map(|(_, amount)| amount).sum();
    let line = &mut sale.lines[0];
    line.reductions = promotions
        .iter()
        .map(|(promotion, amount)| payload::SaleReduction {
            promotion: (*promotion).into(),
            name: "off".into(),
            amount: *amount,
            why: "for the test".into(),
            entry: Vec::new(),
        })
        .collect();
    (line.net, line.total) = (line.gross - reduction, line.gross - reduction);
    line.taxes.clear();
    (sale.reduction, sale.tax, sale.total) = (reduction, 0, line.total);
    sale.tenders[0].amount = sale.total;
    sale
}

/// The market bears a share of its promotions: by what the seller had seen, whether it can read their terms or not, and
/// nothing of a stall's own.
fn paid_by_the_market() -> Market {
    let mut market = Market::open();
    let promotion = |id: &str, borne: &str| payload::Promotion {
        id: id.into(),
        terms: "what a later version knows".into(),
        borne_by_market: borne.into(),
        ..Default::default()
    };
    let given = |promotions, replaces| encode(&payload::Promotions { promotions, replaces });
    // Of what is said twice in one entry the first counts.
    let first = vec![promotion("HALF", "50"), promotion("ALL", "100"), promotion("HALF", "1")];
    let first = market.control.public(Kind::PROMOTIONS, given(first, Vec::new()));
    let mut owner = Log::open(OWNER, 0xa3, Lane::SALES);
    owner.sell(&reduced("before any checkpoint", &[("HALF", 333)]));
    market.check(&[(&market.control.clone(), 5)]);
    owner.seen = market.seen();
    owner.sell(&reduced("half, all, and a stall's own", &[("HALF", 333), ("OWN", 100), ("ALL", 7)]));
    let replaced = vec![first.hash.as_bytes().to_vec()];
    let withdrawn = payload::Promotion { id: "ALL".into(), withdrawn: true, ..Default::default() };
    market.control.public(Kind::PROMOTIONS, given(vec![promotion("HALF", "12.5"), withdrawn], replaced));
    owner.sell(&reduced("not told of the change", &[("HALF", 333), ("ALL", 7)]));
    market.check(&[(&market.control.clone(), 6)]);
    owner.seen = market.seen();
    owner.sell(&reduced("told of the change", &[("HALF", 333), ("ALL", 7)]));
    owner.sell(&reduced("a share that is no number", &[("ODD", 10)]));
    market.control.public(Kind::PROMOTIONS, given(vec![promotion("ODD", "a tenth")], Vec::new()));
    let mut sale = reduced("a reduction that is not in the sum", &[("HALF", 333)]);
    sale.reduction = 1;
    owner.sell(&sale);
    // Of the worth before: more tax than what is left to be paid.
    let mut sale = reduced("taxed before the reduction", &[("ALL", 1_900)]);
    sale.lines[0].taxes =
        vec![payload::SaleTax { name: "standard".into(), rate: "20".into(), base: 1_667, amount: 333 }];
    sale.tax = 333;
    owner.sell(&sale);
    let mut sale = reduced("a fee that hides something", &[]);
    sale.fees = vec![payload::SaleFee { promotion: "BAG".into(), amount: 10, total: 15, ..Default::default() }];
    (sale.fee, sale.total) = (10, sale.total + 15);
    sale.tenders[0].amount = sale.total;
    owner.sell(&sale);
    market.whole(&owner);
    market
}

/// A sale cites the entries that gave its promotions: what is newer than what its author had seen covered counts as it was
/// then, also where it was changed before the next checkpoint; what is older doesn't go before what the author was told.
fn paid_as_cited() -> Market {
    let mut market = Market::open();
    let given = |borne: &str, replaces: &[Hash]| {
        let promotions = vec![payload::Promotion {
            id: "HALF".into(),
            terms: "what a later version knows".into(),
            borne_by_market: borne.into(),
            ..Default::default()
        }];
        encode(&payload::Promotions {
            promotions,
            replaces: replaces.iter().map(|hash| hash.as_bytes().to_vec()).collect(),
        })
    };
    let citing = |id: &str, promotion: &str, entry: &Hash| {
        with(reduced(id, &[(promotion, 333)]), |sale| {
            sale.lines[0].reductions[0].entry = entry.prefix().to_vec();
        })
    };
    let mut owner = Log::open(OWNER, 0xa3, Lane::SALES);
    market.check(&[(&market.control.clone(), 4)]);
    owner.seen = market.seen();
    let first = market.control.public(Kind::PROMOTIONS, given("50", &[])).hash;
    owner.sell(&citing("as the first says", "HALF", &first));
    let second = market.control.public(Kind::PROMOTIONS, given("25", &[first])).hash;
    owner.sell(&citing("as the second says", "HALF", &second));
    owner.sell(&citing("another promotion than the entry's", "OTHER", &second));
    owner.sell(&reduced("cites nothing", &[("HALF", 333)]));
    market.check(&[(&market.control.clone(), 6)]);
    owner.seen = market.seen();
    owner.sell(&citing("the first, though told of the second", "HALF", &first));
    let third = market.control.public(Kind::PROMOTIONS, given("10", &[second])).hash;
    owner.sell(&citing("as the third says, which no checkpoint covers", "HALF", &third));
    owner.sell(&citing("still as the second says", "HALF", &second));
    market.whole(&owner);
    market
}

/// Tips, and what own terminals took: the stall's whole, and held by it already.
fn tipped() -> Market {
    let mut market = Market::open();
    let mut owner = Log::open(OWNER, 0xa3, Lane::SALES);
    let paid = |id: &str, tenders: &[(u32, u64, u64)]| {
        with(sale(id, 10_000, 1, 1), |sale| {
            let tender = |(kind, amount, tip): &(u32, u64, u64)| payload::Tender {
                kind: *kind,
                amount: *amount,
                tip: *tip,
                ..Default::default()
            };
            sale.tenders = tenders.iter().map(tender).collect();
        })
    };
    owner.sell(&paid("a tip by card", &[(2, 10_000, 500)]));
    owner.sell(&paid("taken outside, with a tip", &[(6, 10_000, 300)]));
    owner.sell(&paid("three ways", &[(1, 2_000, 0), (6, 3_000, 0), (3, 5_000, 1)]));
    owner.sell(&paid("a tip for what isn't paid", &[(2, 9_500, 500)]));
    owner.sell(&paid("a tip out of range", &[(2, 10_000, 1 << 53)]));
    owner.sell(&paid("no kind", &[(7, 10_000, 0)]));
    market.check(&[(&market.control.clone(), 4)]);
    market.whole(&owner);
    market
}

/// (Name, root key, export)
pub(crate) fn exports() -> Vec<(&'static str, DeviceId, Vec<u8>)> {
    [
        ("a day at the market", a_day()),
        ("a revoked device", revoked()),
        ("a forked device", forked(true)),
        ("a forked device of which no checkpoint had named anything", forked(false)),
        ("a forked device's other life is admitted again", readmitted()),
        ("a fee that changes", charged()),
        ("a policy that a raise brings back", brought_back()),
        ("promotions that the market pays for", paid_by_the_market()),
        ("promotions as sales cite them", paid_as_cited()),
        ("tips, and what was taken outside", tipped()),
    ]
    .map(|(name, market)| {
        let (root, export) = market.export();
        (name, root, export)
    })
    .into()
}
