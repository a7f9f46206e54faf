//! Readers in slots among all that ends their bias, with an entry that is biased again as soon as it can be.

use crate::hold::Grant;
use crate::table::Word;
use crate::{Fairness, FastObjectLockManager, Filter, LockConfig, LockError, LockRequest, Mode, OwnedLockGuard};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::time::{Duration, Instant};

const KEY: (&str, &str) = ("b", "hot");

fn manager(fairness: Fairness) -> FastObjectLockManager {
    FastObjectLockManager::with_config(LockConfig { reader_slots: true, fairness, shards: 1, ..LockConfig::default() })
        .expect("a valid setting")
}

/// Has the key's readers use slots, if nothing but readers is in it.
fn bias(locks: &FastObjectLockManager) {
    let (core, key) = (locks.core(), LockRequest::read(KEY).key);
    let hash = core.hash(&key);
    let mut shard = core.lock_shard(hash);
    if let Some((index, _)) = shard.find(hash, &key) {
        shard.bias_anyway(&core.local().entries, index);
    }
}

fn word(locks: &FastObjectLockManager) -> Option<Word> {
    let (core, key) = (locks.core(), LockRequest::read(KEY).key);
    let hash = core.hash(&key);
    let shard = core.lock_shard(hash);
    shard.find(hash, &key).map(|(_, entry)| entry.word())
}

/// A biased key, and this thread with slots.
fn biased(fairness: Fairness) -> FastObjectLockManager {
    let locks = manager(fairness);
    drop(locks.lock(LockRequest::write(KEY)).blocking().unwrap());
    bias(&locks);
    drop(locks.lock(LockRequest::read(KEY)).blocking().unwrap());
    assert!(word(&locks).unwrap().is_biased());
    locks
}

/// A hold that the word does not count.
fn enter(locks: &FastObjectLockManager) -> crate::FastLockGuard<'_> {
    let before = word(locks).unwrap().readers();
    let guard = locks.lock(LockRequest::read(KEY)).try_now().unwrap();
    assert_eq!(word(locks).unwrap().readers(), before, "in no slot");
    guard
}

#[test]
fn readers_in_slots_are_seen_by_every_question() {
    let locks = biased(Fairness::default());
    let guard = enter(&locks);
    assert!(guard.is_valid() && guard.key() == crate::ObjectKey::new(KEY.0, KEY.1));
    assert_eq!(locks.holders(&Filter::all()).len(), 1);
    assert!(word(&locks).unwrap().is_biased(), "a list of all keys needs no word");
    assert_eq!(locks.get_metrics().shard_metrics.holders, 1);
    assert!(locks.core().is_locked(&LockRequest::read(KEY)).unwrap());
    assert!(!word(&locks).unwrap().is_biased());
    drop(guard);
    assert!(!locks.core().is_locked(&LockRequest::read(KEY)).unwrap());

    bias(&locks);
    let guard = locks.lock(LockRequest::read(KEY).owner("me")).try_now().unwrap();
    let Err(LockError::WouldBlock { holders, .. }) = locks.lock(LockRequest::write(KEY)).try_now() else { panic!() };
    assert_eq!((holders.named.len(), holders.more, &*holders.named[0].owner), (1, 0, "me"));
    drop(guard);
    assert_eq!(locks.get_metrics().shard_metrics.holders, 0);
    assert!(locks.lock(LockRequest::write(KEY)).try_now().is_ok());
}

#[test]
fn only_reader_in_a_slot_upgrades_and_downgrades() {
    let locks = biased(Fairness::default());
    let mut guard = enter(&locks);
    guard.try_upgrade().unwrap();
    assert!(locks.lock(LockRequest::read(KEY)).try_now().is_err());
    guard.downgrade();
    bias(&locks);
    let other = locks.lock(LockRequest::read(KEY)).try_now().unwrap();
    assert!(guard.try_upgrade().is_err());
    drop(other);
    drop(guard);
    assert!(locks.lock(LockRequest::write(KEY)).try_now().is_ok());
}

