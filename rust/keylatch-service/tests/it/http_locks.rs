//! Locks over HTTP.

use crate::schema::Document;
use crate::service::{Folder, PATIENCE, Service, lock_body, next, settings, with_grace};
use keylatch_service::server::{ROUTES, Settings, Stopped};
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn lock_and_unlock_answer_grants_that_grow() {
    let service = Service::start().await;
    let session = service.open("curl", false).await;
    let mut last = 0;
    for number in 1..5 {
        let got = service.lock(&session, number, "x", 0).await;
        assert_eq!((got.status, got.body["state"].as_str()), (200, Some("granted")), "{got:?}");
        let fence = got.body["fence"].as_u64().unwrap();
        assert!(fence > last);
        assert_eq!(got.text("grant"), format!("{}.{fence}", service.running.epoch()));
        assert!(got.body["valid_ms"].as_u64().unwrap() > 0);
        last = fence;
        assert_eq!(service.lock(&session, number, "x", 0).await.body["fence"], fence, "a repeated call");
        let ended = service.unlock(&session, number).await;
        assert_eq!((ended.status, ended.body["state"].as_str()), (200, Some("ended")));
        assert_eq!(service.unlock(&session, number).await, ended);
        assert_eq!(service.lock(&session, number, "x", 0).await.problem(), "already_ended");
    }
    service.stop().await;
}

#[tokio::test]
async fn held_key_is_refused_with_its_holder() {
    let service = Service::start().await;
    let (a, b) = (service.open("node-7", false).await, service.open("node-8", false).await);
    service.lock(&a, 1, "x", 0).await;
    let got = service.lock(&b, 1, "x", 0).await;
    assert_eq!((got.status, got.problem()), (423, "locked"));
    assert_eq!((&got.body["holders"][0]["owner"], &got.body["code"]), (&json!("node-7"), &json!(-2)));
    service.stop().await;
}

#[tokio::test]
async fn parked_call_is_answered_by_the_release() {
    let service = Service::start().await;
    let (a, b) = (service.open("a", false).await, service.open("b", false).await);
    service.lock(&a, 1, "x", 0).await;
    let waits = service.lock(&b, 1, "x", 30_000);
    let release = async {
        service.await_waiters(1).await;
        service.unlock(&a, 1).await
    };
    let (granted, _) = tokio::time::timeout(PATIENCE, async { tokio::join!(waits, release) }).await.unwrap();
    assert_eq!(granted.body["state"], "granted");
    service.stop().await;
}

#[tokio::test]
async fn ended_poll_keeps_the_place() {
    let service = Service::start().await;
    let holder = service.open("holder", false).await;
    let (b, c) = (service.open("b", false).await, service.open("c", false).await);
    service.lock(&holder, 1, "x", 0).await;
    let got = service.lock(&b, 1, "x", 1).await;
    assert_eq!((got.status, &got.body["state"], &got.body["place"]), (202, &json!("waiting"), &json!(1)));
    assert_eq!(got.body["holders"][0]["owner"], "holder");
    assert_eq!(service.lock(&c, 1, "x", 1).await.body["place"], 2);
    assert_eq!(service.lock(&b, 1, "x", 1).await.body["place"], 1, "asked again later, ahead still");
    service.unlock(&holder, 1).await;
    assert_eq!(service.lock(&b, 1, "x", 0).await.body["state"], "granted");
    service.stop().await;
}

#[tokio::test]
async fn server_answers_before_the_client_gives_up() {
    let service = Service::start().await;
    let (a, b) = (service.open("a", false).await, service.open("b", false).await);
    service.lock(&a, 1, "x", 0).await;
    let mut body = lock_body(&b, 1, "x", 3_600_000);
    body["client_timeout_ms"] = json!(40);
    assert_eq!(service.post("/v1/lock", body).await.status, 202);
    service.stop().await;
}

#[tokio::test]
async fn later_poll_of_a_number_takes_over() {
    let service = Service::start().await;
    let (a, b) = (service.open("a", false).await, service.open("b", false).await);
    service.lock(&a, 1, "x", 0).await;
    let first = service.lock(&b, 1, "x", 30_000);
    let later = async {
        service.await_waiters(1).await;
        // The first poll ends when the later one takes its place, or with the grant.
        tokio::join!(service.lock(&b, 1, "x", 30_000), service.unlock(&a, 1)).0
    };
    let (first, later) = tokio::join!(first, later);
    assert_eq!(later.body["state"], "granted");
    assert!(matches!(first.body["state"].as_str(), Some("waiting" | "granted")), "{first:?}");
    service.stop().await;
}

#[tokio::test]
async fn cut_poll_keeps_its_place_and_gets_the_grant() {
    let service = Service::start().await;
    let (a, b, c) = (service.open("a", false).await, service.open("b", false).await, service.open("c", false).await);
    service.lock(&a, 1, "x", 0).await;
    let poll = service.lock(&b, 1, "x", 30_000);
    tokio::select! {
        _ = poll => panic!("it is held"),
        () = service.await_waiters(1) => {} // The poll's connection is dropped here.
    }
    assert_eq!(service.lock(&c, 1, "x", 1).await.body["place"], 2);
    service.unlock(&a, 1).await;
    let got = service.lock(&b, 1, "x", 0).await;
    assert_eq!(got.body["state"], "granted", "{got:?}");
    service.stop().await;
}

