//! Two servers that share their locks on a real etcd, which the tests start.

use crate::service::{Folder, PATIENCE, Service, settings};
use keylatch_service::client::{ClientError, Session, SessionOptions, Wanted};
use keylatch_service::server::wire::ItemBody;
use keylatch_service::server::{EtcdSettings, Settings};
use serde_json::json;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const TTL: Duration = Duration::from_secs(2);

/// An etcd of its own, which ends with the value.
struct Etcd {
    process: Child,
    port: u16,
    _folder: Folder,
}

/// Where etcd is; `None`, with a line that says why, if it cannot be had.
fn program() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let find = || {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/debian_packages.py");
        let found = Command::new("python3").arg(script).arg("etcd").stdin(Stdio::null()).output().ok()?;
        let path = PathBuf::from(String::from_utf8_lossy(&found.stdout).trim().to_owned());
        if found.status.success() {
            return Some(path);
        }
        let why = String::from_utf8_lossy(&found.stderr).trim().to_owned();
        assert!(std::env::var_os("CI").is_none(), "etcd cannot be had: {why}");
        // The macros' output is kept for tests that fail, and these pass.
        let _ = writeln!(std::io::stderr(), "SKIPPED, all tests with etcd: it cannot be had: {why}");
        None
    };
    PROGRAM.get_or_init(find).as_deref()
}