#[test]
fn numbers_and_leases_of_slots_end_once() {
    let locks = biased(Fairness::default());
    let number = locks.lock(LockRequest::read(KEY)).grant_now().unwrap();
    assert!(word(&locks).unwrap().is_biased());
    locks.release(number).unwrap();
    assert!(locks.release(number).is_err());

    let forced = enter(&locks);
    assert_eq!(locks.force_release(&Filter::all()).len(), 1);
    assert!(!forced.is_valid());
    assert!(forced.try_release().is_err());

    bias(&locks);
    let leased = enter(&locks);
    leased.renew(Duration::from_nanos(1)).unwrap();
    let written = std::iter::repeat_with(|| locks.lock(LockRequest::write(KEY)).try_now()).find_map(Result::ok);
    assert!(!leased.is_valid());
    drop((written, leased));
    assert_eq!(locks.get_metrics().shard_metrics.holders, 0);
    assert!(!locks.core().is_locked(&LockRequest::read(KEY)).unwrap());
}

#[test]
fn renewed_lease_leaves_the_bias() {
    let locks = biased(Fairness::default());
    let guard = enter(&locks);
    guard.renew(Duration::from_secs(3600)).unwrap();
    let leased = locks.lock(LockRequest::read(KEY).ttl(Duration::from_secs(3600))).try_now().unwrap();
    leased.renew(Duration::from_secs(3600)).unwrap();
    assert!(word(&locks).unwrap().is_biased());
    // With a waiter there is one that has to look again earlier.
    drop(leased);
    let waiter = locks.lock(LockRequest::write(KEY).timeout(Duration::from_secs(60)));
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| waiter.blocking().is_ok());
        while locks.get_metrics().shard_metrics.waiters == 0 {
            std::thread::yield_now();
        }
        guard.renew(Duration::from_nanos(1)).unwrap();
        assert!(waiter.join().unwrap(), "it was not woken");
    });
    assert!(!guard.is_valid());
}

#[test]
fn more_holds_than_slots_are_counted_by_the_word() {
    let locks = biased(Fairness::default());
    let guards: Vec<_> = (0..10).map(|_| locks.lock(LockRequest::read(KEY)).try_now().unwrap()).collect();
    assert_eq!(word(&locks).unwrap().readers(), 6);
    assert!(locks.lock(LockRequest::write(KEY)).try_now().is_err());
    assert_eq!(word(&locks).unwrap().readers(), 10);
    drop(guards);
    assert!(locks.lock(LockRequest::write(KEY)).try_now().is_ok());
}

#[test]
fn threads_beyond_the_lines_share_the_word() {
    const THREADS: usize = 300;
    let locks = biased(Fairness::default());
    let (all_hold, all_go) = (Barrier::new(THREADS + 1), Barrier::new(THREADS + 1));
    let read = || locks.lock(LockRequest::read(KEY)).try_now();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                // Finds a line, if there is one left.
                drop(read());
                let guard = read();
                all_hold.wait();
                all_go.wait();
                drop(guard.unwrap());
            });
        }
        all_hold.wait();
        // This thread has one of 256 lines.
        let (counted, written) =
            (word(&locks).unwrap().readers(), locks.lock(LockRequest::write(KEY)).try_now().is_ok());
        let collected = word(&locks).unwrap().readers();
        all_go.wait();
        assert_eq!((counted, written, collected as usize), (THREADS as u32 - 255, false, THREADS));
    });
    assert!(locks.core().table.slots.are_empty());
    assert!(locks.lock(LockRequest::write(KEY)).try_now().is_ok());
}

#[test]
fn refused_barrier_begins_no_bias() {
    let locks = biased(Fairness::default());
    let slots = &locks.core().table.slots;
    assert!(slots.prepare());
    slots.note_refusal();
    assert!(!slots.prepare());
    // The bias that there is goes on, and ends as any other.
    let guard = enter(&locks);
    assert!(locks.lock(LockRequest::write(KEY)).try_now().is_err());
    drop(guard);
    assert!(locks.lock(LockRequest::write(KEY)).try_now().is_ok());
}

