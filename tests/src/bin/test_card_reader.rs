//! A card reader for tests: no card and no terminal, but the protocol of docs/card-reader.md, over HTTP on loopback.
//!
//! `test_card_reader FILE` keeps its payments in FILE, prints `http://ADDRESS`, and presents a card to each payment. What it
//! does with the next payments is said by `POST /test/next` with a JSON array of words, one for each: `approve`, `decline`,
//! `wait` (no card comes), `time-out`, `lost` (a card is taken, and the answer to the request never comes), `number` (what
//! no reader may do: the card's number stands in the token). A word may be followed by ` as CARD`.
#![allow(clippy::print_stdout, reason = "says where it answers")]

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Payment {
    amount: u64,
    currency: String,
    state: String,
    token: String,
    card: String,
    because: String,
}

#[derive(Default)]
struct Reader {
    file: PathBuf,
    payments: BTreeMap<String, Payment>,
    next: VecDeque<String>,
}

impl Reader {
    fn keep(&self) -> std::io::Result<()> {
        let new = self.file.with_extension("new");
        std::fs::write(&new, serde_json::to_vec(&self.payments)?)?;
        std::fs::rename(new, &self.file)
    }

    /// The answer to a request; `None`: none is given.
    fn answer(&mut self, method: &str, path: &str, body: &[u8]) -> std::io::Result<Option<(u16, Value)>> {
        let name = path.strip_prefix("/v1/payments/");
        let shown = |payment: &Payment| Some((200, json!(payment)));
        let answer = match (method, path, name) {
            ("POST", "/test/next", _) => {
                self.next.extend(serde_json::from_slice::<Vec<String>>(body)?);
                Some((200, json!({})))
            }
            ("GET", "/test/payments", _) => Some((200, json!(self.payments))),
            ("POST", "/v1/payments", _) => return self.take(body),
            ("POST", _, Some(name)) if name.ends_with("/reverse") => {
                let payment = self.payments.entry(name.trim_end_matches("/reverse").to_owned()).or_default();
                "reversed".clone_into(&mut payment.state);
                let answer = shown(payment);
                self.keep()?;
                answer
            }
            ("GET", _, Some(name)) => self.payments.get(name).map_or(Some((404, json!({}))), shown),
            _ => Some((404, json!({}))),
        };
        Ok(answer)
    }

    fn take(&mut self, body: &[u8]) -> std::io::Result<Option<(u16, Value)>> {
        let asked: Value = serde_json::from_slice(body)?;
        let text = |field: &str| asked[field].as_str().unwrap_or_default().to_owned();
        let (name, amount) = (text("payment"), asked["amount"].as_u64().unwrap_or_default());
        if let Some(known) = self.payments.get(&name) {
            let is_same = known.state == "reversed" || known.amount == amount;
            return Ok(Some(if is_same { (200, json!(known)) } else { (409, json!({ "because": "another amount" })) }));
        }
        let next = self.next.pop_front().unwrap_or_else(|| "approve".to_owned());
        let (word, card) = next.split_once(" as ").unwrap_or((next.as_str(), "card 1"));
        let mut payment = Payment { amount, currency: text("currency"), ..Payment::default() };
        let state = match word {
            "decline" => "declined",
            "wait" => "waiting",
            "time-out" => "timed_out",
            _ => "approved",
        };
        state.clone_into(&mut payment.state);
        if state == "approved" {
            card.clone_into(&mut payment.card);
            payment.token = if word == "number" { "4111111111111111".to_owned() } else { format!("tok-{name}") };
        }
        if state == "declined" {
            "the holder refused".clone_into(&mut payment.because);
        }
        let answer = (word != "lost").then(|| (200, json!(payment)));
        self.payments.insert(name, payment);
        self.keep()?;
        Ok(answer)
    }
}

fn serve(stream: TcpStream, reader: &Mutex<Reader>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    lines.read_line(&mut first)?;
    let mut words = first.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut length = 0;
    loop {
        let mut line = String::new();
        lines.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    lines.read_exact(&mut body)?;
    let answer = reader.lock().unwrap_or_else(PoisonError::into_inner).answer(method, path, &body)?;
    if let Some((status, value)) = answer {
        let text = value.to_string();
        let mut stream = stream;
        write!(
            stream,
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
            text.len()
        )?;
    }
    Ok(())
}

fn main() -> std::io::Result<()> {
    let file = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "payments.json".to_owned()));
    let port = std::env::args().nth(2).and_then(|port| port.parse().ok()).unwrap_or(0);
    let known = std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let reader = Reader { file, payments: known.unwrap_or_default(), next: VecDeque::new() };
    let reader = Arc::new(Mutex::new(reader));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    println!("http://{}", listener.local_addr()?);
    std::io::stdout().flush()?;
    for stream in listener.incoming() {
        let (stream, reader) = (stream?, reader.clone());
        std::thread::spawn(move || {
            // Whoever hangs up in the middle is nobody's business.
            let _ = serve(stream, &reader);
        });
    }
    Ok(())
}