impl Etcd {
    fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    fn start_with(options: &[&str]) -> Option<Self> {
        let program = program()?;
        let free = || {
            // Below those that the system gives to connections.
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let first = std::process::id().wrapping_mul(89);
            let port =
                |_| u16::try_from(10_000 + first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000).unwrap();
            (0..).map(port).find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok()).unwrap()
        };
        let (port, peer, folder) = (free(), free(), Folder::new());
        let (client, peer) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peer}"));
        let mut command = Command::new(program);
        command
            .args(["--name", "n", "--log-level", "error", "--unsafe-no-fsync", "--data-dir"])
            .arg(folder.path().join("data"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args([
                "--initial-cluster",
                &format!("n={peer}"),
                "--heartbeat-interval",
                "50",
                "--election-timeout",
                "500",
            ])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // SAFETY: between fork and exec the closure makes one system call and allocates nothing.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let process = command.spawn().unwrap();
        let etcd = Self { process, port, _folder: folder };
        let begun = std::time::Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < PATIENCE, "etcd does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(etcd)
    }

    fn settings(&self) -> Settings {
        let etcd = EtcdSettings {
            endpoints: vec![format!("http://127.0.0.1:{}", self.port)],
            namespace: "service".into(),
            ttl: TTL,
            user: None,
            ca: None,
            identity: None,
        };
        Settings { etcd: Some(etcd), ..settings() }
    }

    async fn service(&self) -> Service {
        Service::with(self.settings()).await
    }

    fn signal(&self, signal: i32) {
        // SAFETY: the process is our child and was not waited for, so its number is its own.
        unsafe { libc::kill(self.process.id().try_into().unwrap(), signal) };
    }

    /// Stops the server, and returns when none of its threads goes on.
    fn pause(&self) {
        self.signal(libc::SIGSTOP);
        let (process, mut status) = (self.process.id().try_into().unwrap(), 0);
        // SAFETY: the process is our child, and the status a local.
        assert_eq!(unsafe { libc::waitpid(process, &mut status, libc::WUNTRACED) }, process);
        assert!(libc::WIFSTOPPED(status), "the server ended");
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn wanted(objects: &[&str], wait: Option<Duration>) -> Wanted {
    let item = |object: &&str| serde_json::from_value::<ItemBody>(json!({"bucket": "b", "object": object})).unwrap();
    Wanted { items: objects.iter().map(item).collect(), wait, priority: 0 }
}

async fn session(service: &Service) -> Session {
    Session::open(service.http.clone(), SessionOptions { owner: "c".into(), ..SessionOptions::default() })
        .await
        .unwrap()
}

#[tokio::test]
async fn servers_exclude_each_other() {
    let Some(etcd) = Etcd::start() else { return };
    let (one, two) = (etcd.service().await, etcd.service().await);
    let (a, b) = (session(&one).await, session(&two).await);
    let first = a.lock(wanted(&["x"], None)).await.unwrap();
    let refused = b.lock(wanted(&["x"], Some(Duration::ZERO))).await.unwrap_err();
    assert!(refused.is_problem("locked"), "{refused}");
    assert!(matches!(b.lock(wanted(&["x"], Some(Duration::from_millis(50)))).await, Err(ClientError::Timeout)));
    b.lock(wanted(&["y"], Some(Duration::ZERO))).await.unwrap().release().await.unwrap();
    let fence = first.fence();
    // A wait that was given up keeps no one back.
    tokio::select! {
        _ = b.lock(wanted(&["x", "y"], None)) => panic!("it is held"),
        () = two.await_waiters(1) => {}
    }
    let waits = b.lock(wanted(&["x"], None));
    let (second, released) = tokio::join!(waits, async {
        two.await_waiters(1).await;
        first.release().await
    });
    released.unwrap();
    let second = second.unwrap();
    assert!(second.fence() > fence && second.is_valid());
    second.release().await.unwrap();
    a.lock(wanted(&["y"], None)).await.unwrap().release().await.unwrap();
    // What holds at a server that ends is free for the others.
    let last = a.lock(wanted(&["x"], None)).await.unwrap();
    let waits = b.lock(wanted(&["x"], None));
    let (next, ()) = tokio::join!(waits, async {
        two.await_waiters(1).await;
        one.stop().await;
    });
    assert!(next.unwrap().fence() > last.fence());
    assert!(!last.is_valid(), "two hold");
    two.stop().await;
}

#[tokio::test]
async fn crowds_at_two_servers_exclude() {
    let Some(etcd) = Etcd::start() else { return };
    let (one, two) = (etcd.service().await, etcd.service().await);
    let inside = [AtomicU32::new(0), AtomicU32::new(0)];
    let work = async |service: &Service, turn: usize| {
        let session = session(service).await;
        for round in 0..12 {
            let keys: &[&str] = match (round + turn) % 3 {
                0 => &["x"],
                1 => &["x", "y"],
                _ => &["y", "x"],
            };
            let guard = session.lock(wanted(keys, None)).await.unwrap();
            let own = || inside.iter().take(keys.len());
            assert!(own().all(|inside| inside.fetch_add(1, Ordering::SeqCst) == 0), "two hold");
            tokio::task::yield_now().await;
            own().for_each(|inside| {
                inside.fetch_sub(1, Ordering::SeqCst);
            });
            guard.release().await.unwrap();
        }
    };
    let all = async { tokio::join!(work(&one, 0), work(&two, 0), work(&one, 1), work(&two, 2)) };
    tokio::time::timeout(PATIENCE, all).await.expect("no two wait for each other");
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn lost_lease_of_server_reaches_clients() {
    let Some(etcd) = Etcd::start() else { return };
    let (one, two) = (etcd.service().await, etcd.service().await);
    let (a, b) = (session(&one).await, session(&two).await);
    let guard = a.lock(wanted(&["x"], None)).await.unwrap();
    assert!(guard.safe_for() <= TTL, "no client believes for longer than the server's lease lasts");
    let unattached = one.open("u", false).await;
    let got = one.lock(&unattached, 1, "u", 0).await;
    assert!(got.body["valid_ms"].as_u64().unwrap() <= 2_000, "{got:?}");
    etcd.pause();
    tokio::time::timeout(PATIENCE, guard.lost()).await.expect("the client learns of it");
    assert!(!guard.is_valid());
    let got = one.lock(&unattached, 1, "u", 0).await;
    assert_eq!((got.status, got.problem(), got.text("reason")), (409, "lease_lost", "tier_lost".into()));
    etcd.signal(libc::SIGCONT);
    let next = b.lock(wanted(&["x"], None)).await.unwrap();
    assert!(next.fence() > guard.fence() && next.is_valid());
    next.release().await.unwrap();
    a.lock(wanted(&["x"], None)).await.unwrap().release().await.unwrap();
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn tier_refuses_what_it_cannot() {
    let Some(etcd) = Etcd::start() else { return };
    let service = etcd.service().await;
    let session = service.open("c", false).await;
    let items = |count: usize| (0..count).map(|n| json!({"bucket": "b", "object": n.to_string()})).collect::<Vec<_>>();
    let lock = |number: u64, count| json!({"session": session, "request_id": number, "items": items(count)});
    // As many as a server takes without a tier.
    assert_eq!(service.post("/v1/lock", lock(1, 256)).await.status, 200);
    assert_eq!(service.post("/v1/lock", lock(2, 257)).await.problem(), "invalid_request");
    let resource = json!({"bucket": "b", "object": "o"});
    let claim = json!({"session": session, "request_id": 3, "resource": resource});
    let got = service.post("/v1/claim", claim).await;
    assert_eq!((got.problem(), &got.body["code"]), ("invalid_request", &json!(-10)), "{got:?}");
    service.stop().await;
}

/// It would be refused again however long it waits.
#[tokio::test]
async fn too_large_wait_refused() {
    let Some(etcd) = Etcd::start_with(&["--max-request-bytes", "20000"]) else { return };
    let service = etcd.service().await;
    let session = service.open("c", false).await;
    let items: Vec<_> = (0..100).map(|n| json!({"bucket": "b", "object": format!("{n:0200}")})).collect();
    let of_session = json!({"session": session, "request_id": 1, "items": items, "wait_ms": 10_000});
    let got = service.post("/v1/lock", of_session.clone()).await;
    assert_eq!((got.problem(), got.status), ("request_too_large", 413), "{got:?}");
    // The number keeps its answer, and the keys are free.
    assert_eq!(service.post("/v1/lock", of_session).await.problem(), "request_too_large");
    // A try without a session ends alike, and is not taken for one that met another.
    let got = service.post("/v1/lock", json!({"items": items})).await;
    assert_eq!(got.problem(), "request_too_large", "{got:?}");
    let first = service.post("/v1/lock", json!({"items": [items[0]]})).await;
    assert_eq!(first.status, 200, "{first:?}");
    service.stop().await;
}

/// What a server has just given back is free for its next try.
#[tokio::test]
async fn try_after_unlock_or_cancel_is_granted() {
    let Some(etcd) = Etcd::start() else { return };
    let (one, two) = (etcd.service().await, etcd.service().await);
    let (a, b) = (session(&one).await, session(&two).await);
    for _ in 0..10 {
        let held = b.lock(wanted(&["x"], None)).await.unwrap();
        tokio::select! {
            _ = a.lock(wanted(&["x"], None)) => panic!("it is held"),
            () = one.await_waiters(1) => {}
        }
        held.release().await.unwrap();
        one.await_waiters(0).await;
        // What the other server gives back may still be on its way.
        a.lock(wanted(&["x"], None)).await.unwrap().release().await.unwrap();
        for _ in 0..5 {
            let tried = a.lock(wanted(&["x"], Some(Duration::ZERO))).await;
            tried.unwrap().release().await.unwrap();
        }
    }
    one.stop().await;
    two.stop().await;
}

/// A try has its answer within the time that its client has.
#[tokio::test]
async fn try_ends_by_the_time_of_its_client() {
    let Some(etcd) = Etcd::start() else { return };
    let service = etcd.service().await;
    let named = service.open("c", false).await;
    etcd.pause();
    let body = |object, session: Option<&str>, timeout: Option<u64>| {
        let items = json!([{"bucket": "b", "object": object}]);
        let owner = session.is_none().then_some("u");
        json!({"session": session, "owner": owner, "request_id": 1, "items": items, "client_timeout_ms": timeout})
    };
    // One without a time of its own has the time that the cluster has to answer, which is seconds.
    let mut patient = Box::pin(service.post("/v1/lock", body("other", None, None)));
    for session in [Some(named.as_str()), None] {
        let got = tokio::select! {
            got = service.post("/v1/lock", body("x", session, Some(100))) => got,
            _ = &mut patient => panic!("it had the time of the other one"),
        };
        assert_eq!((got.status, got.problem()), (423, "locked"), "{got:?}");
    }
    drop(patient);
    etcd.signal(libc::SIGCONT);
    service.stop().await;
}