#[test]
fn slots_outlive_the_thread_that_filled_them() {
    let locks = Arc::new(biased(Fairness::default()));
    let guards: Vec<OwnedLockGuard> = (0..20)
        .map(|_| {
            let locks = Arc::clone(&locks);
            let reads = move || {
                let read = || locks.lock(LockRequest::read(KEY)).blocking().unwrap();
                // A thread that no other left a line to finds one with its first read, which the word counts.
                drop(read());
                read().into_owned()
            };
            std::thread::spawn(reads).join().unwrap()
        })
        .collect();
    assert!(word(&locks).unwrap().readers() < 20, "some are in slots");
    assert!(locks.lock(LockRequest::write(KEY)).try_now().is_err());
    assert_eq!(word(&locks).unwrap().readers(), 20);
    drop(guards);
    assert!(locks.lock(LockRequest::write(KEY)).try_now().is_ok());
}

#[test]
fn batches_of_shared_keys_leave_the_bias() {
    let locks = biased(Fairness::default());
    let batch = crate::BatchLockRequest::new("me").add_read_lock(KEY.0, KEY.1).add_read_lock("b", "cold");
    drop(locks.acquire_locks_batch_blocking(batch).unwrap());
    assert!(word(&locks).unwrap().is_biased());
}

#[test]
fn biased_entries_leave_the_warm_slots() {
    let locks = biased(Fairness::default());
    let keys: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    for _ in 0..3 {
        let held: Vec<_> = keys.iter().map(|key| locks.try_acquire_write_lock("b", key, "me").unwrap()).collect();
        drop(held);
    }
    assert!(locks.get_metrics().shard_metrics.entries <= 4);
}

/// Two counters that only writers change, and that every holder finds equal.
#[derive(Default)]
struct Protected {
    counters: [AtomicU64; 2],
    writers: AtomicU32,
    readers: AtomicU32,
}

impl Protected {
    fn read(&self) {
        self.readers.fetch_add(1, Ordering::Relaxed);
        let [first, second] = self.counters.each_ref().map(|counter| counter.load(Ordering::Relaxed));
        assert_eq!(first, second, "read while it was written");
        assert_eq!(self.writers.load(Ordering::Relaxed), 0, "a writer beside a reader");
        self.readers.fetch_sub(1, Ordering::Relaxed);
    }

    fn write(&self) {
        assert_eq!(self.writers.fetch_add(1, Ordering::Relaxed), 0, "two writers");
        for counter in &self.counters {
            let value = counter.load(Ordering::Relaxed);
            std::hint::spin_loop();
            counter.store(value + 1, Ordering::Relaxed);
        }
        assert_eq!(self.readers.load(Ordering::Relaxed), 0, "a reader beside a writer");
        self.writers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Reads the key.
#[derive(Clone, Copy)]
struct Reads<'a> {
    locks: &'a FastObjectLockManager,
    protected: &'a Protected,
    /// How many readers were in slots.
    slotted: &'a AtomicU64,
}

impl<'a> Reads<'a> {
    fn once(self) -> crate::FastLockGuard<'a> {
        bias(self.locks);
        let guard = self.locks.lock(LockRequest::read(KEY)).blocking().unwrap();
        self.protected.read();
        let grant = Grant::from_raw(guard.grant_number()).unwrap();
        if self.locks.core().records.get(grant.index()).held_in_slot(grant).is_some() {
            self.slotted.fetch_add(1, Ordering::Relaxed);
        }
        guard
    }
}

