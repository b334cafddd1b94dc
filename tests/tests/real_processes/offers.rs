//! Promotions, conditions and terms by the command line and HTTP, on real nodes.

use serde_json::{Value, json};
use stallmesh_tests::processes::{Market, Node, until};

use super::commands::json as view;

fn quote(node: &Node, basket: &Value) -> Value {
    let reply = node.ask("POST", "/v1/quote", basket).unwrap();
    assert_eq!(reply.status, 200, "{}", reply.json());
    reply.json()
}

#[test]
fn a_promotion_given_at_the_hub_acts_at_a_till_and_what_it_took_off_is_told() {
    let market = Market::make();
    let till = market.stall("till");
    let file = till.directory.join("promotions.json");
    let promotions = json!([
        { "id": "RAIN", "name": "Rainy day", "effect": { "percentage": "10" }, "borne_by_market": "50",
          "requires": { "conditions": [{ "name": "rain_mm", "at_least": "1" }] } },
        { "id": "HELLO", "name": "Welcome", "effect": { "amount": 100 }, "requires": { "codes": ["HELLO"] } },
    ]);
    std::fs::write(&file, promotions.to_string()).unwrap();
    view(&market.hub, &["promotion", "give", file.to_str().unwrap()]);
    until("the till knows them", || match view(&till, &["promotion", "list"]) {
        list if list.as_array().unwrap().len() == 2 => Ok(()),
        list => Err(list.to_string()),
    });
    let basket = json!({ "lines": [{ "sku": "MUG", "quantity": 2 }], "codes": ["HELLO"] });
    let before = quote(&till, &basket);
    assert_eq!((&before["subtotal"], &before["reduction"]), (&json!(2500), &json!(100)), "{before}");
    view(&market.hub, &["condition", "set", "rain_mm=3.2", "--for", "2h"]);
    until("it rains at the till", || match quote(&till, &basket)["reduction"].as_u64() {
        Some(350) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(view(&till, &["condition", "list"])[0]["value"], "3.2");
    // For people: each reduction with its reason.
    let output = till.cli(&["sell", "2xMUG", "--code", "HELLO", "--code", "NONE"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    for words in ["2.50 EUR off", "Rainy day (10 % of 25.00)", "Welcome", "Code NONE:", "21.50 EUR"] {
        assert!(said.contains(words), "`{words}`: {said}");
    }
    market.until_received(1);
    let ledger = view(&market.hub, &["ledger"]);
    let balance = |account: &str| {
        let balances = ledger["balances"].as_array().unwrap();
        balances.iter().find(|row| row[0] == account).map_or(0, |row| row[2].as_i64().unwrap())
    };
    assert_eq!(balance("market-promotions"), 125, "{ledger}");
    view(&market.hub, &["promotion", "withdraw", "RAIN"]);
    until("it is withdrawn at the till", || match quote(&till, &basket)["reduction"].as_u64() {
        Some(100) => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

#[test]
fn what_is_wrong_with_a_basket_or_a_promotion_names_the_field() {
    let market = Market::make();
    let till = market.stall("till");
    let wrong = |method: &str, path: &str, body: Value, status: u16, code: &str, field: &str| {
        let reply = till.ask(method, path, &body).unwrap();
        let problem = reply.json();
        assert_eq!(
            (reply.status, &problem["code"], &problem["field"]),
            (status, &json!(code), &json!(field)),
            "{problem}"
        );
    };
    let line = |more: Value| json!({ "lines": [{ "sku": "MUG", "quantity": 1 }, more] });
    wrong("POST", "/v1/quote", line(json!({ "sku": "NONE", "quantity": 1 })), 422, "E_UNKNOWN_SKU", "lines[1].sku");
    wrong("POST", "/v1/quote", line(json!({ "sku": "MUG", "quantity": 0 })), 400, "E_INVALID", "lines[1].quantity");
    wrong(
        "POST",
        "/v1/quote",
        line(json!({ "sku": "MUG", "quantity": 1, "colour": 1 })),
        400,
        "E_INVALID",
        "lines[1].colour",
    );
    let promotion = |effect: Value| json!({ "give": [{ "id": "A", "name": "A", "effect": effect }] });
    wrong(
        "PUT",
        "/v1/promotions",
        promotion(json!({ "percentage": "200" })),
        400,
        "E_INVALID",
        "give[0].effect.percentage",
    );
    wrong("PUT", "/v1/promotions", promotion(json!({ "percent": "20" })), 400, "E_INVALID", "give[0].effect.percent");
    let output = till.cli(&["condition", "set", "rain"]);
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("NAME=VALUE"));
    assert_eq!(till.cli(&["condition", "set", "rain=1", "--for", "soon"]).status.code(), Some(2));
    // Terms that no quote could be worked out by.
    let output = market.hub.cli(&["policy", "--tax", "a=10:b", "--tax", "b=10:a"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("tax_rates"), "{said}");
}

#[test]
fn a_basket_survives_a_killed_node_and_a_second_tap_is_the_same_sale() {
    let market = Market::make();
    let mut till = market.stall("till");
    let asked = |till: &Node, method: &str, path: &str, body: Value, status: u16| {
        let reply = till.ask(method, path, &body).unwrap();
        assert_eq!(reply.status, status, "{method} {path}: {}", String::from_utf8_lossy(&reply.body));
        reply.json()
    };
    let basket = asked(&till, "POST", "/v1/baskets", json!({ "lines": [{ "sku": "MUG", "quantity": 1 }] }), 201);
    let path = format!("/v1/baskets/{}", basket["id"].as_str().unwrap());
    let change = json!({ "changes": [{ "op": "add", "sku": "MUG", "quantity": 2 }] });
    let changed = asked(&till, "POST", &format!("{path}/changes"), change, 200);
    assert_eq!(changed["quote"]["total"], 3 * 1250, "{changed}");
    till.kill();
    till.start();
    let there = asked(&till, "GET", "/v1/baskets", Value::Null, 200);
    assert_eq!((&there[0]["id"], &there[0]["basket"]), (&changed["id"], &changed["basket"]), "{there}");
    assert_eq!(there[0]["quote"]["total"], 3 * 1250);
    let paid = json!({ "tenders": [{ "kind": "cash", "given": 4000 }] });
    let sale = asked(&till, "POST", &format!("{path}/sale"), paid.clone(), 201);
    assert_eq!((&sale["total"], &sale["tenders"][0]["change"]), (&json!(3750), &json!(250)));
    till.kill();
    till.start();
    let again = asked(&till, "POST", &format!("{path}/sale"), paid, 201);
    assert_eq!((&again["sale"], &again["receipt"]), (&sale["sale"], &sale["receipt"]));
    assert_eq!(till.get("/v1/sales").as_array().unwrap().len(), 1);
    asked(&till, "DELETE", &path, Value::Null, 409);
    asked(&till, "GET", "/v1/baskets/zz", Value::Null, 400);
    asked(&till, "GET", &format!("/v1/baskets/{}", "0".repeat(32)), Value::Null, 404);
}

#[test]
fn a_product_file_of_square_is_taken_and_what_is_exported_is_taken_again() {
    let market = Market::make();
    let till = market.stall("till");
    let file = till.directory.join("items.csv");
    let rows = "Token,Item Name,Variation Name,SKU,Category,GTIN,Price,Current Quantity Quay\n\
                T1,Coffee beans,Dark,DARK,Coffee,036000291452,12.50,7\n\
                T2,=Tea,Regular,TEA,Tea,4006381333932,3.00,-2\n";
    std::fs::write(&file, rows).unwrap();
    let answer = view(&till, &["import", file.to_str().unwrap()]);
    assert_eq!((&answer["products"], answer["warnings"].as_array().unwrap().len()), (&json!(2), 1), "{answer}");
    let offered = || till.get("/v1/catalog?stall=till&limit=100");
    let before = offered();
    assert_eq!(before.as_array().unwrap().len(), 3, "{before}");
    // A scanner says the EAN of what the file has as a UPC.
    let basket = till.send("POST", "/v1/baskets", &json!({ "lines": [] }));
    let path = format!("/v1/baskets/{}/changes", basket["id"].as_str().unwrap());
    let scanned = till.send("POST", &path, &json!({ "changes": [{ "op": "add", "barcode": "0036000291452" }] }));
    assert_eq!(scanned["basket"]["lines"][0]["sku"], "DARK", "{scanned}");
    for format in ["square", "shopify"] {
        let out = till.directory.join(format!("{format}.csv"));
        view(&till, &["export", out.to_str().unwrap(), "--format", format]);
        assert!(std::fs::read_to_string(&out).unwrap().contains("'=Tea"), "a spreadsheet would run it");
        view(&till, &["import", out.to_str().unwrap()]);
        assert_eq!(offered(), before, "{format}");
    }
    // One wrong row, and nothing of the file is taken.
    std::fs::write(&file, rows.replace("3.00", "3,00,1").replace("12.50", "1.00")).unwrap();
    let output = till.cli(&["import", file.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(4) && said.contains("line 3"), "{said}");
    assert_eq!(offered(), before);
}
