//! The stream of events: numbers without a gap, resumed after cuts, reset where it must be.

use crate::schema::Document;
use crate::service::{Folder, PATIENCE, Service, settings};
use keylatch_service::client::{EventStream, Http, ServerEvent};
use keylatch_service::machine::Limits;
use keylatch_service::server::Settings;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tokio::sync::watch;

fn with_ring(events: usize) -> Settings {
    Settings { limits: Limits { events, ..Limits::default() }, ..settings() }
}

async fn next(stream: &mut EventStream) -> ServerEvent {
    let event = tokio::time::timeout(PATIENCE, stream.next()).await.expect("an event in time");
    event.unwrap().expect("the stream goes on")
}

/// Returns an event's number; its epoch has to be the server's.
fn number_of(event: &ServerEvent, epoch: u64) -> u64 {
    let id = event.id.as_ref().expect("an id");
    let (of_epoch, number) = id.split_once('-').unwrap();
    assert_eq!(of_epoch, epoch.to_string());
    number.parse().unwrap()
}

#[tokio::test]
async fn first_event_is_a_reset_then_numbers_follow() {
    let service = Service::start().await;
    let document = Document::committed();
    let epoch = service.running.epoch();
    let session = service.open("a", false).await;
    service.lock(&session, 1, "x", 0).await;
    let mut events = service.http.stream("/v1/events", None).await.unwrap();
    let reset = next(&mut events).await;
    assert_eq!((reset.event.as_str(), number_of(&reset, epoch)), ("reset", 1));
    let snapshot: Value = reset.json().unwrap();
    document.check_named("Reset", &snapshot);
    assert_eq!(snapshot["locks"][0]["object"], "x");
    service.unlock(&session, 1).await;
    service.lock(&session, 2, "y", 0).await;
    for (number, word) in [(2, "released"), (3, "granted")] {
        let event = next(&mut events).await;
        assert_eq!((event.event.as_str(), number_of(&event, epoch)), (word, number));
        document.check_named("Event", &event.json().unwrap());
    }
    service.stop().await;
}

#[tokio::test]
async fn resumed_stream_goes_on_without_a_reset() {
    let service = Service::start().await;
    let epoch = service.running.epoch();
    let session = service.open("a", false).await;
    for number in 1..=3 {
        service.lock(&session, number, &format!("x{number}"), 0).await;
    }
    let mut events = service.http.stream("/v1/events", Some(&format!("{epoch}-1"))).await.unwrap();
    assert_eq!([number_of(&next(&mut events).await, epoch), number_of(&next(&mut events).await, epoch)], [2, 3]);
    let path = format!("/v1/events?last_event_id={epoch}-2");
    let mut events = service.http.stream(&path, None).await.unwrap();
    assert_eq!(number_of(&next(&mut events).await, epoch), 3);
    service.stop().await;
}

#[tokio::test]
async fn ids_that_cannot_be_resumed_get_one_reset() {
    let service = Service::with(with_ring(4)).await;
    let epoch = service.running.epoch();
    let session = service.open("a", false).await;
    for number in 1..=6 {
        service.lock(&session, number, &format!("x{number}"), 0).await;
    }
    let ids = [format!("{epoch}-1"), format!("{}-6", epoch + 1), format!("{epoch}-1000"), "x".into(), "-".into()];
    for (at, id) in ids.iter().enumerate() {
        let mut events = service.http.stream("/v1/events", Some(id)).await.unwrap();
        let reset = next(&mut events).await;
        assert_eq!((reset.event.as_str(), number_of(&reset, epoch)), ("reset", 6 + at as u64), "{id}");
        service.lock(&session, 10 + at as u64, &format!("y{at}"), 0).await;
        let after = next(&mut events).await;
        assert_eq!((after.event.as_str(), number_of(&after, epoch)), ("granted", 7 + at as u64), "{id}");
    }
    service.stop().await;
}

#[tokio::test]
async fn filtered_stream_resumes_though_others_overran() {
    let service = Service::with(with_ring(2_000)).await;
    let session = service.open("a", false).await;
    let mut events = service.http.stream("/v1/events?bucket=b&prefix=mine/", None).await.unwrap();
    assert_eq!(next(&mut events).await.event, "reset");
    for number in 1..=1_500 {
        let path = format!("other/{number}");
        service.http.post::<Value>("/v1/lock", &crate::service::lock_body(&session, number, &path, 0)).await.unwrap();
        let settled = json!({"session": session, "request_id": number, "settled_below": number});
        service.http.post::<Value>("/v1/unlock", &settled).await.unwrap();
    }
    service.lock(&session, 2_000, "mine/1", 0).await;
    let event = next(&mut events).await;
    assert_eq!(event.json::<Value>().unwrap()["items"][0]["object"], "mine/1");
    service.unlock(&session, 2_000).await;
    let mut resumed = service.http.stream("/v1/events?bucket=b&prefix=mine/", events.last_id()).await.unwrap();
    assert_eq!(next(&mut resumed).await.event, "released");
    service.stop().await;
}