/// Runs readers in slots among all that ends their bias.
///
/// Two writers, one of them impatient; readers that come and go; guards that end on other threads; upgrades; questions;
/// other keys that want the warm slots.
fn storm(fairness: Fairness, lasts: Duration) {
    let locks = Arc::new(biased(fairness));
    let protected = Protected::default();
    let (written, slotted) = (AtomicU64::new(0), AtomicU64::new(0));
    let (to_foreign, foreign) = mpsc::sync_channel::<OwnedLockGuard>(8);
    let foreign = Mutex::new(foreign);
    let until = Instant::now() + lasts;
    let goes_on = || Instant::now() < until || slotted.load(Ordering::Relaxed) < 100;
    let read = Reads { locks: &locks, protected: &protected, slotted: &slotted };
    std::thread::scope(|scope| {
        let (locks, protected, written, goes_on) = (&locks, &protected, &written, &goes_on);
        let foreign = &foreign;
        // Writers.
        scope.spawn(move || {
            while goes_on() {
                if let Ok(guard) = locks.lock(LockRequest::write(KEY)).try_now() {
                    protected.write();
                    written.fetch_add(1, Ordering::Relaxed);
                    drop(guard);
                }
                std::thread::yield_now();
            }
        });
        scope.spawn(move || {
            while goes_on() {
                let guard = locks.lock(LockRequest::write(KEY)).blocking().unwrap();
                protected.write();
                written.fetch_add(1, Ordering::Relaxed);
                drop(guard);
                std::thread::sleep(Duration::from_micros(50));
            }
        });
        // A reader that stays, and readers that come and go.
        scope.spawn(move || {
            while goes_on() {
                drop(read.once());
            }
        });
        scope.spawn(move || {
            while goes_on() {
                std::thread::scope(|scope| {
                    scope.spawn(|| (0..20).for_each(|_| drop(read.once())));
                });
            }
        });
        // Guards that end elsewhere.
        scope.spawn(move || {
            while goes_on() {
                if to_foreign.send(read.once().into_owned()).is_err() {
                    return;
                }
            }
        });
        scope.spawn(move || {
            let foreign = foreign.lock().unwrap();
            while let Ok(guard) = foreign.recv() {
                protected.read();
                drop(guard);
            }
        });
        // Upgrades, questions, and other keys.
        scope.spawn(move || {
            let keys: Vec<String> = (0..8).map(|number| number.to_string()).collect();
            while goes_on() {
                let mut guard = read.once();
                if guard.try_upgrade().is_ok() {
                    protected.write();
                    written.fetch_add(1, Ordering::Relaxed);
                    guard.downgrade();
                    protected.read();
                }
                assert!(locks.core().is_locked(&LockRequest::read(KEY)).unwrap());
                let holders = locks.holders(&Filter::all().key(KEY));
                assert!(holders.iter().any(|holder| holder.mode == Mode::Shared));
                drop(guard);
                let held: Vec<_> = keys.iter().map(|key| locks.try_acquire_write_lock("b", key, "me")).collect();
                drop(held);
            }
        });
    });
    let [first, second] = protected.counters.map(AtomicU64::into_inner);
    assert_eq!((first, second), (written.load(Ordering::Relaxed), written.load(Ordering::Relaxed)));
    assert!(!locks.core().is_locked(&LockRequest::read(KEY)).unwrap());
    assert_eq!(locks.get_metrics().shard_metrics.holders, 0);
    assert!(locks.get_metrics().shard_metrics.entries <= 4);
    assert!(locks.core().table.slots.are_empty());
    assert!(locks.lock(LockRequest::write(KEY)).try_now().is_ok());
}

#[test]
fn storm_of_readers_and_writers_excludes() {
    for fairness in [Fairness::default(), Fairness::Fifo] {
        storm(fairness, Duration::from_millis(400));
    }
}

