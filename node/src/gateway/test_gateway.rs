//! A gateway that asks nobody, for tests and rehearsals of a market: what it answers stands in the token.
//!
//! It remembers every payment by its name in a file, as a provider does, so that a hub that asks again after a crash is told
//! what it was told before, and whoever looks can tell what was held and what was let go.
//!
//! | token | what becomes of it |
//! | --- | --- |
//! | `…decline…` | declined |
//! | `…partial-N…` | N minor units are held |
//! | `…slow-N…` | approved, and the answer takes N milliseconds |
//! | `…lost…` | approved, and the answer never comes |
//! | any other | approved |

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::{Authorisation, Decision, Gateway, Unanswered};

/// Why it can't begin.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {detail}")]
pub struct TestGatewayError {
    /// Its file.
    path: PathBuf,
    detail: String,
}

/// A payment that it knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    payment: String,
    amount: u64,
    held: u64,
    voided: bool,
}

/// The test gateway.
#[derive(Debug)]
pub struct TestGateway {
    path: PathBuf,
    known: Mutex<BTreeMap<String, Known>>,
}

impl TestGateway {
    /// Reads what it knows from its file: a line for each thing that happened, the last one of a payment counts.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn open(path: &Path) -> Result<Self, TestGatewayError> {
        let wrong = |detail: String| TestGatewayError { path: path.to_owned(), detail };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(wrong(error.to_string())),
        };
        let mut known = BTreeMap::new();
        // A last line without its end was being written when the power went: nobody was told of it.
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let read: Known = serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
            known.insert(read.payment.clone(), read);
        }
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        if whole < text.len() {
            let cut = std::fs::OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(whole as u64));
            cut.map_err(|error| wrong(error.to_string()))?;
        }
        Ok(TestGateway { path: path.to_owned(), known: Mutex::new(known) })
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, known: &Known) -> Result<(), Unanswered> {
        let write = || -> std::io::Result<()> {
            let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&self.path)?;
            writeln!(file, "{}", serde_json::to_string(known)?)?;
            file.sync_data()
        };
        write().map_err(|error| Unanswered(format!("{}: {error}", self.path.display())))
    }

    fn decide(&self, order: &Authorisation) -> Result<Decision, Unanswered> {
        let mut all = self.known();
        let known = match all.get(&order.payment) {
            Some(known) if known.amount != order.amount && known.amount > 0 => {
                let because = "this payment was asked for with another amount".to_owned();
                return Ok(Decision::Declined { because });
            }
            Some(known) => known.clone(),
            None => {
                let held = held_by_test_token(&order.token, order.amount);
                let known = Known { payment: order.payment.clone(), amount: order.amount, held, voided: false };
                self.keep(&known)?;
                all.insert(order.payment.clone(), known.clone());
                known
            }
        };
        Ok(match known {
            Known { voided: true, .. } => Decision::Declined { because: "this payment was voided".into() },
            Known { held: 0, .. } => Decision::Declined { because: "the test gateway declines this token".into() },
            Known { held, payment, .. } => Decision::Approved { amount: held, reference: format!("test {payment}") },
        })
    }
}

/// What is held for a token of the test gateway's.
pub fn held_by_test_token(token: &str, amount: u64) -> u64 {
    match token.contains("decline") {
        true => 0,
        false => number_after(token, "partial-").unwrap_or(amount).min(amount),
    }
}

/// The number that follows a word in a token.
fn number_after(token: &str, word: &str) -> Option<u64> {
    let rest = token.split_once(word)?.1;
    let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

impl Gateway for TestGateway {
    fn authorise(&self, order: Authorisation) -> BoxFuture<'_, Result<Decision, Unanswered>> {
        async move {
            let decision = self.decide(&order)?;
            if let Some(ms) = number_after(&order.token, "slow-") {
                tokio::time::sleep(Duration::from_millis(ms)).await;
            }
            if order.token.contains("lost") {
                return Err(Unanswered("the answer was lost".into()));
            }
            Ok(decision)
        }
        .boxed()
    }

    fn void(&self, payment: String) -> BoxFuture<'_, Result<(), Unanswered>> {
        async move {
            let mut all = self.known();
            let mut known =
                all.get(&payment).cloned().unwrap_or(Known { payment: payment.clone(), ..Known::default() });
            if !known.voided {
                (known.voided, known.held) = (true, 0);
                self.keep(&known)?;
                all.insert(payment, known);
            }
            Ok(())
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn order(payment: &str, amount: u64, token: &str) -> Authorisation {
        Authorisation { payment: payment.into(), amount, currency: "EUR".into(), token: token.into() }
    }

    fn approved(amount: u64, payment: &str) -> Decision {
        Decision::Approved { amount, reference: format!("test {payment}") }
    }

    #[tokio::test]
    async fn one_name_is_one_payment_also_after_a_restart_and_what_is_void_stays_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway");
        let gateway = TestGateway::open(&path).unwrap();
        assert_eq!(gateway.authorise(order("a/1", 500, "tok")).await, Ok(approved(500, "a/1")));
        assert_eq!(gateway.authorise(order("a/2", 500, "tok-partial-300")).await, Ok(approved(300, "a/2")));
        assert!(matches!(gateway.authorise(order("a/3", 500, "tok-decline")).await, Ok(Decision::Declined { .. })));
        assert!(gateway.authorise(order("a/4", 500, "tok-lost")).await.is_err());
        gateway.void("a/1".into()).await.unwrap();
        // A void that overtakes its payment.
        gateway.void("a/5".into()).await.unwrap();
        drop(gateway);
        let again = TestGateway::open(&path).unwrap();
        assert_eq!(again.authorise(order("a/2", 500, "other token")).await, Ok(approved(300, "a/2")));
        assert_eq!(again.authorise(order("a/4", 500, "tok")).await, Ok(approved(500, "a/4")));
        assert!(matches!(again.authorise(order("a/2", 400, "tok")).await, Ok(Decision::Declined { .. })));
        for voided in ["a/1", "a/5"] {
            assert!(matches!(again.authorise(order(voided, 500, "tok")).await, Ok(Decision::Declined { .. })));
        }
    }

    #[test]
    fn a_line_that_was_cut_off_is_forgotten_and_a_damaged_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway");
        std::fs::write(&path, "{\"payment\":\"a/1\",\"amount\":5,\"held\":5,\"voided\":false}\n{\"pay").unwrap();
        let gateway = TestGateway::open(&path).unwrap();
        gateway.decide(&order("a/2", 7, "tok")).unwrap();
        assert_eq!(TestGateway::open(&path).unwrap().known().len(), 2);
        std::fs::write(&path, "nonsense\n").unwrap();
        assert!(TestGateway::open(&path).unwrap_err().to_string().contains("gateway"));
    }
}
