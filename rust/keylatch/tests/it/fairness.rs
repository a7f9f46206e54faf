//! Who goes first under each policy, and how far each may go.
//!
//! Most lines are made of futures that are polled by hand: with direct hand-over, who is next is decided in the release,
//! so that the order can be read off without a thread or a clock.

use crate::steps::*;
use keylatch::{Acquire, Fairness, FastObjectLockManager, LockConfig, LockRequest, Mode};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

type Guard<'a> = keylatch::FastLockGuard<'a>;

/// A line of named requests at the key ("b", "o").
struct Line<'a> {
    locks: &'a FastObjectLockManager,
    waiting: Vec<(String, ByHand<Acquire<'a, 'a>>)>,
    held: Vec<(String, Guard<'a>)>,
}

impl<'a> Line<'a> {
    fn new(locks: &'a FastObjectLockManager) -> Self {
        Self { locks, waiting: Vec::new(), held: Vec::new() }
    }

    /// A name tells what is asked for: r… to share, w… to hold alone.
    fn ask(&mut self, name: &str, priority: u8) {
        let mode = if name.starts_with('r') { Mode::Shared } else { Mode::Exclusive };
        let mut future = ByHand::new(self.locks.lock(LockRequest::new(("b", "o"), mode).priority(priority)));
        match future.poll() {
            Poll::Ready(guard) => self.held.push((name.into(), guard.unwrap())),
            Poll::Pending => self.waiting.push((name.into(), future)),
        }
    }

    fn ask_all(&mut self, names: &str) {
        names.split_whitespace().for_each(|name| self.ask(name, 0));
    }

    /// Returns the owners that have it meanwhile, in alphabetical order.
    fn admitted(&mut self) -> String {
        let mut admitted = Vec::new();
        for (name, mut future) in std::mem::take(&mut self.waiting) {
            match future.poll() {
                Poll::Ready(guard) => {
                    admitted.push(name.clone());
                    self.held.push((name, guard.unwrap()));
                }
                Poll::Pending => self.waiting.push((name, future)),
            }
        }
        admitted.sort();
        admitted.join("+")
    }

    /// Ends all holds until no waiter is left: who came in with whom, in order.
    fn served(&mut self) -> String {
        let mut story = Vec::new();
        while !self.waiting.is_empty() {
            assert!(!self.held.is_empty(), "{} wait for a lock without holders", self.waiting.len());
            self.held.clear();
            story.push(self.admitted());
        }
        self.held.clear();
        story.join(" ")
    }
}

#[test]
fn fifo_serves_neighbouring_readers_together() {
    let locks = few_shards(Fairness::Fifo);
    let mut line = Line::new(&locks);
    line.ask_all("w0 w1 r2 r3 w4 r5 w6 w7 r8 r9");
    assert_eq!(line.served(), "w1 r2+r3 w4 r5 w6 w7 r8+r9");
    assert_at_rest(&locks);
}

#[test]
fn reader_does_not_pass_waiting_writer() {
    let locks = few_shards(Fairness::Fifo);
    let mut line = Line::new(&locks);
    line.ask_all("r0 w1 r2");
    assert!(locks.try_acquire_read_lock("b", "o", "try").is_err(), "nor does one that only tries");
    assert_eq!(line.served(), "w1 r2");
    assert_at_rest(&locks);
}

#[test]
fn threads_are_served_in_order() {
    let locks = few_shards(Fairness::Fifo);
    let story = Story::default();
    let held = locks.acquire_write_lock_blocking("b", "o", "first").unwrap();
    std::thread::scope(|scope| {
        for number in 0..24_u64 {
            let (story, locks) = (story.clone(), &locks);
            scope.spawn(move || {
                let guard = locks.acquire_write_lock_blocking("b", "o", "thread").unwrap();
                story.tell(number);
                drop(guard);
            });
            until_in_line(locks, number + 1);
        }
        drop(held);
    });
    assert_eq!(story.so_far(), (0..24).collect::<Vec<_>>());
    assert_at_rest(&locks);
}

