//! Writes that carry an idempotency key: done once, and answered alike for a day, also over a restart.
//!
//! ```text
//! meta   "once/" ‖ H(key) 16                    what was asked, by its hash, and the answer, as JSON
//!        "once-at/" ‖ time u64 ‖ H(key) 16      when: the order in which they are forgotten
//! ```
//! Both stand in the commit of what was done: a device that dies before it has answered has done it and knows the answer,
//! or has done nothing. Sales and baskets keep their keys themselves, for as long as they are kept.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use stallmesh_protocol::hash::{Domain, Hasher};
use stallmesh_protocol::{Hash, SaleId};

use super::baskets::check_key;
use super::{Answer, BasketId, Engine, Failure, FailureCode, Request};
use crate::store::{Store, StoreError, Table};

const META_ONCE: &[u8] = b"once/";
const META_ONCE_AT: &[u8] = b"once-at/";
/// For so long a key is kept, in milliseconds: whoever asks again after a day asks anew.
const KEPT_MS: u64 = 24 * 3_600_000;
/// The most keys that are kept: some for each second of a busy hour.
const KEPT_MAX: usize = 4096;
/// The longest answer that is kept, in bytes of JSON. Together they stay far below what a disk notices.
const ANSWER_MAX: usize = 64 * 1024;

/// A key's first 16 bytes of hash: keys may be long, and say more than others need to know.
type Name = [u8; 16];

/// When each key was used, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Onces {
    order: BTreeSet<(u64, Name)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// Hash of the request.
    asked: String,
    at: u64,
    /// Nothing: it was too long.
    answer: Option<Answer>,
    /// Of what a restart undoes: the run in which it was done.
    run: Option<String>,
}

fn conflict(detail: impl Into<String>) -> Failure {
    Failure::new(FailureCode::EConflict, detail)
}

fn name_of(key: &str) -> Name {
    let hash = Hasher::new(Domain::SaleId).sized(b"once").sized(key.as_bytes()).finish();
    let mut name = [0; 16];
    name.copy_from_slice(&hash.as_bytes()[..16]);
    name
}

fn place_of(name: &Name) -> Vec<u8> {
    [META_ONCE, name].concat()
}

fn order_of(at: u64, name: &Name) -> Vec<u8> {
    [META_ONCE_AT, &at.to_be_bytes(), name].concat()
}

/// Whether a restart undoes it: the same request is then done again, as whoever sent it expects.
fn lasts_for_a_run(request: &Request) -> bool {
    matches!(request, Request::SetUplink { .. } | Request::SetPower { .. } | Request::AddPeer { .. })
}

impl<S: Store> Engine<S> {
    pub(super) fn load_onces(&mut self) -> Result<(), StoreError> {
        for (key, _) in self.overlay.scan_prefix(Table::Meta, META_ONCE_AT)? {
            let Some((at, name)) = key.get(META_ONCE_AT.len()..).and_then(<[u8]>::split_first_chunk::<8>) else {
                continue;
            };
            if let Ok(name) = name.try_into() {
                self.onces.order.insert((u64::from_be_bytes(*at), name));
            }
        }
        Ok(())
    }

    /// Does what is asked, or answers as it did before. What failed is not remembered: it changed nothing.
    pub(super) fn once(&mut self, key: &str, asked: &Hash, request: Request) -> Result<Answer, Failure> {
        if let Some(answer) = self.recall(key, asked)? {
            return Ok(answer);
        }
        self.check_no_sale_has(key)?;
        self.check_no_basket_has(key)?;
        let run = lasts_for_a_run(&request).then(|| self.incarnation.to_string());
        let answer = self.try_answer(request)?;
        if !matches!(answer, Answer::Failed(_)) {
            self.remember(key, asked, &answer, run);
        }
        Ok(answer)
    }

    /// What was answered to this request before.
    pub(super) fn recall(&self, key: &str, asked: &Hash) -> Result<Option<Answer>, Failure> {
        let Some(kept) = self.kept(check_key(key)?)? else { return Ok(None) };
        if kept.asked != asked.to_string() {
            return Err(conflict("this idempotency key was used for another request"));
        }
        let long = || conflict("it was done, and its answer was too long to be kept: look at what it has made");
        kept.answer.map(Some).ok_or_else(long)
    }

    fn kept(&self, key: &str) -> Result<Option<Kept>, StoreError> {
        let value = self.overlay.get(Table::Meta, &place_of(&name_of(key)))?;
        let kept: Option<Kept> = value.and_then(|value| serde_json::from_slice(&value).ok());
        let own = self.incarnation.to_string();
        let is_old = |kept: &Kept| kept.at.saturating_add(KEPT_MS) < self.time();
        Ok(kept.filter(|kept| !is_old(kept) && kept.run.as_ref().is_none_or(|run| *run == own)))
    }

    fn remember(&mut self, key: &str, asked: &Hash, answer: &Answer, run: Option<String>) {
        let name = name_of(key);
        // One after the other also within a millisecond, or where the clock went back: the newest never goes first.
        let last = self.onces.order.last().map_or(0, |(at, _)| at.saturating_add(1));
        let at = self.time().max(last);
        let length = serde_json::to_vec(answer).map_or(usize::MAX, |text| text.len());
        let answer = (length <= ANSWER_MAX).then(|| answer.clone());
        let kept = Kept { asked: asked.to_string(), at, answer, run };
        self.overlay.put(Table::Meta, place_of(&name), serde_json::to_vec(&kept).unwrap_or_default());
        self.overlay.put(Table::Meta, order_of(at, &name), Vec::new());
        self.onces.order.insert((at, name));
        while let Some(oldest) = self.onces.order.first().copied()
            && (self.onces.order.len() > KEPT_MAX || oldest.0.saturating_add(KEPT_MS) < at)
        {
            self.onces.order.remove(&oldest);
            self.overlay.delete(Table::Meta, order_of(oldest.0, &oldest.1));
            // A key that was used again after a day has a newer place.
            if !self.onces.order.iter().any(|(_, name)| *name == oldest.1) {
                self.overlay.delete(Table::Meta, place_of(&oldest.1));
            }
        }
    }

    /// A sale's or a basket's key that another write has used is a mistake of the caller.
    pub(super) fn check_key_is_free(&self, request: &Request) -> Result<(), Failure> {
        let key = match request {
            Request::RecordSale(order) => order.idempotency_key.as_str(),
            Request::OpenBasket { key: Some(key), .. } | Request::ChangeBasket { key: Some(key), .. } => key,
            _ => return Ok(()),
        };
        if self.kept(key)?.is_some() {
            return Err(conflict("this idempotency key was used for another request"));
        }
        match request {
            Request::RecordSale(_) => self.check_no_basket_has(key),
            Request::OpenBasket { .. } => self.check_no_sale_has(key),
            _ => Ok(()),
        }
    }

    fn check_no_sale_has(&self, key: &str) -> Result<(), Failure> {
        let stall = self.views.membership.stall(&self.device.id()).unwrap_or_default();
        match self.sale_record(&SaleId::derive(stall, key))? {
            Some(_) => Err(conflict("this idempotency key was used for a sale")),
            None => Ok(()),
        }
    }

    fn check_no_basket_has(&self, key: &str) -> Result<(), Failure> {
        match self.has_basket(&BasketId(*SaleId::derive("basket", key).as_bytes()))? {
            true => Err(conflict("this idempotency key was used for a basket")),
            false => Ok(()),
        }
    }
}
