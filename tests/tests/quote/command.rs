//! `stallmesh quote` as a process: what it prints, where, and with which exit status.

use std::process::{Command, Output};

use serde_json::{Value, json};
use stallmesh_tests::processes::program;

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let files = Files(tempfile::tempdir().unwrap());
        files.write(
            "catalog.json",
            "{ \"currency\": \"EUR\",\n  \"products\": [\n    { \"sku\": \"TEE\", \"name\": \"T-shirt\", \"price\": 1999 } ] }",
        );
        files.write(
            "promotions.json",
            "[{ \"id\": \"TEN\", \"name\": \"Ten off\", \"effect\": { \"percentage\": \"10\" } }]",
        );
        files.write("basket.json", "{ \"lines\": [ { \"sku\": \"TEE\", \"quantity\": 2 } ] }");
        files
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    fn quote(&self, more: &[&str]) -> Output {
        let mut command = Command::new(program());
        command.current_dir(self.0.path()).arg("quote");
        for name in ["catalog", "promotions", "basket"] {
            command.args([format!("--{name}"), format!("{name}.json")]);
        }
        command.args(more).output().unwrap()
    }

    /// The problem that it names.
    fn problem(&self, more: &[&str]) -> Value {
        let output = self.quote(&[&["--json"], more].concat());
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        serde_json::from_slice(&output.stderr).unwrap()
    }
}

#[test]
fn it_prints_the_answer_and_nothing_beside_it() {
    let files = Files::new();
    let output = files.quote(&["--json", "--at", "2026-06-06T10:00:00+02:00"]);
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{output:?}");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&answer["total"], &answer["at"]), (&json!(3_598), &json!("2026-06-06T10:00:00+02:00")));
    assert_eq!(answer["lines"][0]["reductions"][0]["why"], "10 % of 39.98");
    // Now, where no time is given.
    let now: Value = serde_json::from_slice(&files.quote(&["--json"]).stdout).unwrap();
    assert_eq!(now["total"], 3_598);
    let receipt = String::from_utf8(files.quote(&[]).stdout).unwrap();
    assert!(receipt.contains("Ten off (10 % of 39.98)") && receipt.contains("35.98 EUR"), "{receipt}");
}

#[test]
fn what_is_wrong_is_said_with_file_field_and_line() {
    let files = Files::new();
    files.write(
        "basket.json",
        "{ \"lines\": [\n  { \"sku\": \"TEE\", \"quantity\": 1 },\n  { \"sku\": \"HAT\", \"quantity\": 1 } ] }",
    );
    let problem = files.problem(&[]);
    assert_eq!(problem["code"], "E_UNKNOWN_SKU");
    assert_eq!((&problem["file"], &problem["line"]), (&json!("basket.json"), &json!(3)));
    assert_eq!(problem["field"], "lines[1].sku");
    files.write("basket.json", "{ \"lines\": [],\n \"coupons\": [] }");
    let problem = files.problem(&[]);
    assert_eq!(
        (&problem["code"], &problem["field"], &problem["line"]),
        (&json!("E_INVALID"), &json!("coupons"), &json!(2))
    );
    for (text, line) in [("{ \"lines\": [\n", 1), ("", 1), ("{ \"lines\": [] } x", 1), ("\u{feff}{ \"lines\": 7 }", 1)]
    {
        files.write("basket.json", text);
        let problem = files.problem(&[]);
        assert!(problem["line"].as_u64().unwrap_or(1) >= line, "{text}: {problem}");
    }
    files.write("basket.json", &format!("{{ \"lines\": [], \"x\": {}{} }}", "[".repeat(100_000), "]".repeat(100_000)));
    assert_eq!(files.problem(&[])["code"], "E_INVALID", "too deep to be read");
    std::fs::write(files.0.path().join("basket.json"), b"\xff\xfe{}").unwrap();
    assert_eq!(files.problem(&[])["file"], "basket.json");
    std::fs::remove_file(files.0.path().join("basket.json")).unwrap();
    assert_eq!(files.problem(&[])["file"], "basket.json");
    let files = Files::new();
    assert_eq!(files.problem(&["--at", "yesterday"])["file"], "--at");
    assert_eq!(files.quote(&["--at"]).status.code(), Some(2), "wrong usage");
    assert_eq!(files.quote(&["--basked", "basket.json"]).status.code(), Some(2));
    let sentence = String::from_utf8(files.quote(&["--at", "2026-06-06T10:00:00"]).stderr).unwrap();
    assert!(sentence.contains("no time of RFC 3339"), "{sentence}");
}
