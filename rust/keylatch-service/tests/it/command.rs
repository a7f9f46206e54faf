//! The program: its commands, as processes.

use crate::service::{Folder, PATIENCE, Service, settings};
use keylatch_service::client::{Session, SessionOptions, Wanted};
use keylatch_service::machine::Limits;
use keylatch_service::server::Settings;
use keylatch_service::server::wire::ItemBody;
use serde_json::{Value, json};
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

pub(crate) fn keylatch(server: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keylatch"));
    command.args(arguments).env("KEYLATCH_SERVER", server).stdin(Stdio::null()).kill_on_drop(true);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub(crate) fn url(service: &Service) -> String {
    format!("http://{}", service.running.address())
}

pub(crate) async fn output(mut command: Command) -> Output {
    tokio::time::timeout(PATIENCE, command.output()).await.expect("it ends").unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn what_is_wrong_is_said_in_few_bytes() {
    let long = "k".repeat(20_000);
    let refused = output(keylatch("http://127.0.0.1:1", &["hold", &long, "--", "true"])).await;
    let says = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{says}");
    assert!(says.contains("(20000 bytes)") && says.contains("bucket/object") && says.len() < 1000, "{says}");

    let mut serve = keylatch("", &["serve", "--show-config", "--state", "none"]);
    serve.env("KEYLATCH_MAX_KEY", "7");
    let shown = output(serve).await;
    assert!(text(&shown.stderr).contains("KEYLATCH_MAX_KEY is no setting"), "{shown:?}");
    assert!(shown.status.success() && text(&shown.stdout).contains("max_keys"), "{shown:?}");
}

/// A command that runs, and the lines that it prints.
pub(crate) struct Started {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Started {
    pub(crate) fn new(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    pub(crate) async fn line(&mut self) -> String {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await.expect("a line in time");
        line.unwrap().expect("it prints on")
    }

    pub(crate) fn signal(&self, number: i32) {
        // SAFETY: sends a signal to a child that was not waited for.
        assert_eq!(unsafe { libc::kill(self.child.id().unwrap() as i32, number) }, 0);
    }

    pub(crate) async fn status(&mut self) -> Option<i32> {
        tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it ends").unwrap().code()
    }
}

/// Returns whether a process runs; one that was not waited for does not.
pub(crate) fn is_running(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with(['Z', 'X']))
}

fn wanted(object: &str, wait: Option<Duration>) -> Wanted {
    let item: ItemBody = serde_json::from_value(json!({"bucket": "b", "object": object})).unwrap();
    Wanted { items: vec![item], wait, priority: 0 }
}

async fn session(service: &Service) -> Session {
    let options = SessionOptions { owner: "test".into(), ..SessionOptions::default() };
    Session::open(service.http.clone(), options).await.unwrap()
}

#[tokio::test]
async fn hold_passes_input_fence_and_status() {
    let service = Service::start().await;
    let script = "cat; echo \"$KEYLATCH_FENCE $KEYLATCH_GRANT\"; exit 7";
    let mut command = keylatch(&url(&service), &["hold", "b/x", "--", "sh", "-c", script]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"from the input\n").await.unwrap();
    let got = child.wait_with_output().await.unwrap();
    assert_eq!(got.status.code(), Some(7), "{got:?}");
    let printed = text(&got.stdout);
    let fence: u64 = printed.strip_prefix("from the input\n").unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(printed.ends_with(&format!("{fence} {}.{fence}\n", service.running.epoch())), "{printed}");
    assert_eq!(service.get("/healthz").await.body["holders"], 0, "it is released");
    service.stop().await;
}

#[tokio::test]
async fn hold_says_why_it_did_not_run() {
    let service = Service::start().await;
    let server = url(&service);
    let holder = session(&service).await;
    let _guard = holder.lock(wanted("x", None)).await.unwrap();
    for (arguments, status, says) in [
        (vec!["hold", "--timeout", "0", "b/x", "--", "true"], 75, "not all free"),
        (vec!["hold", "--timeout", "0.05", "b/x", "--", "true"], 75, "no answer in the time"),
        (vec!["hold", "b/y", "--", "no-such-command-here"], 127, "no-such-command-here"),
        (vec!["hold", "b/y", "--", "/"], 126, "/"),
        (vec!["hold", "nokey", "--", "true"], 2, "bucket/object"),
        (vec!["hold", "b/y"], 2, "required"),
        (vec!["hold", "--server", "http://127.0.0.1:1", "b/y", "--", "true"], 69, "cannot be reached"),
        (vec!["hold", "--server", "ftp://x", "b/y", "--", "true"], 2, "http://host:port"),
    ] {
        let got = output(keylatch(&server, &arguments)).await;
        assert_eq!(got.status.code(), Some(status), "{arguments:?}: {got:?}");
        assert!(text(&got.stderr).contains(says), "{arguments:?}: {got:?}");
    }
    service.stop().await;
}

#[tokio::test]
async fn hold_with_json_says_what_it_came_to() {
    let service = Service::start().await;
    let server = url(&service);
    let last_line =
        |got: &Output| -> Value { serde_json::from_str(text(&got.stdout).lines().last().unwrap()).unwrap() };
    let ran = output(keylatch(&server, &["hold", "--json", "b/x", "--", "sh", "-c", "echo printed; exit 7"])).await;
    let line = last_line(&ran);
    assert_eq!((&line["state"], &line["status"]), (&json!("ended"), &json!(7)), "{ran:?}");
    assert_eq!(line["grant"], format!("{}.{}", service.running.epoch(), line["fence"]));
    assert!(text(&ran.stdout).starts_with("printed\n"));
    let holder = session(&service).await;
    let _guard = holder.lock(wanted("x", None)).await.unwrap();
    for (arguments, state, status, code) in [
        (vec!["hold", "--json", "--timeout", "0", "b/x", "--", "true"], "not_free", 75, json!(-2)),
        (vec!["hold", "--json", "b/y", "--", "no-such-command-here"], "not_run", 127, Value::Null),
        (vec!["hold", "--json", "--server", "http://127.0.0.1:1", "b/y", "--", "true"], "unreachable", 69, json!(-105)),
        (
            vec!["claim", "--json", "--server", "http://127.0.0.1:1", "b/y", "--", "true"],
            "unreachable",
            69,
            json!(-105),
        ),
    ] {
        let got = output(keylatch(&server, &arguments)).await;
        let line = last_line(&got);
        assert_eq!(got.status.code(), Some(status), "{arguments:?}: {got:?}");
        assert_eq!((&line["state"], &line["status"], &line["code"]), (&json!(state), &json!(status), &code), "{line}");
    }
    service.stop().await;
}

#[tokio::test]
async fn hold_forwards_signals() {
    let service = Service::start().await;
    let script = "trap 'echo got; exit 9' TERM; echo ready; while :; do sleep 0.02; done";
    let mut hold = Started::new(keylatch(&url(&service), &["hold", "b/x", "--", "sh", "-c", script]));
    assert_eq!(hold.line().await, "ready");
    hold.signal(libc::SIGTERM);
    assert_eq!(hold.line().await, "got");
    assert_eq!(hold.status().await, Some(9));
    let killed = output(keylatch(&url(&service), &["hold", "b/x", "--", "sh", "-c", "kill -KILL $$"])).await;
    assert_eq!(killed.status.code(), Some(128 + 9));
    service.stop().await;
}

#[tokio::test]
async fn hold_ends_its_command_when_the_lock_is_forced() {
    let service = Service::start().await;
    let mut hold =
        Started::new(keylatch(&url(&service), &["hold", "b/x", "--", "sh", "-c", "echo $$; exec sleep 1000"]));
    let pid = hold.line().await;
    let forced = output(keylatch(&url(&service), &["force-release", "--object", "x", "--yes", "--json"])).await;
    assert_eq!(serde_json::from_slice::<Value>(&forced.stdout).unwrap()[0]["object"], "x", "{forced:?}");
    assert_eq!(hold.status().await, Some(70));
    assert!(!is_running(&pid));
    service.stop().await;
}

#[tokio::test]
async fn force_release_without_a_terminal_wants_yes() {
    let service = Service::start().await;
    let holder = session(&service).await;
    let guard = holder.lock(wanted("x", None)).await.unwrap();
    let unasked = output(keylatch(&url(&service), &["force-release", "--object", "x"])).await;
    assert!(unasked.status.code() == Some(2) && text(&unasked.stderr).contains("--yes"), "{unasked:?}");
    let unnamed = output(keylatch(&url(&service), &["force-release", "--yes"])).await;
    assert!(unnamed.status.code() == Some(2) && text(&unnamed.stderr).contains("--all"), "{unnamed:?}");
    let held = output(keylatch(&url(&service), &["list"])).await;
    assert!(text(&held.stdout).contains("b/x"), "nothing was released: {held:?}");
    guard.release().await.unwrap();
    service.stop().await;
}

/// The lease and the grace of the tests that stop or kill `hold`.
const LEASE: Duration = Duration::from_secs(3);

async fn with_short_lease() -> Service {
    Service::with(Settings { limits: Limits { grace: LEASE, ..Limits::default() }, ..settings() }).await
}

/// Does something to `hold` after a while, and checks that its command is dead.
///
/// It must be dead when another client gets the lock.
async fn outlives_nothing(service: &Service, round: u64, number: i32) {
    let object = format!("x{round}-{number}");
    let key = format!("b/{object}");
    let script = "trap '' TERM; echo $$; while :; do sleep 0.05; done";
    let arguments = ["hold", "--ttl", "3", &key, "--", "sh", "-c", script];
    let mut hold = Started::new(keylatch(&url(service), &arguments));
    let pid = hold.line().await;
    let next = session(service).await;
    let waits = next.lock(wanted(&object, None));
    let strike = async {
        tokio::time::sleep(Duration::from_millis(round * 137 % 1_100)).await;
        assert!(is_running(&pid));
        hold.signal(number);
    };
    let (guard, ()) = tokio::time::timeout(PATIENCE, async { tokio::join!(waits, strike) }).await.unwrap();
    let guard = guard.unwrap();
    assert!(!is_running(&pid), "another client holds {object}, and the command still runs");
    guard.release().await.unwrap();
    if number == libc::SIGSTOP {
        hold.signal(libc::SIGCONT);
        assert_eq!(hold.status().await, Some(70));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_or_killed_hold_outlives_no_lease() {
    let service = with_short_lease().await;
    let rounds = (0..5).flat_map(|round| [(round, libc::SIGSTOP), (round, libc::SIGKILL)]);
    let all: Vec<_> = rounds.map(|(round, number)| outlives_nothing(&service, round, number)).collect();
    for_all(all).await;
    service.stop().await;
}

/// Polls futures together until all have ended.
async fn for_all(futures: Vec<impl Future<Output = ()>>) {
    let mut futures: Vec<_> = futures.into_iter().map(|future| Some(Box::pin(future))).collect();
    std::future::poll_fn(|context| {
        for slot in &mut futures {
            if slot.as_mut().is_some_and(|future| future.as_mut().poll(context).is_ready()) {
                *slot = None;
            }
        }
        if futures.iter().all(Option::is_none) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

#[tokio::test]
async fn list_events_and_top_show_what_is_held() {
    let service = Service::start().await;
    let server = url(&service);
    let holder = session(&service).await;
    let guard = holder.lock(wanted("x", None)).await.unwrap();
    let listed = output(keylatch(&server, &["list", "--json", "--bucket", "b"])).await;
    let rows: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!((&rows[0]["object"], &rows[0]["fence"]), (&json!("x"), &json!(guard.fence())));
    let plain = text(&output(keylatch(&server, &["list"])).await.stdout);
    assert!(plain.contains("b/x") && plain.contains("exclusive") && plain.contains("test"), "{plain}");
    assert_eq!(text(&output(keylatch(&server, &["list", "--waiters"])).await.stdout), "none\n");
    let after = format!("{}-0", service.running.epoch());
    let events = output(keylatch(&server, &["events", "--json", "--count", "1", "--after", &after])).await;
    let event: Value = serde_json::from_slice(&events.stdout).unwrap();
    assert_eq!((&event["event"], &event["data"]["items"][0]["object"]), (&json!("granted"), &json!("x")));
    let claim = json!({"resource": {"bucket": "layers", "object": "l"}, "owner": "worker"});
    assert_eq!(service.post("/v1/claim", claim).await.body["state"], "yours");
    let top: Value = serde_json::from_slice(&output(keylatch(&server, &["top", "--json"])).await.stdout).unwrap();
    assert_eq!((&top["health"]["holders"], &top["claims"][0]["owned_by"]["owner"]), (&json!(1), &json!("worker")));
    let once = text(&output(keylatch(&server, &["top", "--once"])).await.stdout);
    assert!(once.contains("1 claimed") && once.contains("layers/l") && once.contains("attempt 1"), "{once}");
    guard.release().await.unwrap();
    service.stop().await;
}

#[tokio::test]
async fn completions_and_man_page_are_there() {
    let service = Service::start().await;
    let server = url(&service);
    for shell in ["bash", "zsh", "fish"] {
        let got = text(&output(keylatch(&server, &["completions", shell])).await.stdout);
        assert!(got.contains("force-release"), "{shell}: {got}");
    }
    let man = text(&output(keylatch(&server, &["man"])).await.stdout);
    for word in [".TH keylatch", "KEYLATCH_MAX_KEYS", "Exit status", "\\-\\-timeout"] {
        assert!(man.contains(word), "{word} in {man}");
    }
    service.stop().await;
}

#[tokio::test]
async fn bench_measures_and_finds_no_violation() {
    let service = Service::start().await;
    let server = url(&service);
    let bench = output(keylatch(&server, &["bench", "--seconds", "0.05", "--json"])).await;
    let rows: Value = serde_json::from_slice(&bench.stdout).unwrap_or_else(|_| panic!("{bench:?}"));
    assert_eq!(rows.as_array().unwrap().len(), 4);
    assert!(rows.as_array().unwrap().iter().all(|row| row["calls"].as_u64().unwrap() > 0), "{rows}");
    let crowd = ["bench", "--crowd", "--clients", "40", "--seconds", "0.1", "--json"];
    let line = ["bench", "--waiters", "40", "--json"];
    for (arguments, least) in [(&crowd[..], 40), (&line[..], 40)] {
        let got = output(keylatch(&server, arguments)).await;
        let rows: Value = serde_json::from_slice(&got.stdout).unwrap_or_else(|_| panic!("{got:?}"));
        assert!(rows[0]["calls"].as_u64().unwrap() >= least, "{rows}");
    }
    assert_eq!(service.get("/healthz").await.body["sessions"], 0, "it ends its sessions");
    service.stop().await;
}

#[tokio::test]
async fn serve_runs_reloads_and_stops() {
    let folder = Folder::new();
    let tokens = folder
        .write("tokens.toml", "[[token]]\nname=\"a\"\ntoken=\"0123456789abcdef\"\n[[token.scope]]\nverbs=[\"list\"]\n");
    let state = folder.path().join("state");
    let (tokens_path, state_path) = (tokens.to_str().unwrap(), state.to_str().unwrap());
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--state", state_path, "--tokens", tokens_path];
    let mut serve = Started::new(keylatch("", &arguments));
    let address = serve.line().await.rsplit(' ').next().unwrap().to_owned();
    let mut log = BufReader::new(serve.child.stderr.take().unwrap()).lines();
    let server = format!("http://{address}");
    let list = |token: &str| {
        let mut command = keylatch(&server, &["list"]);
        command.env("KEYLATCH_TOKEN", token);
        output(command)
    };
    assert_eq!(list("0123456789abcdef").await.status.code(), Some(0));
    assert_eq!(list("another-token-here").await.status.code(), Some(77));
    std::fs::write(&tokens, "[[token]]\nname=\"a\"\ntoken=\"another-token-here\"\n[[token.scope]]\nverbs=[\"list\"]\n")
        .unwrap();
    serve.signal(libc::SIGHUP);
    loop {
        let line = tokio::time::timeout(PATIENCE, log.next_line()).await.unwrap().unwrap().unwrap();
        if line.contains("read anew") {
            break;
        }
    }
    assert_eq!(list("another-token-here").await.status.code(), Some(0));
    assert_eq!(list("0123456789abcdef").await.status.code(), Some(77));
    let second = output(keylatch("", &arguments)).await;
    assert_eq!(second.status.code(), Some(71));
    assert!(text(&second.stderr).contains("another server uses this file"), "{second:?}");
    serve.signal(libc::SIGTERM);
    assert_eq!(serve.status().await, Some(0));
    assert!(std::fs::read_to_string(state).unwrap().contains("\"clean\": true"));
}

#[tokio::test]
async fn show_config_names_values_and_sources() {
    let folder = Folder::new();
    let config = folder.write("keylatch.toml", "max_keys = 9\nlog = \"warn\"\n");
    let mut command = keylatch("", &["serve", "--config", config.to_str().unwrap(), "--log", "debug", "--show-config"]);
    command.env("KEYLATCH_MAX_ITEMS", "3");
    let got = output(command).await;
    let shown = text(&got.stdout);
    for (value, source) in [
        ("max_keys = \"9\"", "keylatch.toml"),
        ("log = \"debug\"", "--log"),
        ("max_items = \"3\"", "KEYLATCH_MAX_ITEMS"),
        ("events = \"16384\"", "default"),
    ] {
        let line = shown.lines().find(|line| line.starts_with(value)).unwrap_or_else(|| panic!("{shown}"));
        assert!(line.ends_with(source), "{line}");
    }
    let json = output(keylatch("", &["serve", "--max-keys", "9", "--show-config", "--json"])).await;
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["max_keys"], json!({"value": "9", "source": "--max-keys"}));
    let open = output(keylatch("", &["serve", "--listen", "0.0.0.0:0", "--state", "none"])).await;
    assert_eq!(open.status.code(), Some(71));
    assert!(text(&open.stderr).contains("reached from other machines"), "{open:?}");
}
