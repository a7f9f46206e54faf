//! The Rust client: guards, renewal, loss, reconnecting.

use crate::service::{PATIENCE, Service, with_grace};
use keylatch_service::client::{ClientError, Session, SessionOptions, Wanted};
use keylatch_service::server::wire::ItemBody;
use serde_json::json;
use std::time::Duration;

fn wanted(object: &str, wait: Option<Duration>) -> Wanted {
    let item: ItemBody = serde_json::from_value(json!({"bucket": "b", "object": object})).unwrap();
    Wanted { items: vec![item], wait, priority: 0 }
}

async fn session(service: &Service) -> Session {
    Session::open(service.http.clone(), SessionOptions { owner: "c".into(), ..SessionOptions::default() })
        .await
        .unwrap()
}

#[tokio::test]
async fn guards_exclude_each_other_and_fences_grow() {
    let service = Service::start().await;
    let (a, b) = (session(&service).await, session(&service).await);
    let first = a.lock(wanted("x", None)).await.unwrap();
    assert!(first.is_valid() && first.safe_for() <= Duration::from_secs(5));
    let refused = b.lock(wanted("x", Some(Duration::ZERO))).await.unwrap_err();
    assert!(refused.is_problem("locked"), "{refused}");
    assert!(matches!(b.lock(wanted("x", Some(Duration::from_millis(5)))).await, Err(ClientError::Timeout)));
    let fence = first.fence();
    let waits = b.lock(wanted("x", None));
    let (second, released) = tokio::join!(waits, async {
        service.await_waiters(1).await;
        first.release().await
    });
    assert!(released.is_ok());
    let second = second.unwrap();
    assert!(second.fence() > fence);
    second.release().await.unwrap();
    service.stop().await;
}

#[tokio::test]
async fn guard_outlives_many_leases_by_renewing() {
    let service = Service::with(with_grace(Duration::from_millis(300))).await;
    let holder = session(&service).await;
    let guard = holder.lock(wanted("x", None)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let listed = service.get("/v1/locks").await;
    assert_eq!(listed.body["rows"][0]["fence"], guard.fence(), "the lock is the same one");
    service.stop().await;
}

#[tokio::test]
async fn forced_release_is_learned_and_stays() {
    let service = Service::start().await;
    let holder = session(&service).await;
    let guard = holder.lock(wanted("x", None)).await.unwrap();
    service.post("/v1/force-release", json!({"object": "x"})).await;
    tokio::time::timeout(PATIENCE, guard.lost()).await.expect("the stream tells it");
    assert!(!guard.is_valid());
    assert!(matches!(guard.release().await, Err(ClientError::Lost)));
    let again = holder.lock(wanted("x", None)).await.unwrap();
    assert!(again.is_valid(), "the session goes on");
    service.stop().await;
}

#[tokio::test]
async fn dropped_guard_and_dropped_wait_leave_nothing() {
    let service = Service::start().await;
    let (a, b) = (session(&service).await, session(&service).await);
    let guard = a.lock(wanted("x", None)).await.unwrap();
    tokio::select! {
        _ = b.lock(wanted("x", None)) => panic!("it is held"),
        () = service.await_waiters(1) => {}
    }
    service.await_waiters(0).await;
    drop(guard);
    let next = b.lock(wanted("x", None)).await.unwrap();
    next.release().await.unwrap();
    service.stop().await;
}

#[tokio::test]
async fn silent_server_loses_guard_by_own_clock() {
    let service = Service::with(with_grace(Duration::from_millis(300))).await;
    let holder = session(&service).await;
    let guard = holder.lock(wanted("x", None)).await.unwrap();
    service.running.abort();
    tokio::time::timeout(PATIENCE, guard.lost()).await.expect("no renewal, no belief");
    assert!(!guard.is_valid());
    assert!(matches!(guard.release().await, Err(ClientError::Lost)));
}

#[tokio::test]
async fn restarted_server_ends_the_session() {
    let service = Service::start().await;
    let holder = session(&service).await;
    let guard = holder.lock(wanted("x", None)).await.unwrap();
    let address = service.running.address();
    service.running.abort();
    let again = || {
        crate::service::Service::with_patience(keylatch_service::server::Settings {
            listen: address,
            ..crate::service::settings()
        })
    };
    let service = tokio::time::timeout(PATIENCE, again()).await.expect("the port is free again");
    tokio::time::timeout(PATIENCE, guard.lost()).await.expect("the new epoch is learned");
    assert!(matches!(holder.lock(wanted("y", None)).await, Err(ClientError::Lost)));
    service.stop().await;
}

#[tokio::test]
async fn many_clients_never_meet() {
    let service = Service::start().await;
    let inside = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let (session, inside) = (session(&service).await, std::sync::Arc::clone(&inside));
        tasks.push(tokio::spawn(async move {
            let mut fences = Vec::new();
            for _ in 0..20 {
                let guard = session.lock(wanted("x", None)).await.unwrap();
                assert_eq!(inside.swap(guard.fence(), std::sync::atomic::Ordering::SeqCst), 0);
                tokio::task::yield_now().await;
                assert_eq!(inside.swap(0, std::sync::atomic::Ordering::SeqCst), guard.fence());
                fences.push(guard.fence());
                guard.release().await.unwrap();
            }
            fences
        }));
    }
    let mut fences = Vec::new();
    for task in tasks {
        fences.extend(tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap());
    }
    fences.sort_unstable();
    fences.dedup();
    assert_eq!(fences.len(), 8 * 20);
    service.stop().await;
}
