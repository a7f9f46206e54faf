//! Programs of one thread, and a model so simple that it is right: who holds a key and how, and who stands in line.

#![allow(dead_code, reason = "proptest and the fuzzer each use their part")]

use super::steps::*;
use keylatch::{BatchLockRequest, BatchMode, Fairness, FastLockGuard, Grant, LockConfig, LockError, LockRequest, Mode};
use std::collections::{HashMap, VecDeque};
use std::task::Poll;
use std::time::Duration;

#[derive(Debug, Clone)]
pub(crate) enum Step {
    Try(usize, Mode),
    Timeout(usize, Mode, bool),
    Poll(usize, Mode),
    Drop(usize),
    Loosen(usize),
    Release(usize),
    StaleRelease(usize),
    Adopt(usize),
    Downgrade(usize),
    TryUpgrade(usize),
    Upgrade(usize),
    Batch(Vec<(usize, Mode)>, bool),
    /// A future that stays in line if it has to; only where the order is certain.
    Wait(usize, Mode),
    /// A future that waits is polled.
    Look(usize),
    /// A future that waits, or has been granted, is dropped.
    Leave(usize),
}

pub(crate) const KEYS: usize = 6;

/// The model of a key: its readers, its writer, and the line, by request number.
#[derive(Default)]
struct Key {
    readers: u32,
    writer: bool,
    line: VecDeque<(u64, Mode)>,
}

impl Key {
    fn compatible(&self, mode: Mode) -> bool {
        !self.writer && (mode == Mode::Shared || self.readers == 0)
    }

    fn take(&mut self, mode: Mode) {
        assert!(self.compatible(mode), "two holders that exclude each other");
        if mode == Mode::Exclusive { self.writer = true } else { self.readers += 1 }
    }
}

#[derive(Default)]
struct Model {
    keys: [Key; KEYS],
    /// Requests of the line that hold by now.
    granted: Vec<u64>,
}

impl Model {
    /// Returns whether a request that comes now gets the lock without waiting.
    fn allows(&self, key: usize, mode: Mode) -> bool {
        self.keys[key].line.is_empty() && self.keys[key].compatible(mode)
    }

    /// Returns whether a reader may become the writer, which it may ahead of the line.
    fn lets_upgrade(&self, key: usize) -> bool {
        self.keys[key].readers == 1
    }

    fn take(&mut self, key: usize, mode: Mode) {
        self.keys[key].take(mode);
    }

    fn convert(&mut self, key: usize, from: Mode, to: Mode) {
        let held = &mut self.keys[key];
        if from == Mode::Exclusive {
            held.writer = false
        } else {
            held.readers -= 1
        }
        held.take(to);
        self.serve(key);
    }

    fn give(&mut self, key: usize, mode: Mode) {
        let held = &mut self.keys[key];
        if mode == Mode::Exclusive {
            held.writer = false
        } else {
            held.readers -= 1
        }
        self.serve(key);
    }

    fn serve(&mut self, key: usize) {
        let held = &mut self.keys[key];
        while let Some((number, mode)) = held.line.front().copied().filter(|(_, mode)| held.compatible(*mode)) {
            held.line.pop_front();
            held.take(mode);
            self.granted.push(number);
        }
    }

    fn leave(&mut self, key: usize, number: u64) {
        self.keys[key].line.retain(|(other, _)| *other != number);
        self.serve(key);
    }

    fn holds(&self) -> u64 {
        self.keys.iter().map(|held| u64::from(held.readers) + u64::from(held.writer)).sum()
    }

    fn waits(&self) -> u64 {
        self.keys.iter().map(|held| held.line.len() as u64).sum()
    }
}

fn pick<T>(row: &[T], which: usize) -> Option<usize> {
    (!row.is_empty()).then(|| which % row.len())
}