#[tokio::test]
async fn restart_gives_one_reset_of_the_new_epoch() {
    let folder = Folder::new();
    let with_state = || Settings { state: Some(folder.path().join("state")), ..settings() };
    let service = Service::with(with_state()).await;
    let session = service.open("a", false).await;
    service.lock(&session, 1, "x", 0).await;
    service.unlock(&session, 1).await;
    let id = format!("{}-2", service.running.epoch());
    service.running.stop().await;
    let service = Service::with(with_state()).await;
    let mut events = service.http.stream("/v1/events", Some(&id)).await.unwrap();
    let reset = next(&mut events).await;
    assert_eq!((reset.event.as_str(), number_of(&reset, service.running.epoch())), ("reset", 0));
    let session = service.open("a", false).await;
    service.lock(&session, 1, "y", 0).await;
    assert_eq!(next(&mut events).await.event, "granted");
    service.stop().await;
}

/// What a subscriber knows of held requests, from a reset and the events after it.
#[derive(Debug, Default)]
struct Replica {
    held: BTreeSet<(String, u64)>,
    last: Option<u64>,
    resets: u32,
}

impl Replica {
    fn apply(&mut self, event: &ServerEvent, epoch: u64) {
        let number = number_of(event, epoch);
        let data: Value = event.json().unwrap();
        if event.event == "reset" {
            self.resets += 1;
            self.held = data["locks"].as_array().unwrap().iter().map(named).collect();
            self.last = Some(number);
            return;
        }
        assert_eq!(Some(number), self.last.map(|last| last + 1), "lost or doubled: {event:?}");
        self.last = Some(number);
        match event.event.as_str() {
            "granted" => assert!(self.held.insert(named(&data)), "granted twice: {event:?}"),
            "released" | "lost" => assert!(self.held.remove(&named(&data)), "never granted: {event:?}"),
            _ => {}
        }
    }
}

fn named(row: &Value) -> (String, u64) {
    (row["session"].as_str().unwrap().to_owned(), row["request_id"].as_u64().unwrap())
}

/// In place of a number that was read: the producer ends.
const STOP: u64 = u64::MAX;
/// Events that the producer is ahead of the reader, about.
const LEAD: u64 = 200;

/// Events by which the ring has moved on for certain where a test waits for that.
const MOVED: u64 = 24;

/// Locks and unlocks, some way ahead of the reader; returns how often.
///
/// It says so on the way, too.
async fn produce(http: Http, session: String, (made, mut read): (watch::Sender<u64>, watch::Receiver<u64>)) -> u64 {
    let mut number = 0;
    while *read.wait_for(|read| 2 * number < read.saturating_add(LEAD)).await.unwrap() != STOP {
        number += 1;
        // Three are held at a time, of seven: each step grants one and releases one.
        let body = crate::service::lock_body(&session, number, &format!("o{}", number % 7), 0);
        http.post::<Value>("/v1/lock", &body).await.unwrap();
        if let Some(earlier) = number.checked_sub(3).filter(|earlier| *earlier > 0) {
            let body = json!({"session": session, "request_id": earlier, "settled_below": earlier});
            http.post::<Value>("/v1/unlock", &body).await.unwrap();
        }
        made.send_replace(2 * number);
        if number % 500 == 0 {
            http.post::<Value>("/v1/renew", &json!({"session": session})).await.unwrap();
        }
    }
    number
}

/// Cuts streams at random places while locks come and go.
///
/// Returns how many resets there were.
async fn cut_often(ring: usize, cuts: u32, seed: u64) -> u32 {
    let service = Service::with(with_ring(ring)).await;
    let epoch = service.running.epoch();
    let session = service.open("producer", false).await;
    let (read, reads) = watch::channel(0);
    let (made, mut makes) = watch::channel(0);
    let producer = tokio::spawn(produce(service.http.clone(), session, (made, reads)));
    let mut replica = Replica::default();
    let mut random = seed;
    let mut id: Option<String> = None;
    for _ in 0..cuts {
        let mut stream = service.http.stream("/v1/events", id.as_deref()).await.unwrap();
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
        if (random >> 40).is_multiple_of(16) {
            // The ring moves on in the meantime, further than a small one reaches.
            let last = replica.last.unwrap_or(0);
            makes.wait_for(|made| *made >= last + MOVED).await.unwrap();
        }
    }
    read.send_replace(STOP);
    assert!(producer.await.unwrap() > 0);
    let head = service
        .get("/metrics")
        .await
        .body
        .as_str()
        .unwrap()
        .lines()
        .find_map(|line| line.strip_prefix("keylatch_events_total ").map(|events| events.parse::<u64>().unwrap()));
    let mut stream = service.http.stream("/v1/events", id.as_deref()).await.unwrap();
    while replica.last < head {
        replica.apply(&next(&mut stream).await, epoch);
    }
    let held = service.get("/v1/locks").await.body["rows"].as_array().unwrap().iter().map(named).collect();
    assert_eq!(replica.held, held, "the replica is the server's state; seed {seed}");
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