#[tokio::test]
async fn dropped_stream_frees_after_the_grace() {
    let service = Service::with(with_grace(Duration::from_millis(100))).await;
    let (a, stream) = service.attached("a").await;
    let b = service.open("b", false).await;
    assert_eq!(service.lock(&a, 1, "x", 0).await.status, 200);
    let waits = service.lock(&b, 1, "x", 30_000);
    let cut = async {
        service.await_waiters(1).await;
        drop(stream);
    };
    let (granted, ()) = tokio::join!(waits, cut);
    assert_eq!(granted.body["state"], "granted");
    assert_eq!(service.unlock(&a, 1).await.problem(), "session_gone");
    service.stop().await;
}

#[tokio::test]
async fn attached_stream_tells_grants_and_losses() {
    let service = Service::start().await;
    let (session, mut stream) = service.attached("a").await;
    service.lock(&session, 3, "x", 0).await;
    let (word, data) = next(&mut stream).await;
    assert_eq!((word.as_str(), &data["request_id"]), ("granted", &json!(3)));
    let forced = service.post("/v1/force-release", json!({"object": "x"})).await;
    assert_eq!(forced.body["released"][0]["request_id"], 3);
    let (word, data) = next(&mut stream).await;
    assert_eq!((word.as_str(), &data["reason"]), ("lost", &json!("forced")));
    let lost = service.unlock(&session, 3).await;
    assert_eq!((lost.status, lost.problem(), &lost.body["code"]), (409, "lease_lost", &json!(-7)));
    let mut second = service.attach(&session).await;
    assert_eq!(next(&mut stream).await.0, "replaced");
    assert_eq!(service.delete(&format!("/v1/sessions/{session}")).await.status, 204);
    assert_eq!(next(&mut second).await.0, "gone");
    service.stop().await;
}

#[tokio::test]
async fn lock_without_session_gets_its_own() {
    let service = Service::start().await;
    let body = json!({"items": [{"bucket": "b", "object": "x"}], "owner": "curl", "ttl_ms": 5_000});
    let got = service.post("/v1/lock", body.clone()).await;
    assert_eq!((got.status, &got.body["valid_ms"]), (200, &json!(5_000)));
    assert_eq!(service.post("/v1/lock", body).await.problem(), "locked");
    assert_eq!(service.get("/healthz").await.body["sessions"], 1, "the refused one left none");
    service.unlock(&got.text("session"), 1).await;
    assert_eq!(service.get("/healthz").await.body["sessions"], 0);
    service.stop().await;
}

#[tokio::test]
async fn restart_voids_grants_and_raises_fences() {
    let folder = Folder::new();
    let with_state = || Settings { state: Some(folder.path().join("state")), ..settings() };
    let service = Service::with(with_state()).await;
    let session = service.open("a", true).await;
    let before = service.lock(&session, 1, "y", 1).await; // Not attached yet: it stands in line.
    assert_eq!(before.body["state"], "waiting");
    let plain = service.open("b", false).await;
    let fence = service.lock(&plain, 1, "x", 0).await.body["fence"].as_u64().unwrap();
    let epoch = service.running.epoch();
    service.unlock(&plain, 1).await;
    assert_eq!(service.running.stop().await, Stopped::Clean);

    let service = Service::with(with_state()).await;
    assert_eq!(service.running.epoch(), epoch + 1);
    for got in [
        service.lock(&plain, 2, "x", 0).await,
        service.unlock(&plain, 1).await,
        service.post("/v1/renew", json!({"session": plain})).await,
    ] {
        assert_eq!((got.status, got.problem(), &got.body["epoch"]), (409, "epoch_changed", &json!(epoch + 1)));
    }
    let session = service.open("b", false).await;
    assert!(service.lock(&session, 1, "x", 0).await.body["fence"].as_u64().unwrap() > fence);
    service.stop().await;
}

#[tokio::test]
async fn crash_is_followed_by_a_quiet_period() {
    let folder = Folder::new();
    let with_state = || Settings { state: Some(folder.path().join("state")), ..settings() };
    let service = Service::with(with_state()).await;
    let body = json!({"owner": "a", "ttl_ms": 1_000});
    let session = service.post("/v1/sessions", body.clone()).await.text("session");
    service.lock(&session, 1, "x", 0).await;
    let fence = service.lock(&session, 1, "x", 0).await.body["fence"].as_u64().unwrap();
    service.running.abort();

    let service = Service::with_patience(with_state()).await;
    let session = service.open("b", false).await;
    let got = service.lock(&session, 1, "x", 0).await;
    assert_eq!((got.status, got.problem()), (503, "quiet_period"), "{got:?}");
    assert_eq!(service.get("/healthz").await.body["status"], "quiet");
    let got = service.lock(&session, 2, "x", 30_000).await;
    assert_eq!(got.body["state"], "granted", "after the second that was promised before");
    assert!(got.body["fence"].as_u64().unwrap() > fence);
    service.stop().await;
}

