//! The checker itself: histories made by hand, good ones that it accepts and one for each promise that it finds broken.

use super::event::{By, Event, What};
use super::verdict::{AtRest, Promise, Violation, check};
use What::{Answered, Asking, Cancelling, Changed, Changing, GaveUp, Granted, InLine, Polled, Releasing};
use keylatch::{Fairness, Mode};
use std::time::Duration;

const W: Mode = Mode::Exclusive;
const R: Mode = Mode::Shared;
const AFTER: u64 = 1000;
const EVENTUAL: Fairness = Fairness::Eventual { after: Duration::from_nanos(AFTER) };

fn asking(mode: Mode, priority: u8, by: By) -> What {
    Asking { key: 0, mode, priority, by }
}

/// Requests of threads without priority.
fn ask(mode: Mode) -> What {
    asking(mode, 0, By::Thread)
}

fn granted(fence: u64) -> What {
    Granted { fence }
}

/// Numbered as they come, a microsecond apart.
fn history(events: &[(u64, What)]) -> Vec<Event> {
    (0_u64..)
        .zip(events)
        .map(|(number, (request, what))| Event { number, time: number * AFTER, request: *request, what: *what })
        .collect()
}

fn broken_under(fairness: Fairness, limit: usize, events: &[(u64, What)]) -> Vec<Violation> {
    check(&Promise { fairness, overtake_limit: limit, shards: 1 }, history(events), AtRest::default())
}

fn broken(events: &[(u64, What)]) -> Vec<Violation> {
    broken_under(Fairness::Fifo, 2, events)
}

#[test]
fn a_good_history_is_accepted() {
    let events = [
        (1, ask(W)),
        (1, granted(1)),
        (2, asking(R, 0, By::Task)),
        (2, InLine),
        (3, asking(W, 0, By::Callback)),
        (3, InLine),
        (1, Changing),
        (1, Changed { mode: R, fence: 1 }),
        (2, granted(1)),
        (1, Releasing),
        (2, Releasing),
        (3, Answered),
        (3, granted(2)),
        (3, Releasing),
        (4, ask(W)),
        (4, GaveUp),
    ];
    for fairness in [EVENTUAL, Fairness::Fifo, Fairness::WriterFirst, Fairness::ReaderFirst] {
        assert_eq!(broken_under(fairness, 1, &events), []);
    }
}

#[test]
fn two_writers_together() {
    let found = broken(&[(1, ask(W)), (2, ask(W)), (1, granted(1)), (2, granted(2)), (1, Releasing), (2, Releasing)]);
    assert!(matches!(found[..], [Violation::Together { .. }]), "{found:?}");
}

#[test]
fn reader_with_writer_in_either_order() {
    for (first, second) in [(R, W), (W, R)] {
        let events =
            [(1, ask(first)), (1, granted(1)), (2, ask(second)), (2, granted(2)), (1, Releasing), (2, Releasing)];
        let found = broken(&events);
        assert!(matches!(found[..], [Violation::Together { .. }]), "{found:?}");
    }
}

#[test]
fn writer_beside_the_longer_of_two_readers() {
    let events = [
        (1, ask(R)),
        (1, granted(0)),
        (2, ask(R)),
        (2, granted(0)),
        (2, Releasing),
        (3, ask(W)),
        (3, granted(1)),
        (3, Releasing),
        (1, Releasing),
    ];
    let found = broken(&events);
    assert!(matches!(&found[..], [Violation::Together { first, .. }] if first.request == 1), "{found:?}");
}

#[test]
fn reader_beside_failed_downgrade() {
    let events = [
        (1, ask(R)),
        (1, granted(0)),
        (2, ask(R)),
        (2, granted(0)),
        (1, Changing),
        (1, Changed { mode: W, fence: 1 }),
        (1, Releasing),
        (2, Releasing),
    ];
    let found = broken(&events);
    assert!(matches!(found[..], [Violation::Together { .. }]), "{found:?}");
}

