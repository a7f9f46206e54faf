//! Claims over HTTP: one does the work, the others wait for its outcome.

use crate::service::{Folder, Got, PATIENCE, Service, next, settings, with_grace};
use keylatch_service::server::{Settings, Stopped};
use serde_json::{Value, json};
use std::time::Duration;

pub(crate) fn claim_body(session: &str, number: u64, object: &str, wait_ms: u64) -> Value {
    json!({
        "session": session, "request_id": number, "wait_ms": wait_ms,
        "resource": {"bucket": "layers", "object": object},
    })
}

impl Service {
    pub(crate) async fn claim(&self, session: &str, number: u64, object: &str, wait_ms: u64) -> Got {
        self.post("/v1/claim", claim_body(session, number, object, wait_ms)).await
    }

    pub(crate) async fn complete(&self, of: (&str, u64), grant: &str, result: (&str, &str)) -> Got {
        let mut body = json!({"session": of.0, "request_id": of.1, "grant": grant});
        body[result.0] = result.1.into();
        self.post("/v1/complete", body).await
    }

    /// Waits until this number of claims is in line, by its events and the list.
    pub(crate) async fn await_claims(&self, object: &str, waiting: u64) {
        loop {
            let rows = self.get(&format!("/v1/claims?bucket=layers&object={object}")).await.body["rows"].clone();
            if rows[0]["waiting"] == waiting {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
}

pub(crate) fn state(got: &Got) -> (u16, &str) {
    (got.status, got.body["state"].as_str().unwrap_or_default())
}

#[tokio::test]
async fn success_answers_all_who_wait_and_later_ones() {
    let service = Service::start().await;
    let (a, b, c) = (service.open("a", false).await, service.open("b", false).await, service.open("c", false).await);
    let mine = service.claim(&a, 1, "l", 0).await;
    assert_eq!(state(&mine), (200, "yours"), "{mine:?}");
    assert_eq!((&mine.body["attempt"], &mine.body["first_in_epoch"]), (&json!(1), &json!(true)));
    assert!(mine.body["valid_ms"].as_u64().unwrap() > 0);
    assert_eq!(service.claim(&a, 1, "l", 0).await.body["grant"], mine.body["grant"], "a repeated call");
    let waits = service.claim(&b, 1, "l", 30_000);
    let works = async {
        service.await_claims("l", 1).await;
        service.complete((&a, 1), &mine.text("grant"), ("note", "12 MiB")).await
    };
    let (done, ended) = tokio::time::timeout(PATIENCE, async { tokio::join!(waits, works) }).await.unwrap();
    assert_eq!((state(&ended), ended.text("note")), ((200, "ended"), "12 MiB".into()));
    assert_eq!(state(&done), (200, "done"));
    assert_eq!((&done.body["outcome"]["note"], &done.body["outcome"]["owner"]), (&json!("12 MiB"), &json!("a")));
    let later = service.claim(&c, 1, "l", 0).await;
    assert_eq!((state(&later), &later.body["outcome"]), ((200, "done"), &done.body["outcome"]));
    let again = service.complete((&a, 1), &mine.text("grant"), ("error", "late")).await;
    assert_eq!(again.body, ended.body, "what ended stays as it ended");
    let row = &service.get("/v1/claims").await.body["rows"][0];
    assert_eq!((&row["state"], &row["waiting"]), (&json!("done"), &json!(0)));
    service.stop().await;
}

/// The race of seed 003: A fails, B is first in line and asks again, C is behind.
///
/// Whether B's question or A's failure arrives first, B owns the work with one grant.
#[tokio::test]
async fn failure_hands_over_to_first_in_line() {
    let service = Service::start().await;
    let [a, b, c] = ["a", "b", "c"];
    let (a, b, c) = (service.open(a, false).await, service.open(b, false).await, service.open(c, false).await);
    for round in 0..60u64 {
        let object = format!("l{round}");
        let first = service.claim(&a, round + 1, &object, 0).await.text("grant");
        assert_eq!(state(&service.claim(&b, round + 1, &object, 0).await), (202, "waiting"));
        let behind = service.claim(&c, round + 1, &object, 0).await;
        assert_eq!((state(&behind), &behind.body["place"]), ((202, "waiting"), &json!(2)));
        // Both are on their way at a time, on connections of their own; a newcomer as well.
        let (failed, asked, newcomer) = tokio::join!(
            service.complete((&a, round + 1), &first, ("error", "disk full")),
            service.claim(&b, round + 1, &object, if round % 2 == 0 { 0 } else { 30_000 }),
            service.claim(&c, round + 1_000, &object, 0),
        );
        assert_eq!(state(&failed), (200, "ended"));
        assert_eq!(newcomer.body["state"], "waiting");
        let granted = service.claim(&b, round + 1, &object, 0).await;
        assert_eq!((state(&granted), &granted.body["attempt"]), ((200, "yours"), &json!(2)));
        match asked.body["state"].as_str() {
            Some("waiting") => {}
            _ => assert_eq!(asked.body["grant"], granted.body["grant"], "one request, one grant"),
        }
        assert_eq!(state(&service.claim(&c, round + 1, &object, 0).await), (202, "waiting"), "C stays behind");
        service.complete((&b, round + 1), &granted.text("grant"), ("note", "ok")).await;
        assert_eq!(state(&service.claim(&c, round + 1, &object, 0).await), (200, "done"));
    }
    service.stop().await;
}

#[tokio::test]
async fn forged_stale_and_foreign_numbers_are_refused() {
    let service = Service::start().await;
    let (a, b) = (service.open("a", false).await, service.open("b", false).await);
    let mine = service.claim(&a, 1, "l", 0).await.text("grant");
    let epoch = service.running.epoch();
    let forged = service.complete((&a, 1), &format!("{epoch}.999"), ("note", "x")).await;
    assert_eq!((forged.status, forged.problem(), &forged.body["code"]), (409, "other_grant", &json!(-6)));
    let unknown = service.complete((&b, 1), &mine, ("note", "x")).await;
    assert_eq!((unknown.status, unknown.problem()), (404, "not_held"));
    service.claim(&b, 1, "l", 0).await;
    let waiting = service.complete((&b, 1), &mine, ("note", "x")).await;
    assert_eq!((waiting.status, waiting.problem()), (409, "still_queued"));
    let other = service.claim(&a, 1, "other", 0).await;
    assert_eq!((other.status, other.problem(), &other.body["code"]), (409, "number_reused", &json!(-23)));
    assert_eq!(service.lock(&a, 1, "x", 0).await.problem(), "number_reused", "locks and claims share the numbers");
    service.lock(&a, 2, "x", 0).await;
    assert_eq!(service.claim(&a, 2, "l", 0).await.problem(), "number_reused");
    let mut settled = claim_body(&a, 9, "m", 0);
    settled["settled_below"] = json!(9);
    service.post("/v1/claim", settled).await;
    let stale = service.claim(&a, 1, "l", 0).await;
    assert_eq!((stale.problem(), &stale.body["code"]), ("stale_request", &json!(-22)));
    assert_eq!(state(&service.claim(&b, 1, "l", 0).await), (200, "yours"), "what was settled is given up");
    let old = service.claim(&format!("{}.1", epoch + 1), 1, "l", 0).await;
    assert_eq!((old.status, old.problem(), &old.body["code"]), (409, "epoch_changed", &json!(-21)));
    for wrong in [
        json!({"resource": {"bucket": "", "object": "x"}}),
        json!({"resource": {"bucket": "b", "object": "x"}, "max_attempts": 0}),
        json!({"resource": {"bucket": "b", "object": "x"}, "lease_ms": 0}),
        json!({"resource": {"bucket": "b", "object": "x".repeat(2_000)}}),
        json!({"resource": "b/x"}),
    ] {
        assert_eq!(service.post("/v1/claim", wrong.clone()).await.status, 400, "{wrong}");
    }
    for wrong in [json!({}), json!({"note": "x", "error": "y"}), json!({"note": "x".repeat(2_000)})] {
        let mut body = json!({"session": b, "request_id": 1, "grant": "1.1"});
        body.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
        assert_eq!(service.post("/v1/complete", body).await.status, 400, "{wrong}");
    }
    service.stop().await;
}

#[tokio::test]
async fn expired_lease_and_session_count_as_failures() {
    let service = Service::start().await;
    let (a, b) = (service.open("a", false).await, service.open("b", false).await);
    let mut leased = claim_body(&a, 1, "l", 0);
    leased["lease_ms"] = json!(50);
    let mine = service.post("/v1/claim", leased).await;
    assert!(mine.body["valid_ms"].as_u64().unwrap() <= 50);
    let next = service.claim(&b, 1, "l", 30_000).await;
    assert_eq!((state(&next), &next.body["attempt"]), ((200, "yours"), &json!(2)));
    let late = service.complete((&a, 1), &mine.text("grant"), ("note", "x")).await;
    assert_eq!((late.status, late.problem(), &late.body["reason"]), (409, "claim_lost", &json!("lease_expired")));
    // B's session ends: the work fails once more.
    let waits = service.claim(&a, 2, "l", 30_000);
    let ends = async {
        service.await_claims("l", 1).await;
        service.delete(&format!("/v1/sessions/{b}")).await
    };
    let (third, _) = tokio::join!(waits, ends);
    assert_eq!((state(&third), &third.body["attempt"]), ((200, "yours"), &json!(3)));
    assert_eq!(service.complete((&b, 1), &next.text("grant"), ("note", "x")).await.problem(), "session_gone");
    service.stop().await;
}

#[tokio::test]
async fn progress_is_listed_and_renews_the_lease() {
    let service = Service::start().await;
    let a = service.open("a", false).await;
    let mut leased = claim_body(&a, 1, "l", 0);
    leased["lease_ms"] = json!(20_000);
    let grant = service.post("/v1/claim", leased).await.text("grant");
    let report = |more: Value| {
        let mut body = json!({"session": a, "request_id": 1, "grant": grant});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        service.post("/v1/progress", body)
    };
    assert!(
        report(json!({"done": 5, "total": 10, "address": "http://n/1"})).await.body["valid_ms"].as_u64()
            <= Some(20_000)
    );
    let renewed = report(json!({"lease_ms": 25_000})).await;
    assert!(renewed.body["valid_ms"].as_u64().unwrap() > 20_000, "{renewed:?}");
    assert_eq!(report(json!({})).await.status, 400);
    let row = service.get("/v1/claims?owner=a").await.body["rows"][0].clone();
    assert_eq!(row["owned_by"]["progress"], json!({"done": 5, "total": 10, "address": "http://n/1"}));
    assert_eq!((&row["state"], &row["resource"]["object"]), (&json!("owned"), &json!("l")));
    assert_eq!(service.get("/v1/claims?owner=z").await.body["rows"], json!([]));
    service.stop().await;
}

#[tokio::test]
async fn policies_skip_supersede_limit_and_give_up() {
    let service = Service::start().await;
    let (a, b) = (service.open("a", false).await, service.open("b", false).await);
    let with = |session: &str, number: u64, object: &str, more: Value| {
        let mut body = claim_body(session, number, object, 0);
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        service.post("/v1/claim", body)
    };
    let mine = with(&a, 1, "l", json!({"max_attempts": 1})).await.text("grant");
    let skipped = with(&b, 1, "l", json!({"skip_if_claimed": true})).await;
    assert_eq!((state(&skipped), &skipped.body["owner"]), ((200, "skipped"), &json!("a")));
    assert_eq!(state(&with(&b, 2, "l", json!({})).await), (202, "waiting"));
    let full = with(&b, 3, "l", json!({"max_waiting": 1})).await;
    assert_eq!((full.status, full.problem(), &full.body["code"]), (409, "line_full", &json!(-13)));
    assert_eq!(state(&with(&b, 4, "l", json!({"latest_only": true})).await), (202, "waiting"));
    assert_eq!(state(&with(&b, 2, "l", json!({})).await), (200, "superseded"));
    service.complete((&a, 1), &mine, ("error", "broken")).await;
    let done = with(&b, 4, "l", json!({"latest_only": true})).await;
    assert_eq!((state(&done), &done.body["outcome"]["error"]), ((200, "done"), &json!("broken")));
    let mine = with(&a, 2, "m", json!({"retry_after_ms": 60_000})).await.text("grant");
    service.complete((&a, 2), &mine, ("error", "later")).await;
    assert_eq!(state(&with(&b, 5, "m", json!({})).await), (202, "waiting"), "the next attempt is held back");
    service.stop().await;
}

#[tokio::test]
async fn cancel_leaves_overtakes_and_hands_over() {
    let service = Service::start().await;
    let (a, b) = (service.open("a", false).await, service.open("b", false).await);
    let cancel =
        |session: &str, number: u64| service.post("/v1/cancel", json!({"session": session, "request_id": number}));
    let mine = service.claim(&a, 1, "l", 0).await;
    service.claim(&b, 1, "l", 0).await;
    let cancelled = cancel(&a, 1).await;
    assert_eq!((state(&cancelled), &cancelled.body["grant"]), ((200, "cancelled"), &mine.body["grant"]));
    assert_eq!(state(&service.claim(&b, 1, "l", 0).await), (200, "yours"));
    assert_eq!(service.claim(&a, 1, "l", 0).await.problem(), "cancelled");
    assert_eq!(state(&cancel(&a, 7).await), (200, "cancelled"));
    assert_eq!(service.claim(&a, 7, "m", 0).await.problem(), "cancelled", "the cancellation overtook it");
    assert_eq!(service.get("/healthz").await.body["claims"], 1);
    service.stop().await;
}

#[tokio::test]
async fn cut_waiter_is_passed_over_and_keeps_its_place() {
    let service = Service::with(with_grace(Duration::from_secs(60))).await;
    let a = service.open("a", false).await;
    let (b, stream) = service.attached("b").await;
    let c = service.open("c", false).await;
    let mine = service.claim(&a, 1, "l", 0).await.text("grant");
    service.claim(&b, 1, "l", 0).await;
    service.claim(&c, 1, "l", 0).await;
    drop(stream);
    let is_cut = async {
        while service.get("/v1/claims").await.body["rows"][0]["waiters"][0]["cut"] != json!(true) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, is_cut).await.expect("the listing shows the cut");
    service.complete((&a, 1), &mine, ("error", "x")).await;
    let second = service.claim(&c, 1, "l", 0).await;
    assert_eq!((state(&second), &second.body["attempt"]), ((200, "yours"), &json!(2)));
    // The stream is back: the place is the one in front, and the grant arrives without a question.
    let d = service.open("d", false).await;
    service.claim(&d, 1, "l", 0).await;
    let mut stream = service.attach(&b).await;
    service.complete((&c, 1), &second.text("grant"), ("error", "x")).await;
    let (word, claimed) = next(&mut stream).await;
    assert_eq!((word.as_str(), &claimed["state"], &claimed["attempt"]), ("claim", &json!("yours"), &json!(3)));
    crate::schema::Document::committed().check_named("Claimed", &claimed);
    let asked = service.claim(&b, 1, "l", 0).await;
    assert_eq!(asked.body["grant"], claimed["grant"]);
    service.stop().await;
}

#[tokio::test]
async fn renewal_answers_claims_and_heals_lost_cancels() {
    let service = Service::start().await;
    let (a, b) = (service.open("a", false).await, service.open("b", false).await);
    let mine = service.claim(&a, 1, "l", 0).await;
    service.claim(&a, 2, "m", 0).await;
    service.claim(&b, 1, "m", 0).await;
    let renewed = service.post("/v1/renew", json!({"session": a, "next": 3, "open": [1]})).await;
    assert_eq!(renewed.body["claims"][0]["grant"], mine.body["grant"]);
    assert_eq!(renewed.body["claims"].as_array().unwrap().len(), 1);
    assert_eq!(state(&service.claim(&b, 1, "m", 0).await), (200, "yours"), "number 2 was given up");
    service.stop().await;
}

#[tokio::test]
async fn implicit_session_claims_completes_and_repeats() {
    let service = Service::start().await;
    let body = json!({"resource": {"bucket": "layers", "object": "l"}, "owner": "curl", "ttl_ms": 60_000});
    let mine = service.post("/v1/claim", body.clone()).await;
    assert_eq!(state(&mine), (200, "yours"));
    let (session, grant) = (mine.text("session"), mine.text("grant"));
    let ended = service.complete((&session, 1), &grant, ("note", "n")).await;
    assert_eq!(ended.body, service.complete((&session, 1), &grant, ("note", "n")).await.body);
    assert_eq!(state(&service.post("/v1/claim", body).await), (200, "done"));
    service.stop().await;
}

#[tokio::test]
async fn force_release_of_a_claim_is_a_failure() {
    let service = Service::start().await;
    let (a, b) = (service.open("a", false).await, service.open("b", false).await);
    let mine = service.claim(&a, 1, "l", 0).await.text("grant");
    service.claim(&b, 1, "l", 0).await;
    let forced = service.post("/v1/force-release", json!({"kind": "claims", "object": "l"})).await;
    assert_eq!(forced.body["claims"][0]["owned_by"]["owner"], "a");
    let lost = service.complete((&a, 1), &mine, ("note", "x")).await;
    assert_eq!((lost.problem(), &lost.body["reason"]), ("claim_lost", &json!("force_released")));
    assert_eq!(state(&service.claim(&b, 1, "l", 0).await), (200, "yours"));
    let nothing = service.post("/v1/force-release", json!({"object": "l"})).await;
    assert_eq!((&nothing.body["released"], &nothing.body["claims"]), (&json!([]), &Value::Null), "it is no lock");
    service.stop().await;
}

#[tokio::test]
async fn restart_voids_claims_and_raises_fences() {
    let folder = Folder::new();
    let with_state =
        || Settings { state: Some(folder.path().join("state")), drain: Duration::from_millis(1), ..settings() };
    let service = Service::with(with_state()).await;
    let a = service.open("a", false).await;
    let mine = service.claim(&a, 1, "l", 0).await;
    assert_eq!(service.running.stop().await, Stopped::WithHolders, "claimed work counts as held");
    let service = Service::with(with_state()).await;
    assert_eq!(service.complete((&a, 1), &mine.text("grant"), ("note", "x")).await.problem(), "epoch_changed");
    let b = service.open("b", false).await;
    let waits = service.claim(&b, 1, "l", 0).await;
    assert_eq!(state(&waits), (202, "waiting"), "nothing is granted while a client may believe");
    let mut skips = claim_body(&b, 2, "l", 0);
    skips["skip_if_claimed"] = json!(true);
    assert_eq!(service.post("/v1/claim", skips).await.problem(), "quiet_period");
    service.stop().await;
}

#[tokio::test]
async fn clean_stop_waits_for_claimed_work() {
    let folder = Folder::new();
    let with_state = || Settings { state: Some(folder.path().join("state")), ..settings() };
    let service = Service::with(with_state()).await;
    let a = service.open("a", false).await;
    let mine = service.claim(&a, 1, "l", 0).await;
    let http = service.http.clone();
    let stop = tokio::spawn(service.running.stop());
    loop {
        let health = http.get::<Value>("/healthz").await;
        if health.is_err_and(|error| error.to_string().contains("503") || error.to_string().contains("document")) {
            break;
        }
        tokio::task::yield_now().await;
    }
    let refused = http.post::<Value>("/v1/claim", &claim_body(&a, 2, "m", 0)).await.unwrap_err();
    assert!(refused.is_problem("closing"), "{refused}");
    let body = json!({"session": a, "request_id": 1, "grant": mine.text("grant"), "note": "n"});
    assert_eq!(http.post::<Value>("/v1/complete", &body).await.unwrap()["state"], "ended");
    assert_eq!(tokio::time::timeout(PATIENCE, stop).await.unwrap().unwrap(), Stopped::Clean);
    let service = Service::with(with_state()).await;
    let b = service.open("b", false).await;
    let granted = service.claim(&b, 1, "l", 0).await;
    assert_eq!(state(&granted), (200, "yours"), "nothing was held");
    assert!(granted.body["fence"].as_u64() > mine.body["fence"].as_u64(), "fences grow across restarts");
    service.stop().await;
}

#[tokio::test]
async fn locks_and_claims_share_one_fence_sequence() {
    let service = Service::start().await;
    let a = service.open("a", false).await;
    let mut last = 0;
    for number in 1..20 {
        let got = if number % 2 == 0 {
            service.lock(&a, number, &format!("k{number}"), 0).await
        } else {
            service.claim(&a, number, &format!("k{number}"), 0).await
        };
        let fence = got.body["fence"].as_u64().unwrap();
        assert!(fence > last);
        last = fence;
    }
    service.stop().await;
}
