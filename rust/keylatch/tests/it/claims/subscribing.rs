//! Events: numbered without gaps, one reset when they are not kept.

use super::fixture::*;
use keylatch::KeyRef;
use keylatch::claim::*;

fn small_ring() -> ClaimBoard {
    let config = ClaimConfig { ring: 2, retain_count: 1, ..ClaimConfig::default() };
    ClaimBoard::new(config, ClaimStart::default()).unwrap()
}

#[test]
fn feed_is_gap_free_while_the_ring_reaches() {
    let mut board = small_ring();
    let a = open(&mut board, "a");
    let ClaimFeed::Reset { id, snapshot } = board.feed(layer(), None) else { panic!("no number was given") };
    assert!(snapshot.owner.is_none());
    let mine = owned(&ask(&mut board, a, 1));
    board.complete(T0, call(a, 1), mine.grant, Ok("".into())).unwrap();
    let ClaimFeed::Events(events) = board.feed(layer(), Some(id)) else { panic!("two events are kept") };
    let numbers: Vec<u64> = events.iter().map(|event| event.id.sequence).collect();
    assert_eq!(numbers, [1, 2]);
    assert!(matches!(events[1].change, ClaimChange::Done { .. }));
    assert_eq!(board.feed(layer(), Some(events[1].id)), ClaimFeed::Events(vec![]));
}

#[test]
fn overrun_gives_one_reset_with_the_snapshot() {
    let mut board = small_ring();
    let a = open(&mut board, "a");
    let mine = owned(&ask(&mut board, a, 1));
    let seen = ClaimEventId { epoch: 1, sequence: 1 };
    for done in 1..=3 {
        let progress = ClaimProgress { done, total: 3, address: "http://a/".into() };
        board.progress(T0, call(a, 1), mine.grant, progress).unwrap();
    }
    let ClaimFeed::Reset { id, snapshot } = board.feed(layer(), Some(seen)) else { panic!("event 2 is not kept") };
    assert_eq!(id, ClaimEventId { epoch: 1, sequence: 4 });
    assert_eq!(snapshot.owner.as_ref().unwrap().progress.done, 3);
    assert_eq!(board.feed(layer(), Some(id)), ClaimFeed::Events(vec![]));
}

#[test]
fn event_number_of_another_epoch_gives_a_reset() {
    let board = small_ring();
    let old = ClaimEventId { epoch: 7, sequence: 0 };
    assert!(matches!(board.feed(layer(), Some(old)), ClaimFeed::Reset { .. }));
    let ahead = ClaimEventId { epoch: 1, sequence: 99 };
    assert!(matches!(board.feed(layer(), Some(ahead)), ClaimFeed::Reset { .. }));
}

#[test]
fn forgotten_resource_never_repeats_a_number() {
    let mut board = small_ring();
    let a = open(&mut board, "a");
    let mut seen = Vec::new();
    for number in 1..=9 {
        // Two resources push each other out.
        let key = if number % 2 == 0 { layer() } else { KeyRef::new("layers", "other") };
        let before = board.feed(key, None);
        let ClaimFeed::Reset { id, .. } = before else { panic!("no number was given") };
        let mine = owned(&board.claim(T0, call(a, number), key, &policy()).unwrap());
        board.complete(T0, call(a, number), mine.grant, Ok("".into())).unwrap();
        board.forget(T0, key);
        if let Some(last) = seen.iter().rev().nth(1) {
            assert!(matches!(board.feed(key, Some(*last)), ClaimFeed::Reset { .. }), "{last} of {number}");
        }
        seen.push(ClaimEventId { sequence: id.sequence + 3, ..id });
    }
}

#[test]
fn watched_resource_is_not_forgotten() {
    let mut board = small_ring();
    let a = open(&mut board, "a");
    board.watch(layer());
    let ClaimFeed::Reset { id, .. } = board.feed(layer(), None) else { panic!("no number was given") };
    for number in 1..=5_u64 {
        let name = number.to_string();
        board.cancel(T0, call(a, number)).unwrap();
        board.claim(T0, call(a, 10 + number), KeyRef::new("layers", &name), &policy()).unwrap();
        board.cancel(T0, call(a, 10 + number)).unwrap();
    }
    assert_eq!(board.feed(layer(), Some(id)), ClaimFeed::Events(vec![]));
    board.unwatch(layer());
    assert_eq!(board.figures().resources, 1);
}
