//! `hot demo` and its HTTP routes. Its page is tested in a browser, in `browser/`.

use std::process::Stdio;

use hot_products_tests::{
    http::{get, request},
    process::{HotServer, hot},
};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

fn demo() -> HotServer {
    HotServer::start("demo", &["--products", "100", "--clicks-per-second", "1"])
}

async fn post(url: &str, path: &str, headers: &[(&str, &str)]) -> (StatusCode, Value) {
    let answer = request(Method::POST, &format!("{url}{path}"), headers).await;
    (answer.status, answer.json())
}

#[tokio::test]
async fn neither_a_redelivery_nor_garbage_changes_a_count() {
    let demo = demo();
    let url = demo.url();
    assert_eq!(post(url, "/demo/pause", &[]).await.0, StatusCode::OK);
    let before = get(&format!("{url}/demo/pipeline")).await.json();
    assert_eq!((&before["paused"], &before["speed"]), (&json!(true), &json!(60.0)));

    let (_, again) = post(url, "/demo/redeliver", &[]).await;
    assert_eq!(again["counted"], 0);
    assert!(again["already_counted"].as_u64() > Some(0), "{again}");
    let (_, garbage) = post(url, "/demo/garbage", &[]).await;
    assert_eq!((&garbage["counted"], &garbage["records"]), (&json!(0), &json!(200)));

    let after = get(&format!("{url}/demo/pipeline")).await.json();
    assert_eq!(after["totals"]["counted"], before["totals"]["counted"]);
    assert_eq!(after["totals"]["already_counted"], again["already_counted"]);
    assert_eq!(after["totals"]["rejected"], garbage["rejected"]);
    assert_eq!(after["now"], before["now"]);

    // The demo's time runs again.
    assert_eq!(post(url, "/demo/resume", &[]).await.0, StatusCode::OK);
    while get(&format!("{url}/demo/pipeline")).await.json()["now"] == before["now"] {
        tokio::task::yield_now().await;
    }
    demo.stop();
}

#[tokio::test]
async fn other_commands_read_the_same_tables_as_the_page() {
    let demo = demo();
    let pipeline = get(&format!("{}/demo/pipeline", demo.url())).await.json();
    let endpoint = pipeline["dynamodb"].as_str().expect("an endpoint");
    assert!(demo.said().contains(&format!("hot top --endpoint-url {endpoint}")), "{}", demo.said());
    let newest = get(&format!("{}/hot-products", demo.url())).await.json();
    let window = newest["window_end"].as_str().expect("a window");
    let output = hot(["top", "--json", "--endpoint-url", endpoint, "--at", window]).output().expect("hot runs");
    let top: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(top, newest);
    let minutes = top["clicks_per_minute"].as_array().expect("a list");
    assert_eq!(minutes.iter().filter_map(Value::as_u64).sum::<u64>(), top["total_clicks"]);
    let page = get(demo.url()).await;
    assert!(String::from_utf8_lossy(&page.body).contains(r#"data-pipeline="/demo/pipeline""#));
}

#[tokio::test]
async fn other_pages_can_neither_control_nor_read_it() {
    let demo = demo();
    let url = demo.url();
    for action in ["redeliver", "garbage", "pause", "resume"] {
        let (status, answer) = post(url, &format!("/demo/{action}"), &[("origin", "https://shop.example")]).await;
        assert_eq!((status, &answer["error"]["code"]), (StatusCode::FORBIDDEN, &json!("forbidden")), "{action}");
    }
    let pipeline = format!("{url}/demo/pipeline");
    let elsewhere = request(Method::GET, &pipeline, &[("host", "shop.example")]).await;
    assert_eq!(elsewhere.status, StatusCode::MISDIRECTED_REQUEST);
    assert_eq!(get(&pipeline).await.json()["paused"], false);
}

#[test]
fn wrong_arguments_and_a_taken_port_are_reported_with_advice() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let output = hot(["demo", "--port", &port]).stdin(Stdio::null()).output().expect("hot runs");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&port) && said.contains("--port"), "{said}");
    for (flag, value) in [("--speed", "0"), ("--speed", "NaN"), ("--clicks-per-second", "-1"), ("--products", "0")] {
        let output = hot(["demo", flag, value]).stdin(Stdio::null()).output().expect("hot runs");
        assert_eq!(output.status.code(), Some(2), "{flag} {value}");
    }
}