#[tokio::test]
async fn stop_waits_for_holders_and_refuses_the_rest() {
    let service = Service::start().await;
    let (a, mut stream) = service.attached("a").await;
    let b = service.open("b", false).await;
    service.lock(&a, 1, "x", 0).await;
    next(&mut stream).await;
    let address = service.running.address();
    let Service { running, http, .. } = service;
    let body = lock_body(&b, 1, "x", 30_000);
    let waits = http.post::<serde_json::Value>("/v1/lock", &body);
    let stop = async {
        // The stop may come before the waiter: it is refused either way.
        running.stop().await
    };
    let release = async {
        assert_eq!(next(&mut stream).await.0, "closing");
        let target = keylatch_service::client::Target::new(&format!("http://{address}"), None, &Default::default());
        let http = keylatch_service::client::Http::new(target.unwrap());
        let body = json!({"session": a, "request_id": 1});
        let ended: serde_json::Value = http.post("/v1/unlock", &body).await.unwrap();
        assert_eq!(ended["state"], "ended");
    };
    let (refused, stopped, ()) = tokio::join!(waits, stop, release);
    assert_eq!(crate::service::name_of(&refused.unwrap_err()), "closing");
    assert_eq!(stopped, Stopped::Clean);
}

#[tokio::test]
async fn listings_filter_and_page() {
    let service = Service::start().await;
    let (a, b) = (service.open("node-a", false).await, service.open("node-b", false).await);
    for (number, object) in ["2024/a", "2024/b", "2025/a"].iter().enumerate() {
        service.lock(&a, number as u64, object, 0).await;
    }
    service.lock(&b, 1, "2024/a", 1).await;
    let objects = |got: &crate::service::Got| -> Vec<String> {
        got.body["rows"].as_array().unwrap().iter().map(|row| row["object"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(objects(&service.get("/v1/locks").await), ["2024/a", "2024/b", "2025/a"]);
    assert_eq!(objects(&service.get("/v1/locks?bucket=b&prefix=2024/").await), ["2024/a", "2024/b"]);
    assert_eq!(objects(&service.get("/v1/locks?bucket=b&object=2025/a").await), ["2025/a"]);
    assert!(objects(&service.get("/v1/locks?bucket=c").await).is_empty());
    assert!(objects(&service.get("/v1/locks?owner=node-b").await).is_empty());
    assert!(objects(&service.get("/v1/locks?older_than_ms=3600000").await).is_empty());
    let waiters = service.get(&format!("/v1/waiters?session={b}")).await;
    assert_eq!((objects(&waiters), &waiters.body["rows"][0]["owner"]), (vec!["2024/a".into()], &json!("node-b")));
    let page = service.get("/v1/locks?limit=2").await;
    assert_eq!(objects(&page), ["2024/a", "2024/b"]);
    let after = page.text("next").replace('"', "%22").replace(' ', "").replace('[', "%5B").replace(']', "%5D");
    let rest = service.get(&format!("/v1/locks?limit=2&after={after}")).await;
    assert_eq!((objects(&rest), rest.body.get("next")), (vec!["2025/a".into()], None));
    service.stop().await;
}

#[tokio::test]
async fn metrics_and_health_have_the_figures() {
    let service = Service::start().await;
    let (a, b) = (service.open("a", false).await, service.open("b", false).await);
    service.lock(&a, 1, "x", 0).await;
    service.lock(&b, 1, "x", 1).await;
    let metrics = service.get("/metrics").await.body.as_str().unwrap().to_owned();
    for line in [
        "keylatch_acquisitions_total{path=\"free\"} 1\n",
        "keylatch_holders 1\n",
        "keylatch_waiters 1\n",
        "keylatch_sessions 2\n",
        "keylatch_wait_seconds_bucket{le=\"+Inf\"} 0\n",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    assert!(metrics.ends_with("# EOF\n"));
    let health = service.get("/healthz").await.body;
    assert_eq!((&health["status"], &health["holders"], &health["waiters"]), (&json!("ok"), &json!(1), &json!(1)));
    service.stop().await;
}

#[tokio::test]
async fn openapi_document_has_every_route() {
    let service = Service::start().await;
    let served = service.get("/openapi.json").await.body;
    let document = Document::committed();
    assert_eq!(served, document.0);
    let mut described: Vec<(String, String)> = Vec::new();
    for (path, operations) in served["paths"].as_object().unwrap() {
        described.extend(operations.as_object().unwrap().keys().map(|method| (method.clone(), path.clone())));
    }
    let mut routes: Vec<_> = ROUTES.iter().map(|(method, path)| ((*method).to_owned(), (*path).to_owned())).collect();
    described.sort();
    routes.sort();
    assert_eq!(described, routes);
    for (method, path) in ROUTES.iter().filter(|(_, path)| !path.ends_with("attach") && *path != "/v1/events") {
        let got = service.raw(&method.to_uppercase(), &path.replace("{session}", "0.0"), &[], b"").await;
        assert!(got.problem() != "no_such_path" && got.problem() != "no_such_method", "{method} {path}");
    }
    service.stop().await;
}
