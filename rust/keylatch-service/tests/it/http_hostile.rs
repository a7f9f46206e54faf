//! What strangers send.

use crate::service::{PATIENCE, Service, settings};
use keylatch_service::server::Settings;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

#[tokio::test]
async fn wrong_bodies_get_an_error_that_says_what() {
    let service = Service::start().await;
    let session = service.open("a", false).await;
    let item = json!({"bucket": "b", "object": "x"});
    let long = "k".repeat(2_000);
    let cases: Vec<(&str, Value, u16, &str)> = vec![
        ("/v1/lock", json!({}), 400, "items"),
        ("/v1/lock", json!([]), 400, "body"),
        ("/v1/lock", json!({"items": []}), 400, "1 to 256"),
        ("/v1/lock", json!({"items": [{"bucket": "b"}]}), 400, "object"),
        ("/v1/lock", json!({"items": [{"bucket": "", "object": "x"}]}), 400, "not empty"),
        ("/v1/lock", json!({"items": [{"bucket": "b", "object": long}]}), 400, "2001 bytes"),
        ("/v1/lock", json!({"items": [{"bucket": "b", "object": "x", "mode": "update"}]}), 400, "update"),
        ("/v1/lock", json!({"items": [item], "session": "x"}), 400, "session"),
        ("/v1/lock", json!({"items": [item], "session": "1.1", "wait_ms": 0}), 409, "started anew"),
        ("/v1/lock", json!({"items": [item], "session": session, "ttl_ms": 5}), 400, "belong to the session"),
        ("/v1/lock", json!({"items": [item], "request_id": -1}), 400, "-1"),
        ("/v1/lock", json!({"items": [item], "wait_ms": "soon"}), 400, "soon"),
        ("/v1/lock", json!({"items": [item], "ttl_ms": 0}), 400, "ttl_ms"),
        ("/v1/lock", json!({"items": [item], "ttl_ms": u64::MAX}), 400, "ttl_ms"),
        ("/v1/sessions", json!({"owner": "o", "ttl_ms": -5}), 400, "the body: ttl_ms: invalid value: integer `-5`"),
        ("/v1/lock", json!({"items": [item, {"bucket": "b", "object": 7}]}), 400, "items[1].object: invalid type"),
        ("/v1/lock", json!({"items": [item], "priority": 256}), 400, "priority: invalid value: integer `256`"),
        ("/v1/lock", json!({"items": vec![item.clone(); 257]}), 400, "257 keys"),
        ("/v1/lock", json!({"items": [item], "waitms": 1}), 400, "waitms"),
        ("/v1/unlock", json!({"session": session, "grant": "7"}), 400, "grant"),
        ("/v1/unlock", json!({"session": session}), 404, "holds nothing"),
        ("/v1/cancel", json!({"session": session, "grant": "1.1"}), 400, "no grant"),
        ("/v1/renew", json!({}), 400, "session"),
        ("/v1/renew", json!({"session": session, "open": [1]}), 400, "next"),
        ("/v1/sessions", json!({"owner": "o".repeat(300)}), 400, "300 bytes"),
        ("/v1/sessions", json!({"owner": "o", "ttl_ms": 1}), 400, "ttl_ms"),
        ("/v1/force-release", json!({}), 400, "all"),
        ("/v1/force-release", json!({"session": "?"}), 400, "session"),
    ];
    for (path, body, status, says) in cases {
        let shown = body.to_string().chars().take(120).collect::<String>();
        let got = service.post(path, body).await;
        assert_eq!(got.status, status, "{path} {shown}: {got:?}");
        assert!(got.text("detail").contains(says), "{path} {shown}: {got:?}");
    }
    for (path, says) in [
        ("/v1/locks?colour=red", "colour"),
        ("/v1/locks?limit=many", "invalid digit"),
        ("/v1/locks?after=x", "after"),
        ("/v1/waiters?session=x", "session"),
        ("/v1/events?colour=red", "colour"),
    ] {
        let got = service.get(path).await;
        assert_eq!(got.status, 400, "{path}: {got:?}");
        assert!(got.text("detail").contains(says), "{path}: {got:?}");
    }
    assert_eq!(service.get("/healthz").await.body["holders"], 0, "none of it left anything");
    service.stop().await;
}

#[tokio::test]
async fn foreign_types_sizes_and_hosts_are_refused() {
    let service = Service::start().await;
    let body = br#"{"items":[{"bucket":"b","object":"x"}]}"#;
    assert_eq!(service.raw("POST", "/v1/lock", &[], body).await.status, 415);
    assert_eq!(service.raw("POST", "/v1/lock", &[("content-type", "text/plain")], body).await.status, 415);
    let kind = [("content-type", "Application/JSON; charset=utf-8")];
    assert_eq!(service.raw("POST", "/v1/lock", &kind, body).await.status, 200);
    let huge = vec![b' '; 300 * 1024];
    assert_eq!(service.raw("POST", "/v1/lock", JSON, &huge).await.problem(), "body_too_large");
    for broken in [&b"{"[..], b"\xff\xfe", b"nul\0", b"", b"[[[[[[[[", b"{\"items\":null}", b"{\"session\":\"s\"} {}"] {
        assert_eq!(service.raw("POST", "/v1/lock", JSON, broken).await.status, 400);
    }
    let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
    assert_eq!(service.raw("POST", "/v1/lock", JSON, &deep).await.status, 400);
    for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "[::2]", "10.0.0.1"] {
        let got = service.raw("GET", "/v1/locks", &[("host", host)], b"").await;
        assert_eq!((got.status, got.problem()), (421, "other_host"), "{host}");
    }
    for host in ["localhost", "LOCALHOST:7373", "127.0.0.1:1", "[::1]:7373", "127.8.8.8"] {
        assert_eq!(service.raw("GET", "/v1/locks", &[("host", host)], b"").await.status, 200, "{host}");
    }
    assert_eq!(service.get("/v2/locks").await.status, 404);
    assert_eq!(service.raw("PUT", "/v1/lock", JSON, body).await.problem(), "no_such_method");
    service.stop().await;
}

#[tokio::test]
async fn garbage_requests_hurt_only_themselves() {
    let service = Service::start().await;
    let mut open = Vec::new();
    for half in [
        &b""[..],
        b"GET / HT",
        b"POST /v1/lock HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{",
        b"GET /v1/locks HTTP/1.1\r\nhost: localhost\r\n",
    ] {
        for _ in 0..20 {
            let mut stream = TcpStream::connect(service.running.address()).await.unwrap();
            stream.write_all(half).await.unwrap();
            open.push(stream);
        }
    }
    for garbage in [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"[..], b"HELO\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"] {
        let mut stream = TcpStream::connect(service.running.address()).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "the server ends this connection");
    }
    let session = service.open("a", false).await;
    assert_eq!(service.lock(&session, 1, "x", 0).await.status, 200);
    drop(open);
    service.stop().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed() {
    let service = Service::with(Settings { connections: 3, ..settings() }).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(service.running.address()).await.unwrap();
        let request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        open.push(stream);
    }
    let mut refused = TcpStream::connect(service.running.address()).await.unwrap();
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, refused.read_to_end(&mut answer)).await.expect("it is closed");
    assert!(ended.is_err() || answer.is_empty());
    drop(open);
    service.stop().await;
}
