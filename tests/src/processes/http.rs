//! HTTP/1.1 by hand, one request a connection: tests send what no good client would, and must notice an answer that
//! was cut short.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use serde_json::Value;

/// What came back.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The head's lines.
    pub head: String,
    /// The body as it came.
    pub body: Vec<u8>,
}

impl Reply {
    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head
            .split("\r\n")
            .filter_map(|line| line.split_once(':'))
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }
}

/// The head of a request with a JSON body, without its last empty line.
pub fn head(method: &str, path: &str, host: &str, body: &[u8]) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}",
        body.len()
    )
}

/// Sends a request and takes its answer.
///
/// # Errors
/// The connection broke, or the answer is not whole.
pub fn exchange(mut stream: impl Read + Write, head: &str, body: &[u8]) -> io::Result<Reply> {
    stream.write_all(format!("{head}\r\n\r\n").as_bytes())?;
    // A node that refuses a body answers before it has read all of it.
    let written = stream.write_all(body);
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    match parse(&answer) {
        Some(reply) => Ok(reply),
        None => {
            written?;
            read?;
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}

/// Asks over TCP, with a token where there is one.
///
/// # Errors
/// Nobody answers, or not wholly.
pub fn send_to(address: &str, token: &str, method: &str, path: &str, body: &Value) -> io::Result<Reply> {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let head = format!("{}\r\nAuthorization: Bearer {token}", head(method, path, address, &body));
    exchange(TcpStream::connect(address)?, &head, &body)
}

fn parse(answer: &[u8]) -> Option<Reply> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?.to_owned();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let reply = Reply { status, head, body: answer[end + 4..].to_vec() };
    let length: usize = reply.header("content-length")?.parse().ok()?;
    (reply.body.len() == length).then_some(reply)
}
