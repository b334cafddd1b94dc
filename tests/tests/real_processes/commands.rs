//! The command line: help, errors with a next step, exit codes as `--help` says, and JSON of every view.

use std::process::{Command, Output};

use serde_json::Value;
use stallmesh_tests::processes::{Market, Node, order, program, stallmesh, until};

/// Everything that it said.
fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

pub(crate) fn json(node: &Node, arguments: &[&str]) -> Value {
    let output = node.cli(&[&["--json"], arguments].concat());
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    match serde_json::from_slice(&output.stdout) {
        Ok(value) => value,
        Err(error) => panic!("{arguments:?}: {error}: {}", said(&output)),
    }
}

/// The commands that a help text lists.
fn listed(help: &str) -> Vec<String> {
    let body = help.split("Commands:\n").nth(1).unwrap_or_default();
    body.lines()
        .take_while(|line| !line.trim().is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .filter(|name| name != "help")
        .collect()
}

#[test]
fn every_command_explains_itself() {
    let help = said(&stallmesh(&["--help"]));
    let mut commands: Vec<Vec<String>> = listed(&help).into_iter().map(|name| vec![name]).collect();
    let mut names: Vec<String> = commands.iter().map(|command| command[0].clone()).collect();
    names.sort();
    for wanted in [
        "market", "invite", "join", "requests", "approve", "delegate", "revoke", "run", "demo", "import", "sell",
        "status", "explain", "settle", "audit", "log", "version",
    ] {
        assert!(names.contains(&wanted.to_owned()), "{wanted} is not in {names:?}");
    }
    for (group, below) in [("market", "create"), ("audit", "export"), ("audit", "digest"), ("log", "show")] {
        assert!(listed(&said(&stallmesh(&[group, "--help"]))).contains(&below.to_owned()), "{group} {below}");
        commands.push(vec![group.to_owned(), below.to_owned()]);
    }
    for command in commands {
        let arguments: Vec<&str> = command.iter().map(String::as_str).chain(["--help"]).collect();
        let output = stallmesh(&arguments);
        let text = said(&output);
        assert!(output.status.success() && text.contains("Usage: stallmesh"), "{command:?}: {text}");
        // One line says what it is for, and each argument is explained.
        assert!(text.lines().next().is_some_and(|line| line.len() > 10), "{command:?}: {text}");
        assert!(text.contains("--data-dir") && text.contains("--json"), "{command:?}: {text}");
    }
    for line in ["0 done", "1 failed", "2 wrong usage", "3 no node runs", "4 the node refused", "Examples:"] {
        // However wide the terminal is.
        assert!(help.split_whitespace().collect::<Vec<_>>().join(" ").contains(line), "{line}: {help}");
    }
}

#[test]
fn common_errors_name_the_next_step_and_end_with_the_documented_code() {
    let market = Market::make();
    let stall = market.stall("till");
    let mut alone = market.node("alone");
    let check = |node: &Node, arguments: &[&str], code: i32, words: &[&str]| {
        let output = node.cli(arguments);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        for word in words {
            assert!(text.contains(word), "{arguments:?} doesn't say `{word}`: {text}");
        }
    };
    // Nobody to ask.
    let directory = alone.directory.display().to_string();
    for command in [&["status"][..], &["sales"], &["sell", "MUG"], &["settle"], &["audit", "export", "--out", "/tmp/x"]]
    {
        check(&alone, command, 3, &["no node runs in", &format!("stallmesh --data-dir {directory} run")]);
    }
    // Wrong usage.
    check(&alone, &["sell"], 2, &["Usage:", "--help"]);
    check(&alone, &["no-such-command"], 2, &["no-such-command"]);
    // Invites.
    check(&alone, &["join", "stallmesh:abc"], 1, &["invite"]);
    assert!(!alone.directory.join("device.key").exists(), "a bad invite made an identity");
    alone.start();
    check(&alone, &["join", "stallmesh:abc"], 4, &["invite", "E_INVALID"]);
    check(&alone, &["join", "https://example.org"], 4, &["invite", "stallmesh:"]);
    check(&alone, &["sell", "MUG"], 4, &["in no market yet: join one first", "E_NOT_MEMBER"]);
    check(&stall, &["join", &market.invite("other")], 4, &["a member already", "E_CONFLICT"]);
    // Devices by the beginning of their key.
    check(&market.hub, &["revoke", "zz"], 1, &["no device begins with zz", "stallmesh members"]);
    check(&market.hub, &["revoke", ""], 1, &["devices begin with", "give more of the key"]);
    // Absurd amounts.
    let most = u64::MAX.to_string();
    check(&market.hub, &["invite", "--stall", "long", "--days", &most, "--hours", &most], 0, &["stallmesh:"]);
    check(&market.node("absurd"), &["market", "create", "Absurd", "--days", &most], 1, &["400 days"]);
    // Not allowed here.
    check(&stall, &["settle"], 4, &["only a hub can do that: ask the market's organiser", "E_NOT_HUB"]);
    check(&stall, &["invite", "--stall", "x"], 4, &["E_NOT_HUB"]);
    check(&stall, &["revoke", &market.hub.device()], 4, &["only the hub", "E_SCOPE"]);
    check(&market.hub, &["sell", "MUG"], 4, &["belongs to no stall", "E_SCOPE"]);
    check(&stall, &["sell", "NONE"], 4, &["the catalog has no product `NONE`", "E_UNKNOWN_SKU"]);
    check(&stall, &["explain", "what"], 4, &["E_INVALID"]);
    // Files.
    check(&stall, &["import", "/no/such/file.csv"], 1, &["/no/such/file.csv"]);
    check(&market.hub, &["audit", "digest", "/no/such/export"], 1, &["/no/such/export"]);
    check(&market.hub, &["market", "create", "Again"], 1, &["already open in process", "--data-dir"]);
    alone.stop();
    check(&alone, &["market", "create", "Again"], 1, &["already holds a node", "--data-dir"]);
}

#[test]
fn a_change_of_the_markets_terms_leaves_the_others_as_they_are() {
    let market = Market::make();
    let before =
        json(&market.hub, &["policy", "--fee", "5", "--tax", "standard=20", "--tax-included", "--carriers", "2"]);
    assert!(before["fee_rate"] == "5" && before["carriers"] == 2, "{before}");
    let after = json(&market.hub, &["policy", "--card-floor-limit", "5000"]);
    assert_eq!(after["card_floor_limit"], 5000);
    for field in ["fee_rate", "tax_rates", "prices_include_tax", "carriers"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    assert_eq!(json(&market.hub, &["policy"]), after, "looking changes nothing");
    assert_eq!(json(&market.hub, &["policy", "--tax-included", "false"])["prices_include_tax"], false);
}

#[test]
fn an_organiser_publishes_rules_and_blocks_a_card_and_a_till_hears_of_it() {
    let market = Market::make();
    let stall = market.stall("till");
    let heard = |what: &str, command: &[&str], holds: &dyn Fn(&Value) -> bool| {
        until(what, || {
            let seen = json(&stall, command);
            if holds(&seen) { Ok(()) } else { Err(seen.to_string()) }
        });
    };
    json(&market.hub, &["rules", "publish", "--ask-hub-within", "4s"]);
    heard("the rules", &["rules", "show"], &|rules| rules["risk"]["authorise_within_ms"] == 4_000);
    // What is shown can be published again.
    let risk = market.folder().join("risk.json");
    let mut file = json(&market.hub, &["rules", "show"])["risk"].clone();
    file["limits"]["payment"]["ask_above"] = 4_321.into();
    std::fs::write(&risk, file.to_string()).unwrap();
    let risk = risk.to_str().unwrap();
    json(&market.hub, &["rules", "publish", "--risk", risk]);
    heard("the limit", &["rules", "show"], &|rules| rules["risk"]["limits"]["payment"]["ask_above"] == 4_321);
    let card = "0123456789abcdef0123456789abcdef";
    json(&market.hub, &["card", "block", card]);
    heard("the block", &["card", "signals"], &|signals| signals[0]["subject"] == card);
    for (arguments, word) in [
        (&["rules", "publish"][..], "--fraud"),
        (&["rules", "publish", "--risk", "/nowhere"], "/nowhere"),
        (&["card", "block", "visa"], "fingerprint"),
    ] {
        let output = market.hub.cli(arguments);
        assert!(!output.status.success() && said(&output).contains(word), "{arguments:?}: {}", said(&output));
    }
    std::fs::write(risk, "{\"borne_by\": \"stall\", \"limit\": 1}").unwrap();
    let output = market.hub.cli(&["rules", "publish", "--risk", risk]);
    assert!(!output.status.success() && said(&output).contains("limit"), "{}", said(&output));
}

#[test]
fn every_view_is_json_on_request() {
    let market = Market::make();
    let stall = market.stall("till");
    let recorded = json(&stall, &["sell", "2xMUG", "--idempotency-key", "one"]);
    assert_eq!(recorded["total"], 2500);
    market.until_received(1);
    let sale = recorded["sale"].as_str().unwrap();
    for command in [
        &["status"][..],
        &["members"],
        &["sales"],
        &["catalog", "search", "mug"],
        &["statements"],
        &["log", "show"],
        &["explain", sale],
        &["version"],
    ] {
        let value = json(&stall, command);
        assert!(value.is_object() || value.is_array(), "{command:?}: {value}");
    }
    for command in [&["requests"][..], &["ledger"], &["settle", "--dry-run"], &["settle"], &["invite", "--stall", "x"]]
    {
        json(&market.hub, command);
    }
    let export = market.folder().join("export");
    let export = export.to_str().unwrap();
    assert!(json(&market.hub, &["audit", "export", "--out", export])["bytes"].as_u64().unwrap() > 1000);
    assert_eq!(json(&market.hub, &["audit", "digest", export])["posted"], 1);
    let empty = json(&stall, &["import", csv(&market, "empty").as_str()]);
    assert_eq!(empty["products"], 1);

    let status = json(&stall, &["status"]);
    for field in ["device", "role", "market", "incarnation"] {
        assert!(status[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {status}");
    }
    assert!(status["listen"][0].as_str().unwrap().starts_with("/ip4/"), "{status}");
    for field in ["uplink", "custody"] {
        assert!(status[field].is_object(), "{field}: {status}");
    }
    let peer = &status["peers"][0];
    assert!(["device", "stall", "link"].iter().all(|field| peer[field].is_string()), "{status}");
    assert!(status["heads"].as_array().is_some_and(|heads| !heads.is_empty()), "{status}");
}

fn csv(market: &Market, name: &str) -> String {
    let path = market.folder().join(name).with_extension("csv");
    let text = "Handle,Title,Option1 Name,Option1 Value,Variant SKU,Variant Price\ncup,Cup,Title,Default,CUP,3.50\n";
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn a_configuration_that_is_wrong_is_an_error_that_names_file_line_and_key() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stall.toml");
    let run = |text: &str, environment: &[(&str, &str)]| {
        std::fs::write(&file, text).unwrap();
        let output = Command::new(program())
            .args(["--data-dir", folder.path().join("node").to_str().unwrap()])
            .args(["--config", file.to_str().unwrap(), "run"])
            .envs(environment.iter().copied())
            .output()
            .unwrap();
        (output.status.code(), said(&output))
    };
    let name = file.display().to_string();
    for (text, words) in [
        ("name = \"a\"\nnmae = \"b\"\n", ["nmae", "line 2"]),
        ("[mesh]\n\ndegree = \"six\"\n", ["degree", "line 3"]),
        ("[api]\nlisten = \"127.0.0.1:1\"\nlisten = \"127.0.0.1:2\"\n", ["listen", "line 3"]),
        ("[mehs]\ndegree = 6\n", ["mehs", "line 1"]),
        ("name = \n", ["line 1", "name"]),
        ("[api]\nlisten = \"0.0.0.0:7800\"\n", ["api.listen", "allow_remote"]),
    ] {
        let (code, said) = run(text, &[]);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.starts_with("error: ") && said.contains(&name), "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{words:?}: {said}");
    }
    for (variable, value) in [
        ("STALLMESH_MESH_DGREE", "3"),
        ("STALLMESH_MESH_DEGREE", "six"),
        ("STALLMESH_API_LISTEN", "nowhere"),
        ("STALLMESH_MESH_LISTEN", "/ip4/nowhere"),
    ] {
        let (code, said) = run("", &[("STALLMESH_API_LISTEN", "127.0.0.1:0"), (variable, value)]);
        assert_eq!(code, Some(1), "{variable}: {said}");
        assert!(said.contains(variable) || said.contains(value), "{variable}: {said}");
    }
    let (code, said) = {
        let output = Command::new(program())
            .args(["--data-dir", folder.path().join("node").to_str().unwrap(), "--config", "/no/such.toml", "run"])
            .output()
            .unwrap();
        (output.status.code(), said(&output))
    };
    assert!(code == Some(1) && said.contains("/no/such.toml"), "{said}");
}

#[test]
fn what_the_file_says_and_the_environment_overrides_is_what_the_node_does() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stall.toml");
    std::fs::write(&file, "name = \"from the file\"\n[uplink]\nenabled = false\n").unwrap();
    let mut node = Node::new(folder.path(), "node");
    node.set("STALLMESH_CONFIG", file.to_str().unwrap());
    assert_eq!(node.start().status()["name"], "from the file");
    node.kill();
    node.set("STALLMESH_NAME", "42")
        .set("STALLMESH_UPLINK_ENABLED", "true")
        .set("STALLMESH_UPLINK_ADDRESSES", "a:1,b:2");
    let status = node.start().status();
    assert_eq!((&status["name"], &status["uplink"]["enabled"]), (&"42".into(), &true.into()), "{status}");
    assert_eq!(status["uplink"]["address"], "a:1");
    assert_eq!(node.ask("POST", "/v1/sales", &order("one", "MUG")).unwrap().status, 403);
}