/// Runs a program under a policy, and compares every answer with the model's.
///
/// Futures stay in line only under `Fifo`.
pub(crate) fn run(program: &[Step], fairness: Fairness) {
    // One shard and a few keys: entries change their keys often.
    let locks = with(LockConfig { shards: 1, fairness, ..LockConfig::default() });
    let long = "long".repeat(60);
    let names = ["a", "b", "c", "", "\0", &long];
    let mut model = Model::default();
    let mut guards: Vec<(usize, Mode, FastLockGuard<'_>)> = Vec::new();
    let mut detached: Vec<(usize, Mode, Grant)> = Vec::new();
    let mut stale: Vec<Grant> = Vec::new();
    let mut waiting: Vec<(usize, Mode, u64, ByHand<_>)> = Vec::new();
    let mut numbers = 0..;
    for step in program {
        match step.clone() {
            Step::Try(key, mode) => match locks.lock(LockRequest::new(("b", names[key]), mode)).try_now() {
                Ok(guard) => {
                    model.take(key, mode);
                    guards.push((key, mode, guard));
                }
                Err(LockError::WouldBlock { .. }) => assert!(!model.allows(key, mode), "refused though free"),
                Err(other) => panic!("{other:?}"),
            },
            Step::Timeout(key, mode, future) => {
                let request = LockRequest::new(("b", names[key]), mode).timeout(Duration::ZERO);
                let answer =
                    if future { ByHand::new(locks.lock(request)).ready() } else { locks.lock(request).blocking() };
                match answer {
                    Ok(guard) => {
                        model.take(key, mode);
                        guards.push((key, mode, guard));
                    }
                    Err(LockError::Timeout { .. }) => assert!(!model.allows(key, mode), "timed out though free"),
                    Err(other) => panic!("{other:?}"),
                }
            }
            Step::Poll(key, mode) => {
                let mut future = ByHand::new(locks.lock(LockRequest::new(("b", names[key]), mode)));
                assert_eq!(future.poll().is_ready(), model.allows(key, mode), "and dropped immediately, either way");
            }
            Step::Drop(which) => {
                let Some(place) = pick(&guards, which) else { continue };
                let (key, mode, guard) = guards.swap_remove(place);
                assert_eq!((guard.mode(), guard.key().object()), (mode, names[key].as_bytes()));
                drop(guard);
                model.give(key, mode);
            }
            Step::Loosen(which) => {
                let Some(place) = pick(&guards, which) else { continue };
                let (key, mode, guard) = guards.swap_remove(place);
                detached.push((key, mode, guard.into_grant()));
            }
            Step::Release(which) => {
                let Some(place) = pick(&detached, which) else { continue };
                let (key, mode, grant) = detached.swap_remove(place);
                locks.release(grant).unwrap();
                model.give(key, mode);
                stale.push(grant);
            }
            Step::StaleRelease(which) => {
                let Some(place) = pick(&stale, which) else { continue };
                assert!(matches!(locks.release(stale[place]), Err(LockError::NotHeld { .. })));
                assert!(locks.adopt(stale[place]).is_err());
            }
            Step::Adopt(which) => {
                let Some(place) = pick(&detached, which) else { continue };
                let (key, mode, grant) = detached.swap_remove(place);
                guards.push((key, mode, locks.adopt(grant).unwrap()));
            }
            Step::Downgrade(which) => {
                let Some(place) = pick(&guards, which) else { continue };
                let (key, mode, guard) = &mut guards[place];
                guard.downgrade();
                model.convert(*key, *mode, Mode::Shared);
                *mode = Mode::Shared;
            }
            Step::TryUpgrade(which) | Step::Upgrade(which) => {
                let Some(place) = pick(&guards, which) else { continue };
                let (key, mode, guard) = &mut guards[place];
                let answer = match step {
                    Step::Upgrade(_) => guard.upgrade_blocking(Some(Duration::ZERO)),
                    _ => guard.try_upgrade(),
                };
                match answer {
                    Ok(()) => {
                        assert!(*mode == Mode::Exclusive || model.lets_upgrade(*key), "upgraded beside others");
                        model.convert(*key, *mode, Mode::Exclusive);
                        *mode = Mode::Exclusive;
                    }
                    Err(LockError::WouldBlock { .. } | LockError::Timeout { .. }) => {
                        assert!(*mode == Mode::Shared && !model.lets_upgrade(*key), "no upgrade though alone");
                    }
                    Err(other) => panic!("{other:?}"),
                }
            }
            Step::Wait(key, mode) => {
                if fairness != Fairness::Fifo || waiting.len() > 40 {
                    continue;
                }
                let mut future = ByHand::new(locks.lock(LockRequest::new(("b", names[key]), mode)));
                match future.poll() {
                    Poll::Ready(guard) => {
                        assert!(model.allows(key, mode), "had though not free");
                        model.take(key, mode);
                        guards.push((key, mode, guard.unwrap()));
                    }
                    Poll::Pending => {
                        assert!(!model.allows(key, mode), "in line though free");
                        let number = numbers.next().expect("without end");
                        model.keys[key].line.push_back((number, mode));
                        waiting.push((key, mode, number, future));
                    }
                }
            }
            Step::Look(which) => {
                let Some(place) = pick(&waiting, which) else { continue };
                let granted = model.granted.contains(&waiting[place].2);
                assert_eq!(waiting[place].3.wakes() > 0, granted, "woken exactly when it has the lock");
                match waiting[place].3.poll() {
                    Poll::Ready(guard) => {
                        assert!(granted, "had out of turn");
                        let (key, mode, ..) = waiting.swap_remove(place);
                        guards.push((key, mode, guard.unwrap()));
                    }
                    Poll::Pending => assert!(!granted, "its turn, and it waits"),
                }
            }
            Step::Leave(which) => {
                let Some(place) = pick(&waiting, which) else { continue };
                let (key, mode, number, future) = waiting.swap_remove(place);
                drop(future);
                if model.granted.contains(&number) { model.give(key, mode) } else { model.leave(key, number) }
            }
            Step::Batch(wanted, best_effort) => {
                let mut strongest: HashMap<usize, Mode> = HashMap::new();
                for (key, mode) in &wanted {
                    let entry = strongest.entry(*key).or_insert(*mode);
                    *entry = (*entry).max(*mode);
                }
                let free: Vec<_> = strongest.iter().filter(|(key, mode)| model.allows(**key, **mode)).collect();
                let mode = if best_effort { BatchMode::BestEffort } else { BatchMode::AllOrNothing };
                let batch = BatchLockRequest::new("x").timeout(Duration::ZERO).mode(mode);
                let batch = wanted.iter().fold(batch, |batch, (key, mode)| batch.add(("b", names[*key]), *mode));
                match locks.acquire_locks_batch_blocking(batch) {
                    Ok(all) => {
                        assert!(best_effort || free.len() == strongest.len(), "a batch had though not free");
                        assert_eq!((all.len(), all.missing().len()), (free.len(), strongest.len() - free.len()));
                        for guard in all.into_guards() {
                            let key = names.iter().position(|name| name.as_bytes() == guard.key().object()).unwrap();
                            let mode = guard.mode();
                            assert_eq!(mode, strongest[&key]);
                            model.take(key, mode);
                            guards.push((key, mode, guard));
                        }
                    }
                    Err(LockError::Batch { key, .. }) => {
                        assert!(!best_effort && free.len() < strongest.len(), "no batch though free");
                        let key = names.iter().position(|name| name.as_bytes() == key.object()).unwrap();
                        assert!(!model.allows(key, strongest[&key]), "the key named was free");
                    }
                    Err(other) => panic!("{other:?}"),
                }
            }
        }
        let figures = locks.get_metrics().shard_metrics;
        assert_eq!((figures.holders, figures.waiters), (model.holds(), model.waits()), "after {step:?}");
    }
    drop((waiting, guards));
    detached.iter().for_each(|(_, _, grant)| locks.release(*grant).unwrap());
    assert_at_rest(&locks);
}

/// Makes a program out of any bytes, for the fuzzer.
pub(crate) fn from_bytes(bytes: &[u8]) -> (Vec<Step>, Fairness) {
    let mut bytes = bytes.iter().copied();
    let fairness = if bytes.next().unwrap_or(0) % 4 == 0 { Fairness::default() } else { Fairness::Fifo };
    let mut program = Vec::new();
    while let Some(step) = next_step(&mut bytes) {
        program.push(step);
    }
    (program, fairness)
}

fn next_step(bytes: &mut impl Iterator<Item = u8>) -> Option<Step> {
    let (what, which) = (bytes.next()?, bytes.next()?);
    let mode = if which & 1 == 0 { Mode::Shared } else { Mode::Exclusive };
    let (key, place) = (usize::from(which / 2) % KEYS, usize::from(which));
    Some(match what % 16 {
        0 => Step::Try(key, mode),
        1 => Step::Timeout(key, mode, what & 16 == 0),
        2 => Step::Poll(key, mode),
        3 | 4 => Step::Drop(place),
        5 => Step::Loosen(place),
        6 => Step::Release(place),
        7 => Step::StaleRelease(place),
        8 => Step::Adopt(place),
        9 => Step::Downgrade(place),
        10 => Step::TryUpgrade(place),
        11 => Step::Upgrade(place),
        12 => Step::Look(place),
        13 => Step::Leave(place),
        14 => Step::Wait(key, mode),
        _ => {
            let named = bytes
                .take(place % 6)
                .map(|byte| (usize::from(byte / 2) % KEYS, if byte & 1 == 0 { Mode::Shared } else { Mode::Exclusive }));
            Step::Batch(named.collect(), what & 16 == 0)
        }
    })
}
