//! Orders of locks that could become a deadlock are reported before they do, once each, and nothing else is.

use crate::steps::{ByHand, with};
use keylatch::{
    BatchLockRequest, BatchMode, Event, EventOptions, Fairness, FastObjectLockManager, Filter, LockConfig,
    LockOrderReport, LockRequest, Mode, OwnedLockGuard, Reentrancy, Session,
};
use proptest::prelude::*;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

const READ: Mode = Mode::Shared;
const WRITE: Mode = Mode::Exclusive;
const KEYS: [&str; 8] = ["0", "1", "2", "3", "4", "5", "6", "7"];

fn linted() -> FastObjectLockManager {
    with(LockConfig { shards: 4, lock_order_lint: true, deadlock_delay: None, ..LockConfig::default() })
}

fn ask<'s>(key: &'s str, mode: Mode, session: &'s Session) -> LockRequest<'s> {
    LockRequest::new(("b", key), mode).owner(session)
}

/// Takes a free lock, as a caller who would wait for it.
#[track_caller]
fn take(locks: &FastObjectLockManager, key: &str, mode: Mode, session: &Session) -> OwnedLockGuard {
    locks.lock(ask(key, mode, session)).blocking().expect("it is free").into_owned()
}

/// Takes some locks one after the other, and releases them.
#[track_caller]
fn take_in_order(locks: &FastObjectLockManager, session: &Session, keys: &[(&str, Mode)]) {
    let _all: Vec<_> = keys.iter().map(|(key, mode)| take(locks, key, *mode, session)).collect();
}

fn reported(locks: &FastObjectLockManager) -> u64 {
    locks.lock_order_reports().reported
}

/// The keys of a report, first the one held by the session that closed the circle.
fn held(report: &LockOrderReport) -> Vec<String> {
    report.links.iter().map(|link| String::from_utf8_lossy(link.held.object()).into_owned()).collect()
}