#[test]
fn a_fence_that_stands_or_falls() {
    for fence in [7, 6] {
        let events = [(1, ask(W)), (1, granted(7)), (1, Releasing), (2, ask(W)), (2, granted(fence)), (2, Releasing)];
        let found = broken(&events);
        assert!(matches!(found[..], [Violation::FenceStands { .. }]), "{found:?}");
    }
}

#[test]
fn a_hold_without_end() {
    let found = broken(&[(1, ask(W)), (1, granted(1))]);
    assert!(matches!(found[..], [Violation::StillHeld { .. }]), "{found:?}");
}

#[test]
fn a_request_without_a_result() {
    assert_eq!(broken(&[(1, ask(W))]), [Violation::NoResult { request: 1 }]);
}

#[test]
fn a_request_with_two_results() {
    let found = broken(&[(1, ask(W)), (1, granted(1)), (1, Releasing), (1, GaveUp)]);
    assert!(matches!(found[..], [Violation::Nonsense { event }] if event.what == GaveUp), "{found:?}");
    let found = broken(&[(1, ask(W)), (1, GaveUp), (1, granted(1))]);
    assert!(matches!(found[..], [Violation::Nonsense { .. }]), "{found:?}");
}

#[test]
fn answers_that_come_twice_or_never_or_unasked() {
    for by in [By::Callback, By::Queue] {
        let asked = [(1, asking(W, 0, by)), (1, InLine)];
        let answered = [(1, Answered), (1, granted(1)), (1, Releasing)];
        let twice = [&asked[..], &answered[..], &[(1, Answered)]].concat();
        assert_eq!(broken(&twice), [Violation::Answers { request: 1, count: 2 }]);
        let never = [&asked[..], &answered[1..]].concat();
        assert_eq!(broken(&never), [Violation::Answers { request: 1, count: 0 }]);
        let unasked = [&asked[..1], &answered[..]].concat();
        assert_eq!(broken(&unasked), [Violation::Answers { request: 1, count: 1 }]);
    }
}

/// One waits at a held lock, others come and get it one by one, and it is last.
fn overtaking(waiting: (Mode, u8), overtakers: &[(Mode, u8)]) -> Vec<(u64, What)> {
    let mut events = vec![(0, ask(W)), (0, granted(1)), (1, asking(waiting.0, waiting.1, By::Task)), (1, InLine)];
    let later = 2..2 + overtakers.len() as u64;
    events.extend(
        later
            .clone()
            .zip(overtakers)
            .map(|(request, (mode, priority))| (request, asking(*mode, *priority, By::Thread))),
    );
    events.push((0, Releasing));
    events.extend(later.flat_map(|request| [(request, granted(request)), (request, Releasing)]));
    events.extend([(1, granted(99)), (1, Releasing)]);
    events
}

#[test]
fn overtaking_by_equals_and_by_lower_ones() {
    for (fairness, waiting, by) in [
        (Fairness::Fifo, (W, 0), (W, 0)),
        (Fairness::Fifo, (R, 0), (W, 0)),
        (Fairness::Fifo, (W, 0), (R, 0)),
        (Fairness::Fifo, (W, 5), (W, 4)),
        (Fairness::WriterFirst, (W, 0), (R, 0)),
        (Fairness::WriterFirst, (W, 0), (W, 0)),
        (Fairness::WriterFirst, (R, 5), (W, 0)),
        (Fairness::ReaderFirst, (R, 0), (W, 0)),
        (Fairness::ReaderFirst, (W, 0), (W, 0)),
        (Fairness::ReaderFirst, (W, 5), (R, 0)),
    ] {
        let found = broken_under(fairness, 2, &overtaking(waiting, &[by]));
        assert_eq!(found, [Violation::Overtaken { request: 1, by: 2 }], "{fairness:?}");
    }
}

