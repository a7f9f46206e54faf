//! Everything together: threads, tasks, callbacks and queues on few keys and on many, under every policy, with a check
//! of exclusion inside, and nothing left at the end.

use crate::steps::*;
use keylatch::{
    BatchLockRequest, Fairness, FastLockGuard, FastObjectLockManager, Filter, LockConfig, LockError, LockRequest, Mode,
    Reentrancy, Session, Victim,
};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// Two counters that only exclusive holders change, and every holder finds equal.
///
/// Holders change one after the other. The atomics are relaxed, so that only the locks keep them in step.
#[derive(Default)]
struct Protected {
    first: AtomicU32,
    second: AtomicU32,
    torn: AtomicUsize,
}

impl Protected {
    fn visit(&self, mode: Mode) {
        let seen = self.first.load(Ordering::Relaxed);
        if mode == Mode::Exclusive {
            self.first.store(seen.wrapping_add(1), Ordering::Relaxed);
            for _ in 0..10 {
                std::hint::spin_loop();
            }
            // Not an addition in one step: a second writer would be lost.
            let second = self.second.load(Ordering::Relaxed);
            self.second.store(second.wrapping_add(1), Ordering::Relaxed);
        }
        if self.first.load(Ordering::Relaxed) != self.second.load(Ordering::Relaxed) {
            self.torn.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A number from a row that looks random and is the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn mode(&mut self) -> Mode {
        if self.roll(3) == 0 { Mode::Exclusive } else { Mode::Shared }
    }
}

struct Arena {
    locks: FastObjectLockManager,
    keys: Vec<String>,
    protected: Vec<Protected>,
    written: AtomicUsize,
}

impl Arena {
    fn new(fairness: Fairness, shards: u32, keys: usize) -> Arc<Self> {
        Arc::new(Self {
            locks: with(LockConfig {
                shards,
                fairness,
                overtake_limit: 4,
                reader_slots: true,
                ..LockConfig::default()
            }),
            keys: (0..keys)
                .map(|n| if n % 5 == 0 { format!("{n}-{}", "long".repeat(40)) } else { n.to_string() })
                .collect(),
            protected: (0..keys).map(|_| Protected::default()).collect(),
            written: AtomicUsize::new(0),
        })
    }

    fn pick(&self, dice: &mut Dice) -> usize {
        dice.roll(self.keys.len() as u64) as usize
    }

    fn request<'a>(&'a self, key: usize, mode: Mode, dice: &mut Dice) -> LockRequest<'a> {
        let request = LockRequest::new(("b", &self.keys[key]), mode).owner("stress");
        match dice.roll(8) {
            0 => request.priority(7),
            1 => request.timeout(Duration::from_micros(dice.roll(200))),
            _ => request,
        }
    }

