//! Events of a claimed resource: numbers without a gap, resumed after cuts, one reset where it must be.

use crate::http_claims::claim_body;
use crate::schema::Document;
use crate::service::{Folder, PATIENCE, Service, settings};
use keylatch_service::client::{EventStream, Http, ServerEvent};
use keylatch_service::machine::Limits;
use keylatch_service::server::Settings;
use serde_json::{Value, json};
use tokio::sync::watch;

const PATH: &str = "/v1/events?resource=layers/l";

fn with_ring(claim_events: usize) -> Settings {
    Settings { limits: Limits { claim_events, ..Limits::default() }, ..settings() }
}

async fn next(stream: &mut EventStream) -> ServerEvent {
    let event = tokio::time::timeout(PATIENCE, stream.next()).await.expect("an event in time");
    event.unwrap().expect("the stream goes on")
}

fn number_of(event: &ServerEvent, epoch: u64) -> u64 {
    let (of_epoch, number) = event.id.as_ref().expect("an id").split_once('-').unwrap();
    assert_eq!(of_epoch, epoch.to_string());
    number.parse().unwrap()
}

#[tokio::test]
async fn failure_is_published_after_the_next_owner() {
    let service = Service::start().await;
    let (document, epoch) = (Document::committed(), service.running.epoch());
    let (a, b) = (service.open("a", false).await, service.open("b", false).await);
    let mine = service.claim(&a, 1, "l", 0).await.text("grant");
    service.claim(&b, 1, "l", 0).await;
    let mut events = service.http.stream(PATH, None).await.unwrap();
    let reset = next(&mut events).await;
    let snapshot: Value = reset.json().unwrap();
    document.check_named("ClaimReset", &snapshot);
    assert_eq!((reset.event.as_str(), number_of(&reset, epoch)), ("reset", 1));
    assert_eq!((&snapshot["owned_by"]["owner"], &snapshot["waiting"]), (&json!("a"), &json!(1)));
    service.post("/v1/progress", json!({"session": a, "request_id": 1, "grant": mine, "done": 3, "total": 4})).await;
    service.complete((&a, 1), &mine, ("error", "disk full")).await;
    let second = service.claim(&b, 1, "l", 0).await;
    service.complete((&b, 1), &second.text("grant"), ("note", "n")).await;
    let mut seen = Vec::new();
    for number in 2..=5 {
        let event = next(&mut events).await;
        assert_eq!(number_of(&event, epoch), number);
        let data: Value = event.json().unwrap();
        document.check_named("ClaimEvent", &data);
        seen.push(data);
    }
    assert_eq!(seen[0]["progress"]["done"], 3);
    assert_eq!((&seen[1]["event"], &seen[1]["next"]["session"]), (&json!("failed"), &json!(b)));
    assert_eq!((&seen[1]["reason"], &seen[1]["error"]), (&json!("reported"), &json!("disk full")));
    assert_eq!((&seen[2]["event"], &seen[2]["grant"]), (&json!("granted"), &second.body["grant"]));
    assert_eq!((&seen[3]["event"], &seen[3]["outcome"]["note"]), (&json!("done"), &json!("n")));
    service.stop().await;
}

#[tokio::test]
async fn ids_that_cannot_be_resumed_get_one_reset() {
    let service = Service::with(with_ring(2)).await;
    let epoch = service.running.epoch();
    let a = service.open("a", false).await;
    let report = |done: u64, grant: String| {
        service.post("/v1/progress", json!({"session": a, "request_id": 1, "grant": grant, "done": done}))
    };
    let mine = service.claim(&a, 1, "l", 0).await.text("grant");
    for done in 1..5 {
        report(done, mine.clone()).await;
    }
    let kept = service.http.stream(PATH, Some(&format!("{epoch}-4"))).await;
    let event = next(&mut kept.unwrap()).await;
    assert_eq!((event.event.as_str(), number_of(&event, epoch)), ("progress", 5), "the ring has it");
    for (at, id) in
        [format!("{epoch}-1"), format!("{}-5", epoch + 1), format!("{epoch}-900"), "x".into()].iter().enumerate()
    {
        let mut events = service.http.stream(PATH, Some(id)).await.unwrap();
        let reset = next(&mut events).await;
        assert_eq!((reset.event.as_str(), number_of(&reset, epoch)), ("reset", 5 + at as u64), "{id}");
        report(10, mine.clone()).await;
        let after = next(&mut events).await;
        assert_eq!((after.event.as_str(), number_of(&after, epoch)), ("progress", 6 + at as u64), "{id}");
    }
    for wrong in ["/v1/events?resource=x", "/v1/events?resource=[1]", "/v1/events?resource=b/x&bucket=b"] {
        assert_eq!(service.get(wrong).await.status, 400, "{wrong}");
    }
    service.stop().await;
}

