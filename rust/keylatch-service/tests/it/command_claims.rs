//! `keylatch claim`: a command that runs once among all who ask for it.

use crate::command::{Started, keylatch, output, text, url};
use crate::service::Service;
use serde_json::{Value, json};

#[tokio::test]
async fn claim_runs_once_and_later_ones_are_done() {
    let service = Service::start().await;
    let script = "echo ran $KEYLATCH_ATTEMPT $KEYLATCH_FIRST_IN_EPOCH";
    let run = |more: &'static [&'static str]| {
        let mut arguments = vec!["claim", "--json", "--note", "here"];
        arguments.extend(more);
        arguments.extend(["layers/l", "--", "sh", "-c", script]);
        output(keylatch(&url(&service), &arguments))
    };
    let first = run(&[]).await;
    assert_eq!(first.status.code(), Some(0), "{first:?}");
    let printed = text(&first.stdout);
    let (ran, line) = printed.split_once('\n').unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!((ran, &line["state"], &line["status"]), ("ran 1 1", &json!("ended"), &json!(0)));
    assert_eq!(line["grant"], format!("{}.{}", service.running.epoch(), line["fence"]));
    let second = run(&[]).await;
    let line: Value = serde_json::from_slice(&second.stdout).unwrap();
    assert_eq!(
        (second.status.code(), &line["state"], &line["outcome"]["note"]),
        (Some(0), &json!("done"), &json!("here"))
    );
    service.stop().await;
}

#[tokio::test]
async fn failed_command_hands_over_with_its_status() {
    let service = Service::start().await;
    let failing = output(keylatch(&url(&service), &["claim", "layers/l", "--", "sh", "-c", "exit 7"])).await;
    assert_eq!(failing.status.code(), Some(7));
    let last = ["claim", "--attempts", "2", "layers/l", "--", "sh", "-c", "exit $((KEYLATCH_ATTEMPT + 10))"];
    assert_eq!(output(keylatch(&url(&service), &last)).await.status.code(), Some(12));
    let later = output(keylatch(&url(&service), &["claim", "layers/l", "--", "true"])).await;
    assert_eq!(later.status.code(), Some(73), "{later:?}");
    assert!(text(&later.stderr).contains("failed for good"), "{later:?}");
    service.stop().await;
}

#[tokio::test]
async fn killed_claim_makes_the_next_one_run() {
    let service = Service::start().await;
    let server = url(&service);
    let script = "echo $$; echo '3 4 http://n/' >&3; exec sleep 600";
    let mut first = Started::new(keylatch(&server, &["claim", "layers/l", "--", "sh", "-c", script]));
    let child = first.line().await;
    while service.get("/v1/claims").await.body["rows"][0]["owned_by"]["progress"]["done"] != 3 {
        tokio::task::yield_now().await;
    }
    let skipped = output(keylatch(&server, &["claim", "--skip", "layers/l", "--", "true"])).await;
    assert_eq!(skipped.status.code(), Some(75), "{skipped:?}");
    let timed = output(keylatch(&server, &["claim", "--timeout", "0.01", "layers/l", "--", "true"])).await;
    assert_eq!(timed.status.code(), Some(75), "{timed:?}");
    let listed = output(keylatch(&server, &["list", "--claims"])).await;
    assert!(text(&listed.stdout).contains("75%"), "{listed:?}");
    let mut second =
        Started::new(keylatch(&server, &["claim", "layers/l", "--", "sh", "-c", "echo $KEYLATCH_ATTEMPT"]));
    service.await_claims("l", 1).await;
    first.signal(libc::SIGKILL);
    assert_eq!(second.line().await, "2");
    assert!(!crate::command::is_running(&child), "the guardian ended the first command before the second ran");
    assert_eq!(second.status().await, Some(0));
    let events = output(keylatch(&server, &["events", "--resource", "layers/l", "--count", "1"])).await;
    assert!(text(&events.stdout).contains("done"), "{events:?}");
    service.stop().await;
}

#[tokio::test]
async fn forced_end_of_a_claim_ends_its_command() {
    let service = Service::start().await;
    let server = url(&service);
    let mut first =
        Started::new(keylatch(&server, &["claim", "layers/l", "--", "sh", "-c", "echo up; exec sleep 600"]));
    assert_eq!(first.line().await, "up");
    let forced = output(keylatch(&server, &["force-release", "--claims", "--yes", "--all", "--json"])).await;
    assert_eq!(serde_json::from_slice::<Value>(&forced.stdout).unwrap()[0]["resource"]["object"], "l");
    assert_eq!(first.status().await, Some(70));
    service.stop().await;
}
