//! A server on a loopback port, and calls to it that are compared with the OpenAPI document.

use crate::schema::Document;
use keylatch_service::client::{ClientError, EventStream, Http, Target, TlsClientFiles};
use keylatch_service::machine::Limits;
use keylatch_service::server::{Running, Settings, start};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What a test waits for happens long before this.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A folder that is removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("keylatch-service-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn settings() -> Settings {
    Settings {
        listen: "127.0.0.1:0".parse().unwrap(),
        drain: Duration::from_secs(30),
        threads: 2,
        ..Settings::default()
    }
}

pub(crate) fn with_grace(grace: Duration) -> Settings {
    Settings { limits: Limits { grace, ..Limits::default() }, ..settings() }
}

/// A server and a client without a token.
pub(crate) struct Service {
    pub(crate) running: Running,
    pub(crate) http: Http,
    document: Document,
}

/// A status and what came with it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Got {
    /// Returns the problem's name; empty if it is none.
    pub(crate) fn problem(&self) -> &str {
        self.body["type"].as_str().and_then(|kind| kind.strip_prefix("urn:keylatch:problem:")).unwrap_or("")
    }

    pub(crate) fn text(&self, field: &str) -> String {
        self.body[field].as_str().unwrap_or_else(|| panic!("no {field} in {self:?}")).to_owned()
    }
}

impl Service {
    pub(crate) async fn start() -> Self {
        Self::with(settings()).await
    }

    pub(crate) async fn with(settings: Settings) -> Self {
        let running = start(settings).await.unwrap();
        let url = format!("http://{}", running.address());
        let http = Http::new(Target::new(&url, None, &TlsClientFiles::default()).unwrap());
        Self { running, http, document: Document::committed() }
    }

    /// Starts as soon as the state file is free.
    pub(crate) async fn with_patience(settings: Settings) -> Self {
        let running = loop {
            match start(settings.clone()).await {
                Ok(running) => break running,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        let url = format!("http://{}", running.address());
        let http = Http::new(Target::new(&url, None, &TlsClientFiles::default()).unwrap());
        Self { running, http, document: Document::committed() }
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Got {
        self.raw("POST", path, &[("content-type", "application/json")], body.to_string().as_bytes()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Got {
        self.raw("GET", path, &[], b"").await
    }

    pub(crate) async fn delete(&self, path: &str) -> Got {
        self.raw("DELETE", path, &[], b"").await
    }

    /// One request on a connection of its own, checked against the OpenAPI document.
    pub(crate) async fn raw(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Got {
        let mut head = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
        if !headers.iter().any(|(name, _)| *name == "host") {
            head += "host: localhost\r\n";
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        let mut stream = TcpStream::connect(self.running.address()).await.unwrap();
        stream.write_all((head + "\r\n").as_bytes()).await.unwrap();
        // A server that refuses early may close before it has read everything.
        let _ = stream.write_all(body).await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an answer in time");
        assert!(read.is_ok() || !answer.is_empty(), "no answer to {method} {path}: {read:?}");
        let (got, kind) = parse(&answer);
        self.document.check_answer(method, path, (got.status, &kind), &got.body);
        got
    }

    pub(crate) async fn open(&self, owner: &str, attach: bool) -> String {
        let got = self.post("/v1/sessions", json!({"owner": owner, "ttl_ms": 30_000, "attach": attach})).await;
        assert_eq!(got.status, 201, "{got:?}");
        got.text("session")
    }

    /// Returns a session with its stream.
    pub(crate) async fn attached(&self, owner: &str) -> (String, EventStream) {
        let session = self.open(owner, true).await;
        let stream = self.attach(&session).await;
        (session, stream)
    }

    pub(crate) async fn attach(&self, session: &str) -> EventStream {
        let mut stream = self.http.stream(&format!("/v1/sessions/{session}/attach"), None).await.unwrap();
        assert_eq!(next(&mut stream).await.0, "attached");
        stream
    }

    pub(crate) async fn lock(&self, session: &str, number: u64, object: &str, wait_ms: u64) -> Got {
        self.post("/v1/lock", lock_body(session, number, object, wait_ms)).await
    }

    pub(crate) async fn unlock(&self, session: &str, number: u64) -> Got {
        self.post("/v1/unlock", json!({"session": session, "request_id": number})).await
    }

    /// Waits until this number of requests is in line, by the events of the server.
    pub(crate) async fn await_waiters(&self, waiters: usize) {
        let mut events = self.http.stream("/v1/events", None).await.unwrap();
        loop {
            if self.get("/healthz").await.body["waiters"] == waiters {
                return;
            }
            next(&mut events).await;
        }
    }

    /// Stops the server; a lock that a test left does not keep it.
    pub(crate) async fn stop(self) {
        self.running.abort();
    }
}

pub(crate) fn lock_body(session: &str, number: u64, object: &str, wait_ms: u64) -> Value {
    json!({
        "session": session, "request_id": number, "wait_ms": wait_ms,
        "items": [{"bucket": "b", "object": object}],
    })
}

/// Returns the next event's type and data.
pub(crate) async fn next(stream: &mut EventStream) -> (String, Value) {
    let event = tokio::time::timeout(PATIENCE, stream.next()).await.expect("an event in time");
    let event = event.unwrap().expect("the stream goes on");
    let data = event.json().unwrap();
    (event.event, data)
}

pub(crate) fn name_of(error: &ClientError) -> String {
    match error {
        ClientError::Problem(problem) => problem.name().to_owned(),
        other => panic!("{other:?}"),
    }
}

fn parse(answer: &[u8]) -> (Got, String) {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let kind = head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap_or("").to_owned();
    let bytes = &answer[end + 4..];
    let body = match kind.contains("json") {
        true => serde_json::from_slice(bytes).expect("JSON"),
        false => Value::String(String::from_utf8_lossy(bytes).into_owned()),
    };
    (Got { status, body }, kind)
}
