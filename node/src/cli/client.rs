//! Asking the running node of a data directory over its Unix socket: HTTP/1.1, one request a connection.

use std::path::Path;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::CliError;
use crate::api::SOCKET_FILE;

/// The largest answer that is taken, in bytes.
const ANSWER_MAX: u64 = 256 * 1024 * 1024;

/// What came back.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// Sends one request, and takes errors of the node as errors.
pub(crate) async fn ask(directory: &Path, method: &str, path: &str, body: Option<&Value>) -> Result<Value, CliError> {
    let bytes = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
    let reply = send(directory, method, path, &bytes).await?;
    value(reply)
}

pub(crate) fn value(reply: Reply) -> Result<Value, CliError> {
    let value: Value = serde_json::from_slice(&reply.body).unwrap_or(Value::Null);
    if reply.status < 400 {
        return Ok(value);
    }
    Err(CliError::Refused {
        code: value["code"].as_str().unwrap_or("E_UNAVAILABLE").to_owned(),
        detail: value["detail"].as_str().unwrap_or("the node refused").to_owned(),
    })
}

/// Sends one request as it is.
pub(crate) async fn send(directory: &Path, method: &str, path: &str, body: &[u8]) -> Result<Reply, CliError> {
    let socket = directory.join(SOCKET_FILE);
    let mut stream = match UnixStream::connect(&socket).await {
        Ok(stream) => stream,
        Err(_) => return Err(CliError::NoNode { directory: directory.display().to_string() }),
    };
    let broken = |error: std::io::Error| CliError::Failed(format!("the node stopped answering: {error}"));
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.map_err(broken)?;
    stream.write_all(body).await.map_err(broken)?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer).await.map_err(broken)?;
    parse(&answer).ok_or_else(|| CliError::Failed("the node gave no answer".into()))
}

fn parse(answer: &[u8]) -> Option<Reply> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_lowercase(), value.trim().to_owned()))
        .collect();
    let body = &answer[end + 4..];
    let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let body = if chunked { unchunk(body)? } else { body.to_vec() };
    Some(Reply { status, headers, body })
}

/// RFC 9112, section 7.1.
fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?.trim(), 16).ok()?;
        let start = end + 2;
        if length == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(start..start.checked_add(length)?)?);
        rest = rest.get(start + length + 2..)?;
    }
}
