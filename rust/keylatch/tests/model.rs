//! Random programs of one thread, against a model so simple that it is right: who holds a key, and how.

mod steps;

use keylatch::{BatchLockRequest, BatchMode, FastLockGuard, Grant, LockConfig, LockError, LockRequest, Mode};
use proptest::prelude::*;
use std::collections::HashMap;
use std::time::Duration;
use steps::*;

#[derive(Debug, Clone)]
enum Step {
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
}

const KEYS: usize = 6;

fn step() -> impl Strategy<Value = Step> {
    let mode = || prop_oneof![Just(Mode::Shared), Just(Mode::Exclusive)];
    let which = 0..64_usize;
    prop_oneof![
        4 => (0..KEYS, mode()).prop_map(|(key, mode)| Step::Try(key, mode)),
        2 => (0..KEYS, mode(), any::<bool>()).prop_map(|(key, mode, future)| Step::Timeout(key, mode, future)),
        2 => (0..KEYS, mode()).prop_map(|(key, mode)| Step::Poll(key, mode)),
        4 => which.clone().prop_map(Step::Drop),
        2 => which.clone().prop_map(Step::Loosen),
        2 => which.clone().prop_map(Step::Release),
        2 => which.clone().prop_map(Step::StaleRelease),
        1 => which.clone().prop_map(Step::Adopt),
        2 => which.clone().prop_map(Step::Downgrade),
        2 => which.clone().prop_map(Step::TryUpgrade),
        1 => which.prop_map(Step::Upgrade),
        2 => (prop::collection::vec((0..KEYS, mode()), 0..6), any::<bool>()).prop_map(|(wanted, best)| Step::Batch(wanted, best)),
    ]
}

/// The model: readers of a key, and whether somebody has it alone.
#[derive(Default)]
struct Model(HashMap<usize, (u32, bool)>);

impl Model {
    fn allows(&self, key: usize, mode: Mode) -> bool {
        match (self.0.get(&key).copied().unwrap_or_default(), mode) {
            ((_, true), _) => false,
            ((readers, _), Mode::Exclusive) => readers == 0,
            (_, Mode::Shared) => true,
        }
    }

    fn take(&mut self, key: usize, mode: Mode) {
        assert!(self.allows(key, mode));
        let held = self.0.entry(key).or_default();
        if mode == Mode::Exclusive { held.1 = true } else { held.0 += 1 }
    }

    fn give(&mut self, key: usize, mode: Mode) {
        let held = self.0.get_mut(&key).expect("held");
        if mode == Mode::Exclusive { held.1 = false } else { held.0 -= 1 }
    }

    fn holds(&self) -> u64 {
        self.0.values().map(|(readers, writer)| u64::from(*readers) + u64::from(*writer)).sum()
    }
}

fn pick<T>(row: &[T], which: usize) -> Option<usize> {
    (!row.is_empty()).then(|| which % row.len())
}

fn run(program: &[Step]) {
    // One shard and a few keys: entries change their keys often.
    let locks = with(LockConfig { shards: 1, ..LockConfig::default() });
    let long = "long".repeat(60);
    let names = ["a", "b", "c", "", "\0", &long];
    let mut model = Model::default();
    let mut guards: Vec<(usize, Mode, FastLockGuard<'_>)> = Vec::new();
    let mut loose: Vec<(usize, Mode, Grant)> = Vec::new();
    let mut stale: Vec<Grant> = Vec::new();
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
                assert_eq!(future.poll().is_ready(), model.allows(key, mode), "and dropped at once, either way");
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
                loose.push((key, mode, guard.into_grant()));
            }
            Step::Release(which) => {
                let Some(place) = pick(&loose, which) else { continue };
                let (key, mode, grant) = loose.swap_remove(place);
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
                let Some(place) = pick(&loose, which) else { continue };
                let (key, mode, grant) = loose.swap_remove(place);
                guards.push((key, mode, locks.adopt(grant).unwrap()));
            }
            Step::Downgrade(which) => {
                let Some(place) = pick(&guards, which) else { continue };
                let (key, mode, guard) = &mut guards[place];
                guard.downgrade();
                model.give(*key, *mode);
                model.take(*key, Mode::Shared);
                *mode = Mode::Shared;
            }
            Step::TryUpgrade(which) | Step::Upgrade(which) => {
                let Some(place) = pick(&guards, which) else { continue };
                let (key, mode, guard) = &mut guards[place];
                let answer = match step {
                    Step::Upgrade(_) => guard.upgrade_blocking(Some(Duration::ZERO)),
                    _ => guard.try_upgrade(),
                };
                model.give(*key, *mode);
                match answer {
                    Ok(()) => *mode = Mode::Exclusive,
                    Err(LockError::WouldBlock { .. } | LockError::Timeout { .. }) => {
                        assert!(!model.allows(*key, Mode::Exclusive), "no upgrade though alone");
                    }
                    Err(other) => panic!("{other:?}"),
                }
                model.take(*key, *mode);
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
        assert_eq!((figures.holders, figures.waiters), (model.holds(), 0), "after {step:?}");
    }
    drop(guards);
    loose.iter().for_each(|(_, _, grant)| locks.release(*grant).unwrap());
    assert_at_rest(&locks);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_program_of_one_thread_does_what_the_model_says(program in prop::collection::vec(step(), 1..120)) {
        run(&program);
    }
}