    fn visit(&self, key: usize, mode: Mode) {
        self.protected[key].visit(mode);
        if mode == Mode::Exclusive {
            self.written.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn thread(&self, rounds: u64, seed: u64) {
        let mut dice = Dice(seed);
        for _ in 0..rounds {
            let (key, mode) = (self.pick(&mut dice), dice.mode());
            let request = self.request(key, mode, &mut dice);
            match dice.roll(10) {
                0 => {
                    if let Ok(guard) = self.locks.lock(request).try_now() {
                        self.visit(key, mode);
                        drop(guard);
                    }
                }
                1 => self.batch(&mut dice),
                2 => {
                    if let Ok(guard) = self.locks.lock(request).blocking() {
                        self.visit(key, mode);
                        self.locks.release(guard.into_grant()).unwrap();
                    }
                }
                3 => {
                    let Ok(mut guard) = self.locks.lock(request).blocking() else { continue };
                    self.visit(key, mode);
                    guard.downgrade();
                    self.visit(key, Mode::Shared);
                    if guard.try_upgrade().is_ok() || guard.upgrade_blocking(Some(Duration::from_micros(50))).is_ok() {
                        self.visit(key, Mode::Exclusive);
                    }
                }
                _ => match self.locks.lock(request).blocking() {
                    Ok(guard) => {
                        self.visit(key, mode);
                        drop(guard);
                    }
                    Err(LockError::Timeout { .. }) => {}
                    Err(other) => panic!("{other:?}"),
                },
            }
        }
    }

    fn batch(&self, dice: &mut Dice) {
        let mut wanted: Vec<_> = (0..4).map(|_| (self.pick(dice), dice.mode())).collect();
        let batch = wanted
            .iter()
            .fold(BatchLockRequest::new("batch"), |batch, (key, mode)| batch.add(("b", &self.keys[*key]), *mode));
        let all = self.locks.acquire_locks_batch_blocking(batch).unwrap();
        wanted.sort_unstable_by_key(|(key, mode)| (*key, std::cmp::Reverse(*mode)));
        wanted.dedup_by_key(|(key, _)| *key);
        assert_eq!(all.len(), wanted.len());
        wanted.iter().for_each(|(key, mode)| self.visit(*key, *mode));
    }

    async fn task(&self, rounds: u64, seed: u64) {
        let mut dice = Dice(seed);
        for _ in 0..rounds {
            let (key, mode) = (self.pick(&mut dice), dice.mode());
            let request = self.request(key, mode, &mut dice);
            if dice.roll(8) == 0 {
                // Given up after a few turns of the executor, whatever state it is in.
                let turns = dice.roll(3);
                tokio::select! {
                    biased;
                    guard = self.locks.lock(request).into_future() => { if guard.is_ok() { self.visit(key, mode) } }
                    () = async { for _ in 0..turns { tokio::task::yield_now().await } } => {}
                }
                continue;
            }
            match self.locks.lock(request).await {
                Ok(guard) => {
                    self.visit(key, mode);
                    if dice.roll(16) == 0 {
                        // Held across a wait of the task's.
                        tokio::task::yield_now().await;
                        self.visit(key, mode);
                    }
                    drop(guard);
                }
                Err(LockError::Timeout { .. }) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
    }

    /// Requests whose answers are called back, a few at a time; some are cancelled.
    fn callbacks(self: &Arc<Self>, rounds: u64, seed: u64) {
        let mut dice = Dice(seed);
        let (send, answered) = mpsc::channel();
        for _ in 0..rounds {
            let (key, mode) = (self.pick(&mut dice), dice.mode());
            let (this, done) = (Arc::clone(self), send.clone());
            let callback = move |answer: Result<keylatch::OwnedLockGuard, LockError>| {
                if let Ok(guard) = answer {
                    this.visit(key, mode);
                    drop(guard);
                }
                done.send(()).unwrap();
            };
            match self.locks.lock(self.request(key, mode, &mut dice)).with_callback(callback) {
                Ok(keylatch::Submitted::Granted(guard)) => {
                    self.visit(key, mode);
                    drop(guard);
                }
                Ok(keylatch::Submitted::Waiting(ticket)) => {
                    if dice.roll(4) == 0 {
                        self.locks.cancel(ticket);
                    }
                    answered.recv_timeout(FOREVER).expect("an answer, exactly one");
                }
                Err(LockError::Timeout { .. }) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
        assert!(answered.try_recv().is_err(), "an answer too many");
    }

    fn queue(&self, rounds: u64, seed: u64) {
        let mut dice = Dice(seed);
        let queue = self.locks.completion_queue().unwrap();
        let mut waiting = std::collections::HashMap::new();
        for token in 0..rounds {
            let (key, mode) = (self.pick(&mut dice), dice.mode());
            match self.locks.lock(self.request(key, mode, &mut dice)).with_queue(&queue, token) {
                Ok(keylatch::Submitted::Granted(guard)) => {
                    self.visit(key, mode);
                    drop(guard);
                }
                Ok(keylatch::Submitted::Waiting(ticket)) => {
                    if dice.roll(4) == 0 {
                        self.locks.cancel(ticket);
                    }
                    waiting.insert(token, (key, mode));
                }
                Err(LockError::Timeout { .. }) => {}
                Err(other) => panic!("{other:?}"),
            }
            while let Some(completion) =
                if waiting.len() > 8 { queue.next(Some(FOREVER)).unwrap() } else { queue.try_next() }
            {
                let (key, mode) = waiting.remove(&completion.token).expect("an answer to a question");
                if completion.result.is_ok() {
                    self.visit(key, mode);
                }
            }
        }
        while !waiting.is_empty() {
            let completion = queue.next(Some(FOREVER)).unwrap().expect("the rest of the answers");
            let (key, mode) = waiting.remove(&completion.token).expect("an answer to a question");
            if completion.result.is_ok() {
                self.visit(key, mode);
            }
        }
    }
}

fn all_kinds_together(fairness: Fairness, shards: u32, keys: usize, rounds: u64) {
    let arena = Arena::new(fairness, shards, keys);
    let shared = Arc::clone(&arena);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (done, finished) = mpsc::channel();
    std::thread::spawn(move || {
        let arena = shared;
        let tasks: Vec<_> = (0..6)
            .map(|seed| {
                let arena = Arc::clone(&arena);
                runtime.spawn(async move { arena.task(rounds, seed).await })
            })
            .collect();
        std::thread::scope(|scope| {
            for seed in 10..14 {
                let arena = &arena;
                scope.spawn(move || arena.thread(rounds, seed));
            }
            scope.spawn(|| arena.callbacks(rounds / 2, 20));
            scope.spawn(|| arena.queue(rounds / 2, 30));
        });
        tasks.into_iter().for_each(|task| runtime.block_on(task).unwrap());
        drop(arena);
        done.send(()).unwrap();
    });
    finished.recv_timeout(10 * FOREVER).unwrap_or_else(|_| {
        panic!("it hangs or fails under {fairness:?} with {keys} keys:\n{}", arena.locks.get_metrics());
    });
    let torn: usize = arena.protected.iter().map(|protected| protected.torn.load(Ordering::Relaxed)).sum();
    assert_eq!(torn, 0, "exclusion is broken under {fairness:?} with {keys} keys");
    let counted: u32 = arena.protected.iter().map(|protected| protected.first.load(Ordering::Relaxed)).sum();
    assert_eq!(counted as usize, arena.written.load(Ordering::Relaxed), "writers lost each other's work");
    assert_at_rest(&arena.locks);
}

#[test]
fn on_one_key() {
    POLICIES.into_iter().for_each(|fairness| all_kinds_together(fairness, 1, 1, 6000));
}

#[test]
fn on_few_keys() {
    POLICIES.into_iter().for_each(|fairness| all_kinds_together(fairness, 2, 4, 10_000));
}

/// Far more keys than stay warm: entries change their keys all the time.
#[test]
fn on_many_keys_of_few_shards() {
    POLICIES.into_iter().for_each(|fairness| all_kinds_together(fairness, 1, 500, 20_000));
}

/// `cargo test --release -p keylatch --test stress -- --ignored`, a few minutes.
#[test]
#[ignore = "long: run it after changes to the engine"]
fn for_longer() {
    for fairness in POLICIES {
        for (shards, keys) in [(1, 1), (1, 2), (1, 40), (4, 16), (64, 10_000)] {
            all_kinds_together(fairness, shards, keys, 60_000);
        }
    }
}

/// A session at work: counts holds, changes modes, and releases in any order.
fn count_and_change(arena: &Arena, session: &Session, loses: bool, mut dice: Dice) {
    let locks = &arena.locks;
    let mut held: Vec<(usize, FastLockGuard<'_>)> = Vec::new();
    let some_time = |dice: &mut Dice| Duration::from_micros(dice.roll(1000));
    for _ in 0..800 {
        let place = dice.roll(held.len().max(1) as u64) as usize;
        match (dice.roll(8), held.get_mut(place)) {
            (0..=2, _) | (_, None) => {
                let key = dice.roll(arena.keys.len() as u64) as usize;
                let request = LockRequest::new(("count", &*arena.keys[key]), dice.mode()).owner(session);
                let request = request.timeout(some_time(&mut dice));
                let leased = loses && dice.roll(2) == 0;
                let request = if leased { request.ttl(Duration::from_micros(1 + dice.roll(200))) } else { request };
                held.extend(locks.lock(request).blocking().ok().map(|guard| (key, guard)));
            }
            (3, Some((_, guard))) => guard.downgrade(),
            (4, Some((_, guard))) => {
                let _ = guard.upgrade_blocking(Some(some_time(&mut dice)));
            }
            (5, Some(_)) if loses => {
                locks.force_release(&Filter::new().owner("loses"));
            }
            _ => drop(held.swap_remove(place)),
        }
        if held.len() > 5 {
            drop(held.remove(0));
        }
        // Those that lose nothing are alone, or not, as their guards say.
        for (key, guard) in held.iter().filter(|_| !loses) {
            assert!(guard.is_valid());
            arena.protected[*key].visit(guard.mode());
        }
    }
}

#[test]
fn counting_sessions_beside_losing_ones() {
    within("sessions that count, change and lose", || {
        for (turn, fairness) in POLICIES.into_iter().enumerate() {
            let config = LockConfig {
                shards: 2,
                max_locks: 100,
                fairness,
                reentrancy: Reentrancy::Count,
                deadlock_delay: Some(Duration::from_micros(100)),
                victim: [Victim::Asker, Victim::Youngest][turn % 2],
                ..LockConfig::default()
            };
            let keys: Vec<String> = ["a", "b"].map(String::from).into();
            let protected = keys.iter().map(|_| Protected::default()).collect();
            let arena = Arena { locks: with(config), keys, protected, written: AtomicUsize::new(0) };
            std::thread::scope(|scope| {
                for thread in 0..4 {
                    let arena = &arena;
                    scope.spawn(move || {
                        let loses = thread >= 2;
                        let session = arena.locks.session(if loses { "loses" } else { "keeps" });
                        count_and_change(arena, &session, loses, Dice(10 * turn as u64 + thread));
                    });
                }
            });
            assert!(
                arena.protected.iter().all(|protected| protected.torn.load(Ordering::Relaxed) == 0),
                "{fairness:?}"
            );
            assert_at_rest(&arena.locks);
            for key in &arena.keys {
                drop(arena.locks.try_acquire_write_lock("count", key, "after").expect("it is free"));
            }
        }
    });
}