#[test]
fn all_kinds_of_waiters_stand_in_one_line() {
    let locks = few_shards(Fairness::Fifo);
    let story = Story::default();
    let queue = locks.completion_queue().unwrap();
    let held = locks.acquire_write_lock_blocking("b", "o", "first").unwrap();
    let write = || LockRequest::write(("b", "o"));
    std::thread::scope(|scope| {
        for turn in 0..4_u64 {
            let locks = &locks;
            let mine = story.clone();
            scope.spawn(move || {
                let guard = locks.lock(write()).blocking().unwrap();
                mine.tell((turn, "thread"));
                drop(guard);
            });
            until_in_line(locks, 4 * turn + 1);
            let mut future = ByHand::waiting(locks.lock(write()));
            let mine = story.clone();
            scope.spawn(move || {
                let guard = future.after_wakes().unwrap();
                mine.tell((turn, "future"));
                drop(guard);
            });
            let mine = story.clone();
            let submitted = locks.lock(write()).with_callback(move |guard| {
                let guard = guard.unwrap();
                mine.tell((turn, "callback"));
                drop(guard);
            });
            assert!(submitted.unwrap().ticket().is_some());
            assert!(locks.lock(write()).with_queue(&queue, turn).unwrap().ticket().is_some());
            until_in_line(locks, 4 * turn + 4);
        }
        drop(held);
        for turn in 0..4 {
            let completion = queue.next(Some(FOREVER)).unwrap().expect("its turn comes");
            let guard = completion.result.unwrap();
            story.tell((turn, "queue"));
            assert_eq!(completion.token, turn);
            drop(guard);
        }
    });
    let expected: Vec<_> =
        (0..4).flat_map(|turn| ["thread", "future", "callback", "queue"].map(|how| (turn, how))).collect();
    assert_eq!(story.so_far(), expected);
    drop(queue);
    assert_at_rest(&locks);
}

fn limited(fairness: Fairness, overtake_limit: u32) -> FastObjectLockManager {
    with(LockConfig { shards: 4, fairness, overtake_limit, ..LockConfig::default() })
}

#[test]
fn writers_pass_readers_up_to_the_bound() {
    let locks = limited(Fairness::WriterFirst, 3);
    let mut line = Line::new(&locks);
    line.ask_all("w0 r1 r2 w3 w4");
    assert_eq!(line.served(), "w3 w4 r1+r2");
    line.ask_all("w0 r1 w2 w3 w4 w5 w6 r7 w8");
    assert_eq!(line.served(), "w2 w3 w4 r1 w5 w6 w8 r7", "a reader is overtaken three times");
    assert_at_rest(&locks);
}

#[test]
fn readers_pass_writers_up_to_the_bound() {
    let locks = limited(Fairness::ReaderFirst, 3);
    let mut line = Line::new(&locks);
    line.ask_all("w0 w1 w2 r3 r4");
    assert_eq!(line.served(), "r3+r4 w1 w2");
    line.ask_all("w0 w1 r2 r3 r4 r5 r6");
    assert_eq!(line.served(), "r2+r3+r4 w1 r5+r6", "a writer is overtaken three times");
    assert_at_rest(&locks);
}

#[test]
fn readers_join_past_writer_up_to_the_bound() {
    let locks = limited(Fairness::ReaderFirst, 3);
    let mut line = Line::new(&locks);
    line.ask_all("r0 w1 r2 r3 r4 r5 r6");
    let inside: Vec<_> = line.held.iter().map(|(name, _)| &name[..]).collect();
    assert_eq!(inside, ["r0", "r2", "r3", "r4"]);
    assert_eq!(line.served(), "w1 r5+r6");
    assert_at_rest(&locks);
}

#[test]
fn overtaking_is_bounded_at_any_place() {
    let bound = 3;
    let locks = limited(Fairness::ReaderFirst, bound);
    let mut line = Line::new(&locks);
    line.ask_all("r0 w1 w2");
    for number in 0..20 {
        line.ask(&format!("r{}", 100 + number), 0);
    }
    let late = |name: &str| name.starts_with("r1") && name.len() == 4;
    let mut ahead = line.held.iter().filter(|(name, _)| late(name)).count();
    let story = line.served();
    for together in story.split(' ').take_while(|together| *together != "w2") {
        ahead += together.split('+').filter(|name| late(name)).count();
    }
    assert!(ahead <= bound as usize, "w2 was overtaken {ahead} times, {bound} is the bound: then {story}");
}

#[test]
fn higher_priority_first_equals_in_order() {
    for fairness in [Fairness::Fifo, Fairness::WriterFirst, Fairness::ReaderFirst] {
        let locks = few_shards(fairness);
        let mut line = Line::new(&locks);
        line.ask("w0", 0);
        for (name, priority) in [("w1", 1), ("w2", 5), ("w3", 5), ("w4", 255), ("w5", 0), ("w6", 1)] {
            line.ask(name, priority);
        }
        assert_eq!(line.served(), "w4 w2 w3 w1 w6 w5", "{fairness:?}");
        assert_at_rest(&locks);
    }
}

