//! What people at a simulated market do: join, publish, sell, settle, ask.

use std::collections::BTreeSet;

use stallmesh_node::engine::{
    Answer, ExplainSubject, ExplainView, FailureCode, InviteOrder, MarketOrder, OrderTender, PolicyView, ProductView,
    Request, SaleOrder, SaleView, SettlementView, TenderKind,
};
use stallmesh_node::quote::files::{LineFile, TaxRateFile};

use super::Simulation;

impl Simulation {
    /// Makes an invite at the hub.
    pub fn invite_text(&mut self, stall: &str) -> Answer {
        let role = if stall.is_empty() { "gateway" } else { "stall" };
        let order = InviteOrder {
            role: role.into(),
            stall: stall.into(),
            name: format!("{role} {stall}").trim_end().to_owned(),
            expires_ms: 24 * 3_600_000,
            valid_ms: self.certificates_ms,
        };
        self.ask(0, Request::CreateInvite(order))
    }

    /// Makes an invite at the hub and starts to join with it.
    pub fn invite(&mut self, index: usize, stall: &str) {
        let Answer::Invite(invite) = self.invite_text(stall) else { panic!("no invite") };
        let answer = self.ask(index, Request::Join { invite, name: String::new() });
        assert_eq!(answer, Answer::Done);
    }

    /// A market of one gateway (node 1, with the uplink) and stalls (from node 2 on), all members.
    pub fn market(seed: u64, stalls: usize) -> Self {
        Self::market_for(seed, stalls, 48 * 3_600_000)
    }

    /// The same with certificates that are valid for so many milliseconds.
    pub fn market_for(seed: u64, stalls: usize, certificates_ms: u64) -> Self {
        let mut simulation = Simulation::new(seed);
        simulation.certificates_ms = certificates_ms;
        let gateway = simulation.add();
        simulation.uplink(gateway, true);
        simulation.invite(gateway, "");
        for number in 1..=stalls {
            let index = simulation.add();
            simulation.invite(index, &format!("stall-{number}"));
        }
        let last = simulation.nodes.len();
        simulation.until("everybody joins", 120_000, |simulation| {
            (1..last).all(|index| simulation.status(index).role != "none")
        });
        for index in 2..last {
            simulation.publish(index);
        }
        simulation.until("everybody has every catalog", 120_000, |simulation| {
            (1..last).all(|index| match simulation.ask(index, Request::CatalogCounts) {
                Answer::CatalogCounts(counts) => counts.len() == stalls,
                _ => false,
            })
        });
        simulation
    }

    /// Publishes three products of a stall.
    pub fn publish(&mut self, index: usize) {
        self.publish_at(index, 50);
    }

    /// Publishes three products of a stall, at prices that end so.
    pub fn publish_at(&mut self, index: usize, cents: u64) {
        assert_eq!(self.try_publish_at(index, cents), Answer::Done);
    }

    /// Asks to publish three products of a stall.
    pub fn try_publish_at(&mut self, index: usize, cents: u64) -> Answer {
        let products = (1..=3_u64)
            .map(|number| ProductView {
                sku: format!("P{number}"),
                name: format!("Product {number} of node {index}"),
                price: 100 * number + cents,
                taxes: vec!["standard".into()],
                unit: "piece".into(),
                ..ProductView::default()
            })
            .collect();
        self.ask(index, Request::PublishProducts(products))
    }

    /// Records a sale.
    pub fn sell(&mut self, index: usize, key: &str) -> SaleView {
        match self.try_sell(index, key, 1) {
            Answer::Sale(sale) => sale,
            other => panic!("node {index} could not sell: {other:?}"),
        }
    }

    /// Asks to record a sale of some units of the second product.
    pub fn try_sell(&mut self, index: usize, key: &str, quantity: u64) -> Answer {
        let card = key.len().is_multiple_of(2);
        let tender = OrderTender {
            kind: if card { TenderKind::Card } else { TenderKind::Cash },
            token: if card { "tok_visa_4242".into() } else { String::new() },
            ..OrderTender::default()
        };
        let line = LineFile::of("P2", quantity);
        let order = SaleOrder {
            idempotency_key: key.into(),
            lines: vec![line],
            tenders: vec![tender],
            operator: "Ada".into(),
            note: "MARKER-clear-text-note".into(),
            ..SaleOrder::default()
        };
        self.insist(index, order)
    }

    /// Asks to record a sale, as people do: whoever is asked says yes, and where no card is taken, it is paid in cash.
    pub fn insist(&mut self, index: usize, mut order: SaleOrder) -> Answer {
        let answer = self.ask(index, Request::RecordSale(order.clone()));
        let Answer::Failed(failure) = &answer else { return answer };
        match failure.code {
            FailureCode::EAsk => order.confirmed = failure.reasons.iter().map(|reason| reason.id.clone()).collect(),
            FailureCode::EDeclined => {
                let cash = |tender: &OrderTender| OrderTender { amount: tender.amount, ..OrderTender::default() };
                order.tenders = order.tenders.iter().map(cash).collect();
            }
            _ => return answer,
        }
        self.ask(index, Request::RecordSale(order))
    }

    /// Closes a batch at the hub, or says what it would be.
    pub fn settle(&mut self, dry_run: bool) -> SettlementView {
        match self.ask(0, Request::Settle { dry_run }) {
            Answer::Settlement(settlement) => settlement,
            other => panic!("settle: {other:?}"),
        }
    }

    /// The whole export of a node.
    pub fn export(&mut self, index: usize) -> Vec<u8> {
        let (mut file, mut cursor) = (Vec::new(), Vec::new());
        loop {
            match self.ask(index, Request::Export { cursor }) {
                Answer::Export { bytes, cursor: next } => {
                    file.extend(bytes);
                    if next.is_empty() {
                        return file;
                    }
                    cursor = next;
                }
                other => panic!("export: {other:?}"),
            }
        }
    }

    /// Why something is, or isn't, here.
    pub fn explain(&mut self, index: usize, subject: ExplainSubject) -> ExplainView {
        match self.ask(index, Request::Explain(subject)) {
            Answer::Explain(view) => view,
            other => panic!("explain: {other:?}"),
        }
    }

    /// Reasons of what stands in suspense at the hub.
    pub fn suspense(&mut self) -> BTreeSet<String> {
        self.settle(true).suspense.into_iter().map(|row| row.reason).collect()
    }
}

/// The terms of every simulated market.
pub fn market_order() -> MarketOrder {
    MarketOrder {
        name: "Simulated market".into(),
        currency: "EUR".into(),
        epoch: 1,
        hub_name: "Hub".into(),
        valid_ms: 90 * 24 * 3_600_000,
        policy: PolicyView {
            fee_rate: "5".into(),
            prices_include_tax: true,
            tax_rates: [("standard".to_owned(), TaxRateFile::of(20))].into_iter().collect(),
            carriers: 3,
            ..PolicyView::default()
        },
    }
}