#[test]
fn contradicting_orders_are_reported_once() {
    let locks = linted();
    let events = locks.subscribe(EventOptions::default());
    let (one, two) = (locks.session_with_source("one", "upload"), locks.session("two"));
    take_in_order(&locks, &one, &[("x", WRITE), ("y", READ)]);
    assert_eq!(locks.lock_order_reports().orders, 1);
    let before = locks.get_metrics().uptime;
    take_in_order(&locks, &two, &[("y", WRITE), ("x", READ)]);

    let found = locks.lock_order_reports();
    let [report] = &found.reports[..] else { panic!("{found:?}") };
    assert_eq!((found.reported, found.orders, found.forgotten), (1, 2, 0));
    let [now, then] = &report.links[..] else { panic!("{report:?}") };
    assert_eq!((&*now.session, now.source, now.held_mode, now.wanted_mode), ("two", "", WRITE, READ));
    assert_eq!((&*then.session, then.source, then.held_mode, then.wanted_mode), ("one", "upload", WRITE, READ));
    assert_eq!((now.held.object(), now.wanted.object()), (&b"y"[..], &b"x"[..]));
    assert_eq!((then.held.object(), then.wanted.object()), (&b"x"[..], &b"y"[..]));
    assert!(then.at <= before && before <= now.at && now.at == report.at);
    assert_eq!(events.try_next(), Some(Event::LockOrder(report.clone())));
    let said = report.to_string();
    assert!(
        said.contains(r#"two held "b"/"y" (exclusive) and asked for "b"/"x" (shared); one of upload held "b"/"x""#),
        "{said}"
    );

    // Nothing new the second time, in whatever modes and by whomever.
    for keys in [[("x", WRITE), ("y", WRITE)], [("y", WRITE), ("x", WRITE)]] {
        take_in_order(&locks, &locks.session("three"), &keys);
    }
    assert_eq!((reported(&locks), events.try_next()), (1, None));
    assert_eq!(locks.get_metrics().shard_metrics.waits, 0, "no session ever waited");
}

#[test]
fn longer_circles_are_reported_when_closed() {
    for length in 3..=8 {
        let locks = linted();
        let mut orders: Vec<usize> = (0..length).collect();
        orders.rotate_left(length / 2);
        for (seen, from) in orders.iter().enumerate() {
            assert_eq!(reported(&locks), 0);
            let (from, to) = (KEYS[*from], KEYS[(from + 1) % length]);
            take_in_order(&locks, &locks.session(&format!("txn-{seen}")), &[(from, WRITE), (to, WRITE)]);
        }
        let found = locks.lock_order_reports();
        assert_eq!((found.reported, found.orders), (1, length));
        let expected: Vec<_> = orders.iter().map(|from| KEYS[*from]).collect::<Vec<_>>().repeat(2);
        assert_eq!(held(&found.reports[0]), expected[length - 1..2 * length - 1], "the last one first");
    }
}

#[test]
fn each_two_of_three_held_make_an_order() {
    let locks = linted();
    take_in_order(&locks, &locks.session("a"), &[("0", WRITE), ("1", WRITE), ("2", WRITE)]);
    assert_eq!(locks.lock_order_reports().orders, 3);
    take_in_order(&locks, &locks.session("b"), &[("2", WRITE), ("0", WRITE)]);
    let found = locks.lock_order_reports();
    assert_eq!(held(&found.reports[0]), ["2", "0"], "the short way round, not that by 1");
}

#[test]
fn what_was_released_or_taken_away_is_not_held() {
    let locks = linted();
    take_in_order(&locks, &locks.session("a"), &[("0", WRITE), ("1", WRITE)]);
    let b = locks.session("b");
    drop(take(&locks, "1", WRITE, &b));
    drop(take(&locks, "0", WRITE, &b));
    let lost = take(&locks, "1", WRITE, &b);
    assert_eq!(locks.force_release(&Filter::new().owner("b")).len(), 1);
    drop(take(&locks, "0", WRITE, &b));
    drop(lost);
    let number = locks.lock(ask("1", WRITE, &b)).grant_blocking().unwrap();
    locks.release(number).unwrap();
    drop(take(&locks, "0", WRITE, &b));
    assert_eq!(reported(&locks), 0);
    let number = locks.lock(ask("1", WRITE, &b)).grant_blocking().unwrap();
    drop(take(&locks, "0", WRITE, &b));
    assert_eq!(reported(&locks), 1);
    locks.release(number).unwrap();
}

#[test]
fn try_makes_no_order_but_its_hold_does() {
    let locks = linted();
    let (a, b) = (locks.session("a"), locks.session("b"));
    take_in_order(&locks, &a, &[("0", WRITE), ("1", WRITE)]);
    let one = locks.lock(ask("1", WRITE, &b)).try_now().unwrap();
    drop(locks.lock(ask("0", WRITE, &b)).try_now().unwrap());
    drop(locks.lock(ask("0", WRITE, &b).timeout(Duration::ZERO)).blocking().unwrap());
    assert_eq!(reported(&locks), 0);
    drop(locks.lock(ask("0", WRITE, &b).timeout(Duration::from_secs(1))).blocking().unwrap());
    assert_eq!(reported(&locks), 1);
    drop(one);
}

#[test]
fn every_kind_of_wait_makes_an_order() {
    let locks = linted();
    let queue = locks.completion_queue().unwrap();
    take_in_order(&locks, &locks.session("a"), &[("0", WRITE), ("1", WRITE)]);
    take_in_order(&locks, &locks.session("a"), &[("2", WRITE), ("3", WRITE)]);
    take_in_order(&locks, &locks.session("a"), &[("4", WRITE), ("5", WRITE)]);
    let (b, c, d) = (locks.session("b"), locks.session("c"), locks.session("d"));
    let in_the_way = ["1", "3", "5"].map(|key| locks.acquire_write_lock_blocking("b", key, "label").unwrap());
    let mut future = ByHand::waiting(locks.lock(ask("1", WRITE, &b)));
    assert!(locks.lock(ask("3", WRITE, &c)).with_queue(&queue, 3).unwrap().ticket().is_some());
    let (one, three, five) = std::thread::scope(|scope| {
        let thread = scope.spawn(|| take(&locks, "5", WRITE, &d));
        crate::steps::until_in_line(&locks, 3);
        drop(in_the_way);
        let one = future.after_wakes().unwrap();
        (one, queue.next(None).unwrap().unwrap().result.unwrap(), thread.join().unwrap())
    });
    assert_eq!(reported(&locks), 0);
    // And what is then asked for, in each of the ways.
    drop(ByHand::new(locks.lock(ask("0", READ, &b))).ready().unwrap());
    assert_eq!(reported(&locks), 1);
    assert!(locks.lock(ask("2", READ, &c)).with_queue(&queue, 2).unwrap().ticket().is_none());
    assert_eq!(reported(&locks), 2);
    assert!(locks.lock(ask("4", READ, &d)).with_callback(|_| {}).unwrap().ticket().is_none());
    assert_eq!(reported(&locks), 3);
    drop((one, three, five));
}

#[test]
fn upgrade_makes_an_order_from_other_holds() {
    let locks = linted();
    let session = locks.session("a");
    let mut zero = take(&locks, "0", READ, &session);
    let one = take(&locks, "1", WRITE, &session);
    zero.try_upgrade().unwrap();
    zero.downgrade();
    assert_eq!(reported(&locks), 0, "an attempt never waits");
    // Another who reads 0 and asks for 1 would wait for this one, and this one for it.
    zero.upgrade_blocking(None).unwrap();
    let found = locks.lock_order_reports();
    assert_eq!((found.reported, held(&found.reports[0])), (1, vec!["1".to_owned(), "0".to_owned()]));
    drop((zero, one));
    // Alone it is none.
    let mut zero = take(&locks, "6", READ, &session);
    zero.upgrade_blocking(None).unwrap();
    assert_eq!(reported(&locks), 1);
}

#[test]
fn readers_contradict_only_beside_a_writer() {
    let locks = linted();
    let events = locks.subscribe(EventOptions::default());
    let both = |first, second| take_in_order(&locks, &locks.session("reader"), &[(first, READ), (second, READ)]);
    both("0", "1");
    both("1", "0");
    drop(locks.acquire_write_lock_blocking("b", "0", "label").unwrap());
    assert_eq!(reported(&locks), 0);
    drop(locks.acquire_write_lock_blocking("b", "2", "label").unwrap());
    assert_eq!(reported(&locks), 0);
    // Now each of them may stand behind a writer that waits for the other.
    drop(locks.acquire_write_lock_blocking("b", "1", "label").unwrap());
    let found = locks.lock_order_reports();
    assert_eq!((found.reported, held(&found.reports[0])), (1, vec!["1".to_owned(), "0".to_owned()]));
    drop(locks.acquire_write_lock_blocking("b", "1", "label").unwrap());
    both("0", "1");
    assert_eq!(events.try_next(), Some(Event::LockOrder(found.reports[0].clone())));
    assert_eq!(events.try_next(), None);
}

#[test]
fn batch_contradicts_only_unsorted_orders() {
    let locks = linted();
    let (a, b) = (locks.session("a"), locks.session("b"));
    for session in [&a, &b] {
        for keys in [["0", "1", "2"], ["2", "1", "0"], ["1", "2", "0"]] {
            let batch =
                || keys.iter().fold(BatchLockRequest::new(session), |batch, key| batch.add_write_lock("b", key));
            drop(locks.acquire_locks_batch_blocking(batch()).unwrap());
            drop(ByHand::new(locks.acquire_locks_batch(batch().mode(BatchMode::BestEffort))).after_wakes().unwrap());
        }
    }
    assert_eq!((reported(&locks), locks.lock_order_reports().orders), (0, 3));
    // One who takes the same keys one by one, the other way round, can meet a batch.
    take_in_order(&locks, &a, &[("2", WRITE), ("1", WRITE)]);
    assert_eq!(reported(&locks), 1);
    // And so can one who holds what the batch would have waited for first.
    let three = take(&locks, "3", WRITE, &b);
    drop(locks.acquire_locks_batch_blocking(BatchLockRequest::new(&b).add_write_lock("b", "4")).unwrap());
    drop(three);
    assert_eq!(reported(&locks), 1);
    take_in_order(&locks, &a, &[("4", WRITE), ("3", WRITE)]);
    assert_eq!(reported(&locks), 2);
    // A batch that names what its session has does not wait for that.
    let counting = with(LockConfig { lock_order_lint: true, reentrancy: Reentrancy::Count, ..LockConfig::default() });
    let session = counting.session("a");
    let _one = take(&counting, "1", WRITE, &session);
    let batch = BatchLockRequest::new(&session).add_write_lock("b", "0").add_write_lock("b", "1");
    drop(counting.acquire_locks_batch_blocking(batch).unwrap());
    assert_eq!((reported(&counting), counting.lock_order_reports().orders), (0, 1));
}

#[test]
fn who_asks_for_what_it_has_does_not_wait_for_it() {
    let locks = with(LockConfig { lock_order_lint: true, reentrancy: Reentrancy::Count, ..LockConfig::default() });
    let session = locks.session("a");
    let zero = take(&locks, "0", WRITE, &session);
    let one = take(&locks, "1", WRITE, &session);
    let again = take(&locks, "0", WRITE, &session);
    assert_eq!(reported(&locks), 0);
    // It is held for as long as one of them is.
    drop((zero, one));
    drop(take(&locks, "2", WRITE, &session));
    drop(again);
    take_in_order(&locks, &session, &[("2", WRITE), ("0", WRITE)]);
    assert_eq!(reported(&locks), 1);
}

#[test]
fn labels_and_disabled_lint_report_nothing() {
    let locks = linted();
    let label = |locks: &FastObjectLockManager, first: &str, second: &str| {
        let _first = locks.acquire_write_lock_blocking("b", first, "label").unwrap();
        drop(locks.acquire_write_lock_blocking("b", second, "label").unwrap());
    };
    label(&locks, "0", "1");
    label(&locks, "1", "0");
    let found = locks.lock_order_reports();
    assert_eq!((found.orders, found.reported), (0, 0));
    assert_eq!(locks.get_metrics().shard_metrics.fast, 0, "everybody comes by the lint");
    // A subscriber to long holds that leaves does not put it out of action.
    drop(locks.subscribe(EventOptions { hold_above: Some(Duration::ZERO), ..EventOptions::default() }));
    take_in_order(&locks, &locks.session("a"), &[("0", WRITE), ("1", WRITE)]);
    take_in_order(&locks, &locks.session("a"), &[("1", WRITE), ("0", WRITE)]);
    assert_eq!(reported(&locks), 1);

    let off = with(LockConfig::default());
    take_in_order(&off, &off.session("a"), &[("0", WRITE), ("1", WRITE)]);
    take_in_order(&off, &off.session("a"), &[("1", WRITE), ("0", WRITE)]);
    assert_eq!(off.lock_order_reports(), keylatch::LockOrderReports::default());
    assert!(off.get_metrics().shard_metrics.fast > 0);
}

#[test]
fn memory_is_bounded_and_says_what_it_forgot() {
    let locks = linted();
    let session = locks.session("a");
    let mut held = std::collections::VecDeque::new();
    for number in 0..5000 {
        held.push_back(take(&locks, &number.to_string(), WRITE, &session));
        if held.len() > 20 {
            held.pop_front();
        }
    }
    let found = locks.lock_order_reports();
    // From each of the sixteen that were taken last.
    let orders: u64 = (0..5000).map(|number| number.min(16)).sum();
    assert_eq!((found.reported, found.orders as u64 + found.forgotten), (0, orders));
    assert_eq!(found.orders, 65_536);
    held.clear();
    for number in (0..200).rev() {
        let (from, to) = (format!("round-{number}"), format!("trip-{number}"));
        take_in_order(&locks, &session, &[(&from, WRITE), (&to, WRITE)]);
        take_in_order(&locks, &session, &[(&to, WRITE), (&from, WRITE)]);
    }
    let found = locks.lock_order_reports();
    assert_eq!((found.reported, found.reports.len(), found.orders), (200, 64, 65_536));
    assert_eq!(held_first(&found.reports), "trip-63");
}

fn held_first(reports: &[LockOrderReport]) -> String {
    held(&reports[0])[0].clone()
}

#[test]
fn threads_that_keep_one_order_are_never_accused() {
    let locks = with(LockConfig { lock_order_lint: true, fairness: Fairness::Fifo, ..LockConfig::default() });
    std::thread::scope(|scope| {
        for thread in 0..4_usize {
            let locks = &locks;
            scope.spawn(move || {
                for round in 0..500_usize {
                    let session = locks.session("txn");
                    let mut random = (round * 4 + thread).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                    let mut guards = Vec::new();
                    for key in KEYS {
                        random = random.rotate_left(7);
                        match random % 3 {
                            0 => guards.push(take(locks, key, WRITE, &session)),
                            1 => guards.push(take(locks, key, READ, &session)),
                            _ => {}
                        }
                    }
                }
            });
        }
    });
    let found = locks.lock_order_reports();
    assert_eq!((found.reported, found.orders), (0, 28));
}

/// The lint once more, from its definition: orders of keys, and which are written.
#[derive(Default)]
struct Expected {
    orders: HashSet<(usize, usize)>,
    written: HashSet<usize>,
    reported: u64,
}

impl Expected {
    fn leads(&self, from: usize, to: usize) -> bool {
        let (mut seen, mut next) = (HashSet::new(), vec![from]);
        while let Some(key) = next.pop() {
            for then in KEYS.iter().enumerate().map(|(then, _)| then).filter(|then| self.orders.contains(&(key, *then)))
            {
                if then == to {
                    return self.written.contains(&to);
                }
                if self.written.contains(&then) && seen.insert(then) {
                    next.push(then);
                }
            }
        }
        false
    }

    fn is_known(&self, key: usize) -> bool {
        self.orders.iter().any(|(from, to)| *from == key || *to == key)
    }

    fn ask(&mut self, held: &[(usize, Mode)], key: usize, mode: Mode) {
        if mode == WRITE && self.is_known(key) && self.written.insert(key) {
            self.reported += u64::from(self.leads(key, key));
        }
        for (from, held_mode) in held.iter().rev() {
            if self.orders.insert((*from, key)) {
                self.written.extend((*held_mode == WRITE).then_some(*from));
                self.written.extend((mode == WRITE).then_some(key));
                let closes = self.written.contains(&key) && self.written.contains(from) && self.leads(key, *from);
                self.reported += u64::from(closes);
            }
        }
    }
}

/// A session's locks: keys with modes, taken one by one or as a batch.
type Program = (bool, Vec<(usize, bool)>);

fn program() -> impl Strategy<Value = Program> {
    (prop::bool::weighted(0.2), prop::collection::vec((0..KEYS.len(), any::<bool>()), 1..5))
}

fn run(locks: &FastObjectLockManager, expected: &mut Expected, (as_batch, keys): &Program) {
    let mode = |write: bool| if write { WRITE } else { READ };
    let session = locks.session("txn");
    let mut wanted: HashMap<usize, Mode> = HashMap::new();
    let mut in_turn = Vec::new();
    for (key, write) in keys {
        if !wanted.contains_key(key) {
            in_turn.push(*key);
        }
        let strongest = if *as_batch { wanted.get(key).copied().unwrap_or(READ) } else { READ };
        if *as_batch || !wanted.contains_key(key) {
            wanted.insert(*key, strongest.max(mode(*write)));
        }
    }
    if *as_batch {
        in_turn.sort_unstable();
    }
    let mut held: Vec<(usize, Mode)> = Vec::new();
    for key in &in_turn {
        expected.ask(&held, *key, wanted[key]);
        held.push((*key, wanted[key]));
    }
    if *as_batch {
        let batch = keys.iter().fold(BatchLockRequest::new(&session), |batch, (key, write)| match write {
            true => batch.add_write_lock("b", KEYS[*key]),
            false => batch.add_read_lock("b", KEYS[*key]),
        });
        drop(locks.acquire_locks_batch_blocking(batch).unwrap());
    } else {
        let keys: Vec<_> = in_turn.iter().map(|key| (KEYS[*key], wanted[key])).collect();
        take_in_order(locks, &session, &keys);
    }
}

proptest! {
    /// Each order that closes a circle of written keys is reported, and no other.
    #[test]
    fn exactly_the_circular_orders_are_reported(programs in prop::collection::vec(program(), 1..30)) {
        let locks = linted();
        let mut expected = Expected::default();
        for program in &programs {
            run(&locks, &mut expected, program);
            let found = locks.lock_order_reports();
            prop_assert_eq!((found.orders, found.reported), (expected.orders.len(), expected.reported), "{:?}", program);
        }
        for report in locks.lock_order_reports().reports {
            let next = report.links.iter().cycle().skip(1);
            prop_assert!(report.links.iter().zip(next).all(|(link, next)| link.wanted == next.held), "{}", report);
            let distinct: BTreeSet<_> = report.links.iter().map(|link| &link.held).collect();
            prop_assert_eq!(distinct.len(), report.links.len());
        }
    }

    /// Programs that take keys in one order, and batches in any, are never accused.
    #[test]
    fn one_order_is_never_reported(programs in prop::collection::vec(program(), 1..40)) {
        let locks = linted();
        for (as_batch, mut keys) in programs {
            if !as_batch {
                keys.sort_unstable();
                keys.dedup_by_key(|(key, _)| *key);
            }
            run(&locks, &mut Expected::default(), &(as_batch, keys));
        }
        prop_assert_eq!(reported(&locks), 0);
    }
}
