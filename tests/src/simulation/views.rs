//! What nodes believe, in a form that can be compared.

use std::collections::BTreeSet;

use stallmesh_node::engine::{Answer, DelegateOrder, EntryView, MemberView, ProductView, Request};
use stallmesh_node::quote::canonical;
use stallmesh_protocol::DeviceId;

use super::Simulation;

/// All that nodes must agree on: who belongs, what is for sale, and what stands of the lanes that everyone keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beliefs {
    /// Device, role, stall, scopes, state.
    pub members: Vec<(DeviceId, String, String, Vec<String>, String)>,
    /// The whole catalog.
    pub products: Vec<ProductView>,
    /// Promotions of the market (an empty name) and of each stall, in their one form.
    pub promotions: BTreeSet<(String, String)>,
    /// Author, incarnation, lane, sequence and hash of each entry that stands.
    pub standing: BTreeSet<(String, String, String, u64, String)>,
}

impl Simulation {
    /// What a node knows of the members.
    ///
    /// # Panics
    /// It doesn't answer.
    pub fn members(&mut self, at: usize) -> Vec<MemberView> {
        match self.ask(at, Request::Members) {
            Answer::Members(members) => members,
            other => panic!("members: {other:?}"),
        }
    }

    /// All that a node holds of a device, as it says.
    ///
    /// # Panics
    /// It doesn't answer.
    pub fn entries(&mut self, at: usize, author: DeviceId) -> Vec<EntryView> {
        match self.ask(at, Request::LogShow { author: Some(author), lane: None, before: None, limit: 100_000 }) {
            Answer::Entries(entries) => entries,
            other => panic!("log: {other:?}"),
        }
    }

    /// A stall's products, as a node knows them.
    ///
    /// # Panics
    /// It doesn't answer.
    pub fn products(&mut self, at: usize, stall: Option<&str>) -> Vec<ProductView> {
        let request =
            Request::Catalog { stall: stall.map(str::to_owned), query: String::new(), after: None, limit: 100_000 };
        match self.ask(at, request) {
            Answer::Products(products) => products,
            other => panic!("catalog: {other:?}"),
        }
    }

    /// Promotions of the market and of a stall, as a node knows them.
    ///
    /// # Panics
    /// It doesn't answer.
    pub fn promotions(&mut self, at: usize, stall: &str) -> Vec<(String, String)> {
        match self.ask(at, Request::Promotions { stall: Some(stall.to_owned()) }) {
            Answer::Promotions(promotions) => {
                promotions.into_iter().map(|view| (view.stall, canonical(&view.promotion))).collect()
            }
            other => panic!("promotions: {other:?}"),
        }
    }

    /// What a node believes.
    pub fn beliefs(&mut self, at: usize) -> Beliefs {
        let members = self.members(at);
        let authors: BTreeSet<DeviceId> = members.iter().map(|member| member.device).chain([self.root]).collect();
        let mut standing = BTreeSet::new();
        for author in authors {
            for entry in self.entries(at, author) {
                if entry.standing == "stands" && entry.lane != "sales" && entry.lane != "ledger" {
                    standing.insert((entry.author, entry.incarnation, entry.lane, entry.sequence, entry.hash));
                }
            }
        }
        let stalls: BTreeSet<&str> = members.iter().map(|member| member.stall.as_str()).collect();
        let promotions = stalls.into_iter().flat_map(|stall| self.promotions(at, stall)).collect();
        Beliefs {
            promotions,
            members: members
                .into_iter()
                .map(|member| (member.device, member.role, member.stall, member.scopes, member.state))
                .collect(),
            // What its stall has sold a device sees, and nobody else.
            products: self.products(at, None).into_iter().map(|view| ProductView { left: None, ..view }).collect(),
            standing,
        }
    }