#[test]
fn priority_counts_before_preferred_mode() {
    let locks = few_shards(Fairness::WriterFirst);
    let mut line = Line::new(&locks);
    line.ask("w0", 0);
    for (name, priority) in [("r1", 2), ("w2", 1), ("r3", 1), ("w4", 2)] {
        line.ask(name, priority);
    }
    assert_eq!(line.served(), "w4 r1 w2 r3");
    assert_at_rest(&locks);
}

#[test]
fn low_priority_is_overtaken_up_to_the_bound() {
    for bound in [0, 1, 5, 64] {
        let locks = limited(Fairness::Fifo, bound);
        let mut line = Line::new(&locks);
        line.ask_all("w w-low");
        for _ in 0..bound + 10 {
            line.ask("w-high", 9);
        }
        let served = line.served();
        let place = served.split(' ').position(|name| name == "w-low");
        assert_eq!(place, Some(bound as usize), "{served}");
        assert_at_rest(&locks);
    }
}

#[test]
fn eventual_waiter_gets_turn_from_busy_holder() {
    for fairness in POLICIES {
        let locks = few_shards(fairness);
        within("a waiter beside one that never pauses", move || {
            let served = AtomicBool::new(false);
            std::thread::scope(|scope| {
                // Takes the lock again in the instant in which it lets go.
                let hammer = || {
                    let mut held = locks.acquire_write_lock_blocking("b", "o", "hammer").unwrap();
                    while !served.load(Ordering::Relaxed) {
                        drop(held);
                        held = locks.acquire_write_lock_blocking("b", "o", "hammer").unwrap();
                        std::hint::spin_loop();
                    }
                    drop(held);
                };
                let hammers = [scope.spawn(hammer), scope.spawn(hammer)];
                for _ in 0..20 {
                    drop(locks.acquire_write_lock_blocking("b", "o", "thread").unwrap());
                    drop(locks.acquire_read_lock_blocking("b", "o", "thread").unwrap());
                    let mut future = ByHand::new(locks.acquire_write_lock("b", "o", "future"));
                    drop(future.after_wakes().unwrap());
                }
                served.store(true, Ordering::Relaxed);
                hammers.into_iter().for_each(|hammer| hammer.join().unwrap());
            });
            assert_at_rest(&locks);
        });
    }
}

#[test]
fn eventual_writer_gets_turn_from_readers() {
    for fairness in POLICIES {
        let locks = few_shards(fairness);
        within("a writer beside overlapping readers", move || {
            let served = AtomicBool::new(false);
            let inside = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                // Each lets go only once it has the next, so that one always reads, or waits behind a writer.
                let overlap = || {
                    while !served.load(Ordering::Relaxed) {
                        let guard = locks.acquire_read_lock_blocking("b", "o", "reader").unwrap();
                        inside.fetch_add(1, Ordering::Relaxed);
                        for _ in 0..200 {
                            std::hint::spin_loop();
                        }
                        inside.fetch_sub(1, Ordering::Relaxed);
                        drop(guard);
                    }
                };
                let readers = [scope.spawn(overlap), scope.spawn(overlap), scope.spawn(overlap)];
                for _ in 0..50 {
                    let guard = locks.acquire_write_lock_blocking("b", "o", "writer").unwrap();
                    assert_eq!(inside.load(Ordering::Relaxed), 0);
                    drop(guard);
                }
                served.store(true, Ordering::Relaxed);
                readers.into_iter().for_each(|reader| reader.join().unwrap());
            });
            assert_at_rest(&locks);
        });
    }
}

#[test]
fn long_waiter_is_not_overtaken() {
    let after = Duration::from_millis(2);
    let locks = few_shards(Fairness::Eventual { after });
    let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
    let mut waiter = ByHand::waiting(locks.acquire_write_lock("b", "o", "waiter"));
    std::thread::sleep(2 * after);
    drop(held);
    assert!(locks.try_acquire_write_lock("b", "o", "newcomer").is_err(), "it was handed over in the release");
    drop(waiter.ready().unwrap());
    assert_at_rest(&locks);
}

#[test]
fn running_caller_overtakes_new_waiter() {
    let locks = few_shards(Fairness::Eventual { after: FOREVER });
    let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
    let mut waiter = ByHand::waiting(locks.acquire_write_lock("b", "o", "waiter"));
    drop(held);
    assert_eq!(waiter.wakes(), 1, "it is woken to try");
    let overtaker = locks.try_acquire_write_lock("b", "o", "newcomer").unwrap();
    assert!(waiter.poll().is_pending());
    drop(overtaker);
    assert_eq!(waiter.wakes(), 2, "and woken again");
    drop(waiter.ready().unwrap());
    assert_at_rest(&locks);
}