/// Holds that are revoked while their guards are released, here and elsewhere.
#[test]
fn storm_of_revocations_leaves_nothing() {
    let locks = Arc::new(biased(Fairness::default()));
    let until = Instant::now() + Duration::from_millis(400);
    let goes_on = || Instant::now() < until;
    let (kept, not_kept) = (AtomicU64::new(0), AtomicU64::new(0));
    let (send, receive) = mpsc::sync_channel::<OwnedLockGuard>(8);
    std::thread::scope(|scope| {
        let (locks, goes_on, kept, not_kept) = (&locks, &goes_on, &kept, &not_kept);
        let end = move |guard: OwnedLockGuard| {
            let counted = if guard.try_release().is_ok() { kept } else { not_kept };
            counted.fetch_add(1, Ordering::Relaxed);
        };
        scope.spawn(move || {
            while goes_on() {
                bias(locks);
                std::thread::yield_now();
            }
        });
        for _ in 0..2 {
            scope.spawn(move || {
                while goes_on() {
                    end(locks.lock(LockRequest::read(KEY)).blocking().unwrap().into_owned());
                }
            });
        }
        scope.spawn(move || {
            while goes_on() {
                let guard = locks.lock(LockRequest::read(KEY)).blocking().unwrap().into_owned();
                if send.send(guard).is_err() {
                    return;
                }
            }
        });
        scope.spawn(move || receive.into_iter().for_each(end));
        // Numbers, of which exactly one ends each.
        scope.spawn(move || {
            while goes_on() {
                let number: Grant = locks.lock(LockRequest::read(KEY)).grant_blocking().unwrap();
                let counted = if locks.release(number).is_ok() { kept } else { not_kept };
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        scope.spawn(move || {
            while goes_on() {
                locks.force_release(&Filter::all().key(KEY));
                drop(locks.lock(LockRequest::write(KEY)).blocking().unwrap());
                std::thread::yield_now();
            }
        });
    });
    assert!(kept.load(Ordering::Relaxed) > 0);
    assert!(!locks.core().is_locked(&LockRequest::read(KEY)).unwrap(), "{:?}", word(&locks));
    assert_eq!(locks.get_metrics().shard_metrics.holders, 0);
    assert!(locks.lock(LockRequest::write(KEY)).try_now().is_ok());
}

/// Biases that begin because readers meet, in two hot keys among others.
///
/// With pins, with leases, and with threads that come and go.
#[test]
fn storm_of_crowds_excludes() {
    const HOT: [(&str, &str); 2] = [("b", "hot"), ("b", "warm")];
    let config = LockConfig { reader_slots: true, shards: 4, ..LockConfig::default() };
    let locks = FastObjectLockManager::with_config(config).unwrap();
    let protected: [Protected; 2] = Default::default();
    let (written, slotted) = ([0, 1].map(|_| AtomicU64::new(0)), AtomicU64::new(0));
    let pins = HOT.map(|key| locks.pin(key).unwrap());
    let begun = Instant::now();
    // For longer if the threads were not there at a time, which the machine decides.
    let goes_on = || {
        let lasted = begun.elapsed();
        lasted < Duration::from_millis(300)
            || (lasted < Duration::from_secs(2) && slotted.load(Ordering::Relaxed) < 100)
    };
    std::thread::scope(|scope| {
        let (locks, protected, pins, slotted, goes_on) = (&locks, &protected, &pins, &slotted, &goes_on);
        let written = &written;
        let read = move |hot: usize, turn: u32| {
            let lease = LockRequest::read(HOT[hot]).ttl(Duration::from_secs(3600));
            let guard = match turn % 16 {
                0 => locks.lock(lease).blocking().unwrap(),
                1..6 => locks.lock(pins[hot].read()).blocking().unwrap(),
                _ => locks.lock(LockRequest::read(HOT[hot])).blocking().unwrap(),
            };
            protected[hot].read();
            if turn % 16 == 7 {
                guard.renew(Duration::from_secs(3600)).unwrap();
            }
            let grant = Grant::from_raw(guard.grant_number()).unwrap();
            if locks.core().records.get(grant.index()).held_in_slot(grant).is_some() {
                slotted.fetch_add(1, Ordering::Relaxed);
            }
        };
        for hot in [0, 0, 1, 1] {
            scope.spawn(move || {
                while goes_on() {
                    let turns = 0..2000;
                    std::thread::scope(|scope| {
                        scope.spawn(move || turns.for_each(|turn| read(hot, turn)));
                    });
                }
            });
        }
        for hot in [0, 1] {
            scope.spawn(move || {
                while goes_on() {
                    std::thread::sleep(Duration::from_millis(5));
                    let guard = locks.lock(pins[hot].write()).blocking().unwrap();
                    protected[hot].write();
                    written[hot].fetch_add(1, Ordering::Relaxed);
                    drop(guard);
                }
            });
        }
        // Keys that want the warm slots.
        scope.spawn(move || {
            let keys: Vec<String> = (0..32).map(|number| number.to_string()).collect();
            while goes_on() {
                keys.iter().for_each(|key| drop(locks.try_acquire_write_lock("b", key, "me").unwrap()));
                std::thread::yield_now();
            }
        });
    });
    for (protected, written) in protected.into_iter().zip(written) {
        let written = written.into_inner();
        assert_eq!(protected.counters.map(AtomicU64::into_inner), [written; 2]);
    }
    eprintln!("{} in slots", slotted.load(Ordering::Relaxed));
    drop(pins);
    assert_eq!(locks.get_metrics().shard_metrics.holders, 0);
    assert!(locks.core().table.slots.are_empty());
    assert!(HOT.iter().all(|key| locks.lock(LockRequest::write(*key)).try_now().is_ok()));
}
