//! The card reader for tests, in a process of its own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::{program, send_to};

/// A running reader, which ends with its test.
#[derive(Debug)]
pub struct CardReader {
    process: Child,
    address: String,
    file: PathBuf,
}

impl CardReader {
    /// Starts one whose payments stand in a file, at a port; 0: any.
    ///
    /// # Panics
    /// It doesn't start.
    pub fn start(file: PathBuf, port: &str) -> Self {
        let path = program().with_file_name("test_card_reader");
        let started = Command::new(path).arg(&file).arg(port).stdout(Stdio::piped()).spawn();
        let mut process = started.unwrap_or_else(|error| panic!("the test card reader: {error}"));
        let mut line = String::new();
        if let Some(output) = process.stdout.take() {
            let _ = BufReader::new(output).read_line(&mut line);
        }
        let address = line.trim().trim_start_matches("http://").to_owned();
        assert!(!address.is_empty(), "the test card reader said nothing");
        CardReader { process, address, file }
    }

    /// Where it answers.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its port.
    pub fn port(&self) -> String {
        self.address.rsplit(':').next().unwrap_or_default().to_owned()
    }

    /// Where its payments stand.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Says what it does with the next payments, a word for each.
    pub fn next(&self, words: &[&str]) {
        self.send("POST", "/test/next", &json!(words));
    }

    /// The states of all its payments.
    pub fn states(&self) -> Vec<String> {
        let payments = self.send("GET", "/test/payments", &Value::Null);
        let states = payments.as_object().into_iter().flat_map(serde_json::Map::values);
        states.map(|payment| payment["state"].as_str().unwrap_or_default().to_owned()).collect()
    }

    fn send(&self, method: &str, path: &str, body: &Value) -> Value {
        match send_to(&self.address, "", method, path, body) {
            Ok(reply) => reply.json(),
            Err(error) => panic!("the test card reader: {error}"),
        }
    }
}

impl Drop for CardReader {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