#[test]
fn overtaking_within_the_bound_and_beyond_it() {
    for (fairness, waiting, by) in [
        (Fairness::Fifo, (W, 0), (W, 1)),
        (Fairness::WriterFirst, (R, 0), (W, 0)),
        (Fairness::ReaderFirst, (W, 0), (R, 0)),
    ] {
        assert_eq!(broken_under(fairness, 2, &overtaking(waiting, &[by; 2])), []);
        let found = broken_under(fairness, 2, &overtaking(waiting, &[by; 3]));
        assert_eq!(found, [Violation::OvertakenTooOften { request: 1, times: 3, most: 2 }]);
    }
}

#[test]
fn overtaking_one_that_gives_up_in_the_end() {
    let mut events = overtaking((W, 0), &[(W, 0)]);
    events.truncate(events.len() - 2);
    let cancelled = [&events[..], &[(1, Cancelling), (1, GaveUp)]].concat();
    assert_eq!(broken(&cancelled), [Violation::Overtaken { request: 1, by: 2 }]);
    // One whose time was over may have been out of the line for long when it says so.
    let timed_out = [&events[..], &[(1, GaveUp)]].concat();
    assert_eq!(broken(&timed_out), []);
}

/// One waits, is polled at the given times, and is overtaken by a newcomer.
///
/// Another is refused between the polls, 3 µs after it came.
fn eventual(polled_after: [u64; 2], another_in_line: bool) -> Vec<(u64, What)> {
    let [early, late] = polled_after.map(|after| (1, Polled { began_at: 3 * AFTER + after }));
    let mut events = vec![(0, ask(W)), (0, granted(1)), (1, asking(W, 0, By::Task)), (1, InLine), early];
    events.extend([(4, asking(W, 0, By::Try)), (4, GaveUp), late]);
    let newcomer = [(0, Releasing), (2, asking(W, 0, By::Try)), (2, granted(2)), (2, Releasing)];
    if another_in_line {
        events.push((3, ask(W)));
        events.extend(newcomer);
        events.push((3, GaveUp));
    } else {
        events.extend(newcomer);
    }
    events.extend([(1, granted(3)), (1, Releasing)]);
    events
}

#[test]
fn overtaking_a_settled_waiter() {
    let overtaken = [Violation::Overtaken { request: 1, by: 2 }];
    assert_eq!(broken_under(EVENTUAL, 0, &eventual([AFTER, 3 * AFTER], false)), overtaken);
    assert_eq!(broken_under(EVENTUAL, 0, &eventual([AFTER - 1, AFTER - 1], false)), []);
    // A release that is under way may have looked at the clock before.
    assert_eq!(broken_under(EVENTUAL, 0, &eventual([AFTER, 2 * AFTER], false)), []);
    // Another one in line may be on its way to try, and until it has, the lock is free for all.
    assert_eq!(broken_under(EVENTUAL, 0, &eventual([AFTER, 3 * AFTER], true)), []);
}

#[test]
fn something_left_in_the_table() {
    let promise = Promise { fairness: Fairness::Fifo, overtake_limit: 0, shards: 2 };
    let warm = AtRest { entries: 8, ..AtRest::default() };
    assert_eq!(check(&promise, Vec::new(), warm), []);
    for at_rest in [
        AtRest { holders: 1, ..warm },
        AtRest { waiters: 1, ..warm },
        AtRest { unreleased: 1, ..warm },
        AtRest { entries: 9, ..warm },
    ] {
        assert_eq!(check(&promise, Vec::new(), at_rest), [Violation::LeftBehind { at_rest }]);
    }
}

#[test]
fn keys_have_nothing_to_do_with_each_other() {
    let other = Asking { key: 1, mode: W, priority: 0, by: By::Thread };
    let events = [(1, ask(W)), (1, granted(5)), (2, other), (2, granted(1)), (2, Releasing), (1, Releasing)];
    assert_eq!(broken(&events), []);
}