#[tokio::test]
async fn restart_gives_one_reset_of_the_new_epoch() {
    let folder = Folder::new();
    let with_state = || Settings { state: Some(folder.path().join("state")), ..settings() };
    let service = Service::with(with_state()).await;
    let a = service.open("a", false).await;
    let mine = service.claim(&a, 1, "l", 0).await.text("grant");
    service.complete((&a, 1), &mine, ("note", "n")).await;
    let id = format!("{}-2", service.running.epoch());
    service.running.stop().await;
    let service = Service::with(with_state()).await;
    let mut events = service.http.stream(PATH, Some(&id)).await.unwrap();
    let reset = next(&mut events).await;
    assert_eq!((reset.event.as_str(), number_of(&reset, service.running.epoch())), ("reset", 0));
    let a = service.open("a", false).await;
    service.claim(&a, 1, "l", 0).await;
    assert_eq!(next(&mut events).await.event, "granted");
    service.stop().await;
}

/// What a subscriber knows of the resource, from a reset and the events after it.
#[derive(Debug, Default)]
struct Replica {
    /// The fence of the present owner.
    owner: Option<u64>,
    last: Option<u64>,
    resets: u32,
}

impl Replica {
    fn apply(&mut self, event: &ServerEvent, epoch: u64) {
        let number = number_of(event, epoch);
        let data: Value = event.json().unwrap();
        if event.event == "reset" {
            self.resets += 1;
            self.owner = data["owned_by"]["fence"].as_u64();
            self.last = Some(number);
            return;
        }
        assert_eq!(Some(number), self.last.map(|last| last + 1), "lost or doubled: {event:?}");
        self.last = Some(number);
        match event.event.as_str() {
            "granted" => assert_eq!(self.owner.replace(data["fence"].as_u64().unwrap()), None, "{event:?}"),
            "failed" => assert_eq!(self.owner.take(), data["fence"].as_u64(), "{event:?}"),
            _ => {}
        }
    }
}

const STOP: u64 = u64::MAX;
/// Events that the producer is ahead of the reader, about.
const LEAD: u64 = 100;

/// Claims and fails in turn, some way ahead of the reader; says how far it is.
///
/// Ends with the work owned.
async fn produce(http: Http, session: String, (made, mut read): (watch::Sender<u64>, watch::Receiver<u64>)) -> u64 {
    let mut number = 0;
    loop {
        number += 1;
        let mut body = claim_body(&session, number, "l", 0);
        body["settled_below"] = json!(number);
        let mine: Value = http.post("/v1/claim", &body).await.unwrap();
        made.send_replace(2 * number - 1);
        if *read.wait_for(|read| 2 * number < read.saturating_add(LEAD)).await.unwrap() == STOP {
            return 2 * number - 1;
        }
        let body = json!({"session": session, "request_id": number, "grant": mine["grant"], "error": "again"});
        http.post::<Value>("/v1/complete", &body).await.unwrap();
        if number % 500 == 0 {
            http.post::<Value>("/v1/renew", &json!({"session": session})).await.unwrap();
        }
    }
}

/// Cuts streams at random places while the work changes hands.
///
/// Returns how many resets there were.
async fn cut_often(ring: usize, cuts: u32, seed: u64) -> u32 {
    let service = Service::with(with_ring(ring)).await;
    let epoch = service.running.epoch();
    let session = service.open("producer", false).await;
    let (read, reads) = watch::channel(0);
    let (made, mut makes) = watch::channel(0);
    let producer = tokio::spawn(produce(service.http.clone(), session, (made, reads)));
    let (mut replica, mut random, mut id) = (Replica::default(), seed, None::<String>);
    for _ in 0..cuts {
        let mut stream = service.http.stream(PATH, id.as_deref()).await.unwrap();
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // A few, or enough to pass the ends of what the server sends in one go.
        let events = if (random >> 50).is_multiple_of(64) { 2 * LEAD } else { (random >> 33) % 12 };
        for _ in 0..events {
            let event = next(&mut stream).await;
            replica.apply(&event, epoch);
            id = event.id;
            // Before the next: a producer that is as far ahead as it may be makes no event to wait for.
            read.send_replace(replica.last.unwrap_or(0));
        }
        let last = replica.last.unwrap_or(0);
        if (random >> 40).is_multiple_of(16) {
            // The ring moves on in the meantime, further than a small one reaches.
            makes.wait_for(|made| *made >= last + 24).await.unwrap();
        }
    }
    read.send_replace(STOP);
    let head = producer.await.unwrap();
    let mut stream = service.http.stream(PATH, id.as_deref()).await.unwrap();
    while replica.last < Some(head) {
        replica.apply(&next(&mut stream).await, epoch);
    }
    let row = service.get("/v1/claims").await.body["rows"][0].clone();
    assert_eq!((replica.last, replica.owner), (Some(head), row["owned_by"]["fence"].as_u64()), "seed {seed}");
    service.stop().await;
    replica.resets
}

#[tokio::test]
async fn thousand_cuts_lose_and_double_nothing() {
    assert_eq!(cut_often(1 << 20, 1_000, 1).await, 1, "the first stream has no id");
}

#[tokio::test]
async fn cuts_with_a_small_ring_reset_and_agree() {
    assert!(cut_often(8, 200, 2).await > 1, "a small ring is overrun");
}