    /// Waits until nodes believe the same, and gives what they believe.
    ///
    /// # Panics
    /// They never do.
    pub fn until_agreed(&mut self, nodes: &[usize], milliseconds: u64) -> Beliefs {
        let end = self.now + milliseconds;
        loop {
            let beliefs: Vec<Beliefs> = nodes.iter().map(|node| self.beliefs(*node)).collect();
            if let Some(first) = beliefs.first().filter(|first| beliefs.iter().all(|other| other == *first)) {
                return first.clone();
            }
            if self.now >= end {
                let described = describe_difference(nodes, &beliefs);
                panic!("nodes {nodes:?} don't agree within {milliseconds} ms:\n{described}");
            }
            self.run_for(1_000);
        }
    }

    /// A stall's owner gives a helper's device a certificate.
    pub fn delegate(&mut self, owner: usize, helper: usize, scopes: &[&str], valid_ms: u64) -> Answer {
        let order = DelegateOrder {
            device: self.nodes[helper].id(),
            seal_key: self.status(helper).seal_key,
            name: format!("helper {helper}"),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            valid_ms,
        };
        self.ask(owner, Request::Delegate(order))
    }

    /// A device that knows the market, and asks to be let in by whoever may.
    ///
    /// # Panics
    /// It can't ask.
    pub fn add_helper(&mut self, stall: &str) -> usize {
        let helper = self.add();
        self.ask_in(helper, stall);
        helper
    }

    /// Tells a device of the market, as scanning a market's code does, and lets it ask for a stall.
    ///
    /// # Panics
    /// It can't ask.
    pub fn ask_in(&mut self, device: usize, stall: &str) {
        let Answer::Invite(market) = self.invite_text("") else { panic!("no invite") };
        let ask = Request::AskToJoin { market, name: "helper".into(), stall: stall.into() };
        assert_eq!(self.ask(device, ask), Answer::Done);
    }

    /// Revokes a device at a node that may.
    pub fn revoke(&mut self, at: usize, device: usize) -> Answer {
        let device = self.nodes[device].id();
        self.ask(at, Request::Revoke { device, reason: "lost".into() })
    }
}

impl Beliefs {
    /// The same where nothing expires: a device that was started with a wrong clock goes on from there.
    pub fn without_expiry(&self) -> Beliefs {
        let mut beliefs = self.clone();
        let members = std::mem::take(&mut beliefs.members);
        let valid = |state: String| if state == "expired" { "valid".to_owned() } else { state };
        beliefs.members = members
            .into_iter()
            .map(|(device, role, stall, scopes, state)| (device, role, stall, scopes, valid(state)))
            .collect();
        beliefs
    }

    /// Where they differ from others, in words.
    pub fn differs_from(&self, other: &Beliefs) -> String {
        describe_difference(&[1, 2], &[self.clone(), other.clone()])
    }
}

fn describe_difference(nodes: &[usize], beliefs: &[Beliefs]) -> String {
    let mut lines = String::new();
    let Some(first) = beliefs.first() else { return lines };
    for (node, other) in nodes.iter().zip(beliefs).skip(1) {
        for member in &other.members {
            if !first.members.contains(member) {
                lines += &format!("node {node}, not {}: {member:?}\n", nodes[0]);
            }
        }
        for member in &first.members {
            if !other.members.contains(member) {
                lines += &format!("node {}, not {node}: {member:?}\n", nodes[0]);
            }
        }
        for entry in other.standing.difference(&first.standing) {
            lines += &format!("node {node}, not {}: stands {entry:?}\n", nodes[0]);
        }
        for entry in first.standing.difference(&other.standing) {
            lines += &format!("node {}, not {node}: stands {entry:?}\n", nodes[0]);
        }
        for promotion in other.promotions.symmetric_difference(&first.promotions) {
            lines += &format!("node {} or {node}, not both: {promotion:?}\n", nodes[0]);
        }
        if first.products != other.products {
            lines += &format!("catalogs of nodes {} and {node} differ\n", nodes[0]);
        }
    }
    lines
}
