//! Claims with the Rust client: work that is ours, outcomes of others, loss.

use crate::http_claims::claim_body;
use crate::service::{PATIENCE, Service, settings, with_grace};
use keylatch::claim::{ClaimPolicy, ClaimWhenTaken};
use keylatch_service::client::{ClaimGuard, ClaimWanted, Claimed, ClientError, Session, SessionOptions};
use serde_json::json;
use std::time::Duration;

fn wanted(object: &str) -> ClaimWanted {
    let resource = serde_json::from_value(json!({"bucket": "layers", "object": object})).unwrap();
    ClaimWanted { resource, wait: None, policy: ClaimPolicy::default() }
}

async fn session(service: &Service, owner: &str) -> Session {
    let options = SessionOptions { owner: owner.into(), ..SessionOptions::default() };
    Session::open(service.http.clone(), options).await.unwrap()
}

fn yours(claimed: Claimed) -> ClaimGuard {
    match claimed {
        Claimed::Yours(guard) => guard,
        other => panic!("expected the work, got {other:?}"),
    }
}

#[tokio::test]
async fn work_is_done_once_and_waiters_get_the_note() {
    let service = Service::start().await;
    let (a, b) = (session(&service, "a").await, session(&service, "b").await);
    let guard = yours(a.claim(wanted("l")).await.unwrap());
    assert!(guard.is_valid() && guard.is_first_in_epoch() && guard.attempt() == 1);
    let skip = ClaimPolicy { when_taken: ClaimWhenTaken::Skip, ..ClaimPolicy::default() };
    let skipped = b.claim(ClaimWanted { policy: skip, ..wanted("l") }).await.unwrap();
    assert!(matches!(skipped, Claimed::Skipped { owner: Some(owner) } if owner == "a"));
    let short = ClaimWanted { wait: Some(Duration::from_millis(5)), ..wanted("l") };
    assert!(matches!(b.claim(short).await, Err(ClientError::Timeout)));
    service.await_claims("l", 0).await;
    guard.progress(1, 2, "here").await.unwrap();
    let (done, completed) = tokio::join!(b.claim(wanted("l")), async {
        service.await_claims("l", 1).await;
        guard.complete("12 MiB").await
    });
    completed.unwrap();
    assert!(matches!(done.unwrap(), Claimed::Done(outcome) if outcome.note.as_deref() == Some("12 MiB")));
    service.stop().await;
}

#[tokio::test]
async fn dropped_guard_hands_the_work_over() {
    let service = Service::start().await;
    let (a, b) = (session(&service, "a").await, session(&service, "b").await);
    let guard = yours(a.claim(wanted("l")).await.unwrap());
    let (second, ()) = tokio::join!(b.claim(wanted("l")), async {
        service.await_claims("l", 1).await;
        drop(guard);
    });
    let second = yours(second.unwrap());
    assert_eq!(second.attempt(), 2);
    second.fail("broken").await.unwrap();
    let third = yours(a.claim(wanted("l")).await.unwrap());
    assert_eq!(third.attempt(), 3);
    service.stop().await;
}

#[tokio::test]
async fn forced_end_is_learned_before_the_next_call() {
    let service = Service::start().await;
    let a = session(&service, "a").await;
    let guard = yours(a.claim(wanted("l")).await.unwrap());
    service.post("/v1/force-release", json!({"kind": "claims", "object": "l"})).await;
    tokio::time::timeout(PATIENCE, guard.lost()).await.expect("the stream tells it");
    assert!(matches!(guard.progress(1, 2, "").await, Err(ClientError::Lost)));
    assert!(matches!(guard.complete("n").await, Err(ClientError::Lost)));
    service.stop().await;
}

#[tokio::test]
async fn own_lease_of_a_grant_ends_by_the_own_clock() {
    let service = Service::start().await;
    let a = session(&service, "a").await;
    let leased = ClaimPolicy { lease: Some(Duration::from_millis(300)), ..ClaimPolicy::default() };
    let guard = yours(a.claim(ClaimWanted { policy: leased, ..wanted("l") }).await.unwrap());
    assert!(guard.safe_for() <= Duration::from_millis(300));
    tokio::time::timeout(PATIENCE, guard.lost()).await.expect("the lease ends");
    assert!(!guard.is_valid());
    let b = service.open("b", false).await;
    let next = service.post("/v1/claim", claim_body(&b, 1, "l", 30_000)).await;
    assert_eq!(next.body["attempt"], 2);
    service.stop().await;
}

#[tokio::test]
async fn silent_server_leaves_a_completion_unknown() {
    let service = Service::with(with_grace(Duration::from_millis(400))).await;
    let a = session(&service, "a").await;
    let guard = yours(a.claim(wanted("l")).await.unwrap());
    service.running.abort();
    let ended = tokio::time::timeout(PATIENCE, guard.complete("n")).await.expect("the belief ends");
    // The connection may have been found cut before anything was sent.
    assert!(matches!(ended, Err(ClientError::OutcomeUnknown | ClientError::Lost)), "{ended:?}");
}

#[tokio::test]
async fn restart_loses_the_work_for_certain() {
    let service = Service::start().await;
    let a = session(&service, "a").await;
    let guard = yours(a.claim(wanted("l")).await.unwrap());
    let address = service.running.address();
    service.running.abort();
    let again = Service::with_patience(keylatch_service::server::Settings { listen: address, ..settings() });
    let service = tokio::time::timeout(PATIENCE, again).await.expect("the port is free again");
    tokio::time::timeout(PATIENCE, guard.lost()).await.expect("the new epoch is learned");
    assert!(matches!(guard.complete("n").await, Err(ClientError::Lost)));
    service.stop().await;
}

#[tokio::test]
async fn many_clients_do_each_work_once() {
    let service = Service::start().await;
    let done = std::sync::Arc::new(parking_lot::Mutex::new(std::collections::BTreeMap::<u32, u32>::new()));
    let mut tasks = Vec::new();
    for client in 0..8 {
        let (session, done) = (session(&service, &client.to_string()).await, std::sync::Arc::clone(&done));
        tasks.push(tokio::spawn(async move {
            for layer in 0..20 {
                if let Claimed::Yours(guard) = session.claim(wanted(&format!("l{layer}"))).await.unwrap() {
                    // Each layer fails at its first attempt.
                    if guard.attempt() == 1 {
                        guard.fail("first").await.unwrap();
                        continue;
                    }
                    *done.lock().entry(layer).or_default() += 1;
                    guard.complete("n").await.unwrap();
                }
            }
        }));
    }
    for task in tasks {
        tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap();
    }
    assert!(done.lock().iter().all(|(_, count)| *count == 1) && done.lock().len() == 20, "{:?}", done.lock());
    service.stop().await;
}
