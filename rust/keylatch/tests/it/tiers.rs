//! Managers that share their keys through a tier, as processes would.

use crate::tier_hub::{Hub, HubTier, Weather};
use keylatch::tier::{Answer, Ask, Effort, Fences, PermitId, Term, Tier, TierError, TierErrorKind, TierEvents};
use keylatch::{BatchLockRequest, Fairness, FastObjectLockManager, LockConfig, LockError, LockRequest, Lost, Mode};
use std::collections::HashSet;
use std::future::{Future, IntoFuture};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

pub(crate) const WRITE: fn() -> LockRequest<'static> = || LockRequest::write(("b", "o"));
const READ: fn() -> LockRequest<'static> = || LockRequest::read(("b", "o"));

fn process(hub: &Arc<Hub>, config: LockConfig) -> (FastObjectLockManager, Arc<HubTier>) {
    let tier = hub.process();
    (FastObjectLockManager::with_tier(LockConfig { shards: 2, ..config }, tier.clone()).unwrap(), tier)
}

/// Runs a test in calm weather and in rough weather.
pub(crate) fn both(test: impl Fn(&Arc<Hub>, [FastObjectLockManager; 2], [Arc<HubTier>; 2])) {
    both_with(LockConfig::default().fairness, test);
}

pub(crate) fn both_with(fairness: Fairness, test: impl Fn(&Arc<Hub>, [FastObjectLockManager; 2], [Arc<HubTier>; 2])) {
    let config = || LockConfig { fairness, ..LockConfig::default() };
    for weather in [Weather::calm(), Weather::rough(7)] {
        let hub = Hub::new(weather);
        let (one, its_tier) = process(&hub, config());
        let (two, other_tier) = process(&hub, config());
        test(&hub, [one, two], [its_tier, other_tier]);
        hub.stop();
    }
}

#[test]
fn exclusive_hold_excludes_another_process() {
    both(|_, [one, two], _| {
        let held = one.lock(WRITE()).blocking().unwrap();
        assert!(matches!(two.lock(WRITE()).try_now(), Err(LockError::WouldBlock { .. })));
        let refused = two.lock(READ().timeout(Duration::from_millis(1))).blocking().unwrap_err();
        assert!(refused.to_string().contains("another process"), "{refused}");
        let first = held.fence();
        drop(held);
        let next = two.lock(WRITE()).blocking().unwrap();
        assert!(next.fence() > first);
        drop(next);
        let last = one.lock(WRITE()).blocking().unwrap();
        assert!(last.fence() > first + 1);
    });
}

#[test]
fn shared_holds_go_together_across_processes() {
    both(|_, [one, two], _| {
        let (mine, yours) = (one.lock(READ()).blocking().unwrap(), two.lock(READ()).blocking().unwrap());
        let third = two.lock(READ()).try_now().unwrap();
        assert!(one.lock(WRITE()).try_now().is_err());
        drop((mine, yours, third));
        drop(one.lock(WRITE()).blocking().unwrap());
        drop(two.lock(READ()).blocking().unwrap());
    });
}

#[test]
fn kept_permit_serves_without_the_tier() {
    let hub = Hub::new(Weather::calm());
    let (locks, _) = process(&hub, LockConfig::default());
    for turn in 1..100 {
        let held = locks.lock(WRITE()).blocking().unwrap();
        assert_eq!(held.fence(), turn, "one permit, whose numbers are used one after the other");
        drop(held);
        assert_eq!(hub.in_use(), (1, 0));
    }
    hub.stop();
}

#[test]
fn used_up_fences_ask_for_more() {
    let hub = Hub::new(Weather { fences: 3, ..Weather::calm() });
    let [(locks, _), (other, _)] = [(); 2].map(|()| process(&hub, LockConfig::default()));
    let mut last = 0;
    for _ in 0..20 {
        let held = locks.lock(WRITE()).blocking().unwrap();
        assert_eq!(held.fence(), last + 1, "ranges follow each other");
        last = held.fence();
        drop(locks.lock(LockRequest::read(("b", "other"))).blocking().unwrap());
    }
    let mut read = locks.lock(READ()).blocking().unwrap();
    for _ in 0..10 {
        read.upgrade_blocking(None).unwrap();
        assert!(read.fence() > last);
        last = read.fence();
        read.downgrade();
    }
    drop(read);
    for _ in 0..2 {
        let before = last;
        last = other.lock(WRITE()).blocking().unwrap().fence();
        assert!(last > before, "{last} was another process's");
    }
    hub.stop();
}

#[test]
fn upgrade_waits_for_another_process() {
    both(|_, [one, two], _| {
        let mut mine = one.lock(READ()).blocking().unwrap();
        let yours = two.lock(READ()).blocking().unwrap();
        assert!(matches!(mine.try_upgrade(), Err(LockError::WouldBlock { .. })));
        let mut yours = Some(yours);
        std::thread::scope(|scope| {
            let upgrade = scope.spawn(|| (mine.upgrade_blocking(None), mine.mode()));
            while one.get_metrics().shard_metrics.waiters == 0 && !upgrade.is_finished() {
                std::thread::yield_now();
            }
            // Whichever reaches the tier second is refused.
            let is_conflict = |answer: &Result<(), LockError>| matches!(answer, Err(LockError::UpgradeConflict { .. }));
            let guard = yours.as_mut().unwrap();
            let answer = loop {
                match guard.upgrade_blocking(Some(Duration::from_millis(1))) {
                    Err(LockError::Timeout { .. }) if upgrade.is_finished() => break None,
                    Err(LockError::Timeout { .. }) => {}
                    answer => break Some(answer),
                }
            };
            match answer {
                Some(answer) => {
                    assert!(is_conflict(&answer), "{answer:?}");
                    yours = None;
                    assert!(matches!(upgrade.join().unwrap(), (Ok(()), Mode::Exclusive)));
                }
                None => assert!(is_conflict(&upgrade.join().unwrap().0)),
            }
        });
        drop(mine);
        if let Some(mut yours) = yours {
            yours.upgrade_blocking(None).unwrap();
        }
        drop(two.lock(WRITE()).blocking().unwrap());
    });
}

#[test]
fn downgrade_lets_another_process_read() {
    both(|_, [one, two], _| {
        let mut held = one.lock(WRITE()).blocking().unwrap();
        std::thread::scope(|scope| {
            let reads = scope.spawn(|| two.lock(READ()).blocking().map(|guard| guard.mode()));
            while two.get_metrics().shard_metrics.waiters == 0 {
                std::thread::yield_now();
            }
            held.downgrade();
            assert_eq!(reads.join().unwrap().unwrap(), Mode::Shared);
        });
        assert_eq!(held.mode(), Mode::Shared);
    });
}

#[test]
fn cancelled_wait_leaves_nothing_at_the_tier() {
    both(|hub, [one, two], _| {
        let held = one.lock(WRITE()).blocking().unwrap();
        let refused = two.lock(WRITE().timeout(Duration::from_millis(5))).blocking();
        assert!(matches!(refused.map(drop), Err(LockError::Timeout { .. })));
        while hub.in_use() != (1, 0) {
            std::thread::yield_now();
        }
        drop(held);
        drop(one.lock(WRITE()).blocking().unwrap());
        drop(two);
        drop(one);
        while hub.in_use() != (0, 0) {
            std::thread::yield_now();
        }
    });
}

#[test]
fn closed_manager_gives_its_permits_back() {
    both(|_, [one, two], _| {
        let held = one.lock(WRITE()).blocking().unwrap();
        drop(one.lock(LockRequest::write(("b", "idle"))).blocking().unwrap());
        one.close();
        drop(two.lock(LockRequest::write(("b", "idle"))).blocking().unwrap());
        assert!(two.lock(WRITE()).try_now().is_err());
        drop(held);
        drop(two.lock(WRITE()).blocking().unwrap());
    });
}

#[test]
fn many_idle_permits_go_back() {
    let hub = Hub::new(Weather::calm());
    let (locks, _) = process(&hub, LockConfig::default());
    for key in 0..1000 {
        drop(locks.lock(LockRequest::write(("b", format!("{key}").as_str()))).blocking().unwrap());
    }
    let (kept, _) = hub.in_use();
    // Eight a shard, of two, and those that the last grants brought.
    assert!(kept <= 18, "{kept} permits for keys that no thread uses");
    hub.stop();
}

#[test]
fn full_table_gives_idle_permits_back() {
    let hub = Hub::new(Weather::calm());
    let (locks, _) = process(&hub, LockConfig { max_locks: 8, ..LockConfig::default() });
    let held: Vec<_> = (0..4)
        .map(|key| locks.lock(LockRequest::write(("held", format!("{key}").as_str()))).blocking().unwrap())
        .collect();
    for key in 0..100 {
        drop(locks.lock(LockRequest::write(("b", format!("{key}").as_str()))).blocking().unwrap());
    }
    drop(held);
    hub.stop();
}

#[test]
fn revoked_permit_ends_the_hold() {
    both(|_, [one, two], [_, tier]| {
        let held = one.lock(WRITE()).blocking().unwrap();
        let number = one.lock(LockRequest::read(("b", "number"))).grant_blocking().unwrap();
        let (send, lost) = std::sync::mpsc::channel();
        held.on_lost(move |why| send.send(why).unwrap());
        assert_eq!(tier.revoke(("b", "o").into()), Ok(1));
        assert_eq!(tier.revoke(("b", "number").into()), Ok(1));
        assert_eq!(lost.recv().unwrap(), Lost::Permit);
        drop(two.lock(WRITE()).blocking().unwrap());
        drop(two.lock(LockRequest::write(("b", "number"))).blocking().unwrap());
        assert!(matches!(held.try_release(), Err(LockError::LeaseLost { .. })));
        while one.is_valid(number) {
            std::thread::yield_now();
        }
        assert!(matches!(one.release(number), Err(LockError::LeaseLost { .. })));
        drop(one.lock(WRITE()).blocking().unwrap());
    });
}

#[test]
fn lost_term_ends_all_holds() {
    both(|hub, [one, two], [tier, _]| {
        let (held, read) =
            (one.lock(WRITE()).blocking().unwrap(), one.lock(LockRequest::read(("b", "r"))).blocking().unwrap());
        hub.lose(&tier);
        while held.is_valid() || read.is_valid() {
            std::thread::yield_now();
        }
        // The other process goes on; this one waits for another term.
        let yours = two.lock(WRITE()).blocking().unwrap();
        let refused = one.lock(LockRequest::write(("b", "new")).timeout(Duration::from_millis(1))).blocking();
        assert!(matches!(refused, Err(LockError::Timeout { .. })), "{refused:?}");
        let refused = one.lock(LockRequest::write(("b", "new"))).try_now();
        assert!(matches!(refused, Err(LockError::Tier { .. })), "{refused:?}");
        assert!(matches!(held.try_release(), Err(LockError::LeaseLost { .. })));
        drop((read, yours));
        hub.renew(&tier);
        drop(one.lock(WRITE()).blocking().unwrap());
    });
}

#[test]
fn keys_wanted_in_an_outage_leave_the_table() {
    let hub = Hub::new(Weather::calm());
    let (locks, tier) = process(&hub, LockConfig { max_locks: 8, ..LockConfig::default() });
    drop(locks.lock(WRITE()).blocking().unwrap());
    hub.lose(&tier);
    for key in 0..100 {
        let refused = locks.lock(LockRequest::write(("b", format!("{key}").as_str()))).try_now();
        assert!(matches!(refused, Err(LockError::Tier { .. })), "{refused:?}");
    }
    hub.renew(&tier);
    drop(locks.lock(WRITE()).blocking().unwrap());
    hub.stop();
}

/// A lock delay takes a number, which is one of the permit's.
#[test]
fn fence_of_a_lock_delay_is_of_the_permit() {
    let hub = Hub::new(Weather { fences: 2, ..Weather::calm() });
    let config = LockConfig { lock_delay: Duration::from_micros(1), ..LockConfig::default() };
    let (one, _) = process(&hub, config.clone());
    let (two, _) = process(&hub, config);
    let mut last = 0;
    let mut grows = |fence| {
        assert!(fence > last, "{fence} after {last}");
        last = fence;
    };
    for _ in 0..20 {
        let expired = one.lock(WRITE().ttl(Duration::from_micros(1))).blocking().unwrap();
        grows(expired.fence());
        let next = one.lock(WRITE()).blocking().unwrap();
        grows(next.fence());
        drop((expired, next));
        for _ in 0..2 {
            grows(two.lock(WRITE()).blocking().unwrap().fence());
        }
    }
    hub.stop();
}

/// Grants everything, after processes that died, or cannot be reached at all.
#[derive(Debug, Default)]
pub(crate) struct Alone {
    unreachable: bool,
    /// By its clock the term is over, and no event has said so.
    is_over: AtomicBool,
    pub(crate) detached: AtomicU64,
}

impl Tier for Alone {
    fn attach(&self, _: Arc<dyn TierEvents>) -> Result<Term, TierError> {
        let refusal = || TierError::new(TierErrorKind::NotPermitted, "the door is shut", "knock");
        if self.unreachable { Err(refusal()) } else { Ok(Term(0)) }
    }
    fn ask(&self, _: &[Ask<'_>], _: Effort, answers: &mut [Answer]) {
        let fences = Fences { first: 1, count: 1000 };
        answers.fill(Answer::Granted { fences, previous_died: true });
    }
    fn withdraw(&self, _: PermitId) {}
    fn give_back(&self, _: PermitId) {}
    fn downgrade(&self, _: PermitId) {}
    fn upgrade(&self, _: PermitId, _: Term, _: Effort) -> Answer {
        Answer::Granted { fences: Fences { first: 2000, count: 1000 }, previous_died: false }
    }
    fn is_current(&self) -> bool {
        !self.is_over.load(Ordering::SeqCst)
    }
    fn detach(&self) {
        self.detached.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn term_that_is_over_by_the_clock_grants_nothing() {
    let refused = |answer: Result<(), LockError>| {
        assert!(matches!(answer, Err(LockError::Tier { .. } | LockError::Timeout { .. })), "{answer:?}");
    };
    type Verb = fn(&FastObjectLockManager) -> Result<(), LockError>;
    let verbs: [Verb; 4] = [
        |locks| locks.lock(WRITE()).try_now().map(drop),
        |locks| locks.lock(WRITE().timeout(Duration::from_millis(1))).blocking().map(drop),
        |locks| locks.lock(READ()).grant_now().map(drop),
        |locks| {
            let mut waits = Box::pin(locks.lock(WRITE().timeout(Duration::from_millis(1))).into_future());
            loop {
                if let Poll::Ready(answer) = waits.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    return answer.map(drop);
                }
            }
        },
    ];
    for verb in verbs {
        for is_kept in [false, true] {
            let tier = Arc::new(Alone::default());
            let locks = FastObjectLockManager::with_tier(LockConfig::default(), tier.clone()).unwrap();
            if is_kept {
                (0..2).for_each(|_| drop(locks.lock(WRITE()).blocking().unwrap()));
            }
            tier.is_over.store(true, Ordering::SeqCst);
            refused(verb(&locks));
            assert_eq!(locks.get_metrics().shard_metrics.holders, 0);
        }
    }
    let tier = Arc::new(Alone::default());
    let locks = FastObjectLockManager::with_tier(LockConfig::default(), tier.clone()).unwrap();
    let mut reads = locks.lock(READ()).blocking().unwrap();
    tier.is_over.store(true, Ordering::SeqCst);
    refused(reads.upgrade_blocking(None));
}

/// Polls a future once, which has to wait.
pub(crate) fn polled<F: Future>(future: F) -> (std::pin::Pin<Box<F>>, Arc<Woken>) {
    let (mut future, woken) = (Box::pin(future), Arc::new(Woken::default()));
    let waker = Waker::from(Arc::clone(&woken));
    assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    (future, woken)
}

/// Waits for what comes soon, unless the test fails.
pub(crate) fn wait_until(otherwise: &str, mut is_so: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < limit, "{otherwise}");
        std::thread::yield_now();
    }
}

/// A recall comes when a future was informed, and before it is polled.
#[test]
fn recall_leaves_a_notified_future_its_turn() {
    both_with(Fairness::Eventual { after: Duration::from_secs(3600) }, |_, [one, two], _| {
        let held = two.lock(WRITE()).blocking().unwrap();
        let mut waits = Box::pin(one.lock(WRITE()).into_future());
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        assert!(waits.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        drop(held);
        woken.wait();
        std::thread::scope(|scope| {
            let next = scope.spawn(|| two.lock(WRITE()).blocking().map(drop).unwrap());
            while one.get_metrics().shard_metrics.holders == 0 && !next.is_finished() {
                std::thread::yield_now();
            }
            assert!(!next.is_finished(), "the permit went back without a hold");
            assert!(waits.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
        });
    });
}

/// A waker that a thread can wait for.
#[derive(Default)]
pub(crate) struct Woken(AtomicBool);

impl Woken {
    pub(crate) fn wait(&self) {
        while !self.0.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn tier_that_refuses_makes_no_manager() {
    let tier = Arc::new(Alone { unreachable: true, ..Alone::default() });
    let refused = FastObjectLockManager::with_tier(LockConfig::default(), tier.clone()).unwrap_err();
    assert!(refused.to_string().contains("the door is shut; knock"), "{refused}");
    assert_eq!(tier.detached.load(Ordering::SeqCst), 1, "what it has begun ends");
}

#[test]
fn batch_takes_all_or_nothing() {
    both(|_, [one, two], _| {
        let batch =
            || BatchLockRequest::new("owner").add_write_lock("b", "x").add_read_lock("b", "y").add_write_lock("b", "z");
        let held = one.lock(LockRequest::write(("b", "y"))).blocking().unwrap();
        let late = two.acquire_locks_batch_blocking(batch().timeout(Duration::from_millis(20)));
        assert!(late.is_err());
        drop(held);
        let all = two.acquire_locks_batch_blocking(batch()).unwrap();
        assert_eq!(all.len(), 3);
        drop(all);
        drop(one.acquire_locks_batch_blocking(batch()).unwrap());
    });
}

/// What the threads of all processes do to one key, and what they see.
#[derive(Default)]
struct Protected {
    /// Readers, or minus one for a writer.
    inside: AtomicI64,
    last_fence: AtomicU64,
}

impl Protected {
    fn visit(&self, mode: Mode, fence: u64) {
        match mode {
            Mode::Exclusive => {
                assert_eq!(self.inside.swap(-1, Ordering::SeqCst), 0, "beside a writer");
                let before = self.last_fence.swap(fence, Ordering::SeqCst);
                assert!(fence > before, "{fence} after {before}");
                assert_eq!(self.inside.swap(0, Ordering::SeqCst), -1);
            }
            Mode::Shared => {
                assert!(self.inside.fetch_add(1, Ordering::SeqCst) >= 0, "a reader beside a writer");
                assert!(self.inside.fetch_sub(1, Ordering::SeqCst) > 0);
            }
        }
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

const KEYS: [&str; 2] = ["x", "y"];

/// One random request; returns whether it was granted.
fn one_request(locks: &FastObjectLockManager, random: &mut Random, protected: &[Protected; 2]) -> bool {
    let key = random.below(2) as usize;
    let mode = if random.below(3) == 0 { Mode::Shared } else { Mode::Exclusive };
    let request = LockRequest::new(("b", KEYS[key]), mode);
    let work = |guard: &keylatch::FastLockGuard<'_>| protected[key].visit(guard.mode(), guard.fence());
    match random.below(8) {
        0 => locks.lock(request).try_now().map(|guard| work(&guard)).is_ok(),
        1 => {
            let limit = Duration::from_micros(random.below(300));
            locks.lock(request.timeout(limit)).blocking().map(|guard| work(&guard)).is_ok()
        }
        2 => {
            let Ok(mut guard) = locks.lock(request).blocking() else { return false };
            work(&guard);
            guard.downgrade();
            work(&guard);
            true
        }
        3 => {
            let Ok(mut guard) = locks.lock(LockRequest::read(("b", KEYS[key]))).blocking() else { return false };
            work(&guard);
            let limit = Duration::from_micros(500);
            if guard.upgrade_blocking(Some(limit)).is_ok() {
                work(&guard);
            } else {
                assert_eq!(guard.mode(), Mode::Shared);
                work(&guard);
            }
            true
        }
        4 => {
            let Ok(mut guard) = locks.lock(LockRequest::read(("b", KEYS[key]))).blocking() else { return false };
            let _ = guard.try_upgrade();
            work(&guard);
            true
        }
        5 => {
            let batch = BatchLockRequest::new("batch").add_write_lock("b", "y").add_write_lock("b", "x");
            let Ok(all) = locks.acquire_locks_batch_blocking(batch) else { return false };
            for guard in all.into_guards() {
                let key = usize::from(guard.key().object() == b"y");
                protected[key].visit(guard.mode(), guard.fence());
            }
            true
        }
        _ => locks.lock(request).blocking().map(|guard| work(&guard)).is_ok(),
    }
}

fn run_randomly(seed: u64, fairness: Fairness, weather: Weather, turns: u32) {
    let hub = Hub::new(weather);
    let protected: [Protected; 2] = Default::default();
    let processes: Vec<_> = (0..3).map(|_| process(&hub, LockConfig { fairness, ..LockConfig::default() })).collect();
    let granted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for (number, (locks, _)) in processes.iter().enumerate() {
            for thread in 0..2 {
                let (granted, protected) = (&granted, &protected);
                scope.spawn(move || {
                    let mut random = Random(seed.wrapping_mul(31) + number as u64 * 7 + thread + 1);
                    for _ in 0..turns {
                        granted.fetch_add(u64::from(one_request(locks, &mut random, protected)), Ordering::Relaxed);
                    }
                });
            }
        }
    });
    assert!(granted.into_inner() > u64::from(turns));
    for (locks, _) in &processes {
        let figures = locks.get_metrics().shard_metrics;
        assert_eq!((figures.holders, figures.waiters), (0, 0));
        locks.close();
    }
    drop(processes);
    // A courier may be the last to know a manager, which is then detached on a thread of its own.
    while hub.in_use() != (0, 0) {
        std::thread::yield_now();
    }
    hub.stop();
}

/// Terms end and begin all the while.
///
/// No waiter is stuck, and no number is given out twice.
#[test]
fn random_requests_while_terms_end() {
    for seed in 1..=4 {
        let delay = Duration::from_micros(if seed % 2 == 0 { 40 } else { 0 });
        let hub = Hub::new(Weather { seed, delay, unavailable: 20, fences: 50 });
        let config = || LockConfig { fairness: POLICIES[seed as usize % 4], ..LockConfig::default() };
        let processes: Vec<_> = (0..2).map(|_| process(&hub, config())).collect();
        let (seen, working) = (Mutex::new(HashSet::new()), AtomicI64::new(4));
        std::thread::scope(|scope| {
            for (number, (locks, _)) in processes.iter().enumerate() {
                for thread in 0..2 {
                    let (seen, working) = (&seen, &working);
                    scope.spawn(move || {
                        let mut random = Random(seed * 31 + number as u64 * 7 + thread + 1);
                        for _ in 0..200 {
                            let mode = if random.below(3) == 0 { Mode::Shared } else { Mode::Exclusive };
                            let key = random.below(2) as usize;
                            let granted = locks.lock(LockRequest::new(("b", KEYS[key]), mode)).blocking();
                            match granted {
                                Ok(guard) if mode == Mode::Exclusive => {
                                    assert!(seen.lock().unwrap().insert((key, guard.fence())), "twice");
                                }
                                Ok(_) => {}
                                Err(error) => assert!(matches!(error, LockError::Tier { .. }), "{error}"),
                            }
                        }
                        working.fetch_sub(1, Ordering::SeqCst);
                    });
                }
            }
            while working.load(Ordering::SeqCst) > 0 {
                for (_, tier) in &processes {
                    hub.lose(tier);
                    std::thread::yield_now();
                    hub.renew(tier);
                }
            }
        });
        for (locks, _) in &processes {
            let figures = locks.get_metrics().shard_metrics;
            assert_eq!((figures.holders, figures.waiters), (0, 0));
        }
        drop(processes);
        hub.stop();
    }
}

const POLICIES: [Fairness; 4] = [
    Fairness::Fifo,
    Fairness::WriterFirst,
    Fairness::ReaderFirst,
    Fairness::Eventual { after: Duration::from_micros(50) },
];

/// Never two holders by mode, fences grow, and no waiter is stuck.
#[test]
fn random_requests_in_calm_weather() {
    for seed in 1..=8 {
        run_randomly(seed, POLICIES[seed as usize % 4], Weather { fences: 1 + seed as u32, ..Weather::calm() }, 300);
    }
}

#[test]
fn random_requests_in_rough_weather() {
    for seed in 1..=8 {
        let fences = if seed % 2 == 0 { 3 } else { 1 << 16 };
        let unavailable = if seed % 3 == 0 { 50 } else { 0 };
        let delay = Duration::from_micros(60);
        run_randomly(seed, POLICIES[seed as usize % 4], Weather { seed, delay, unavailable, fences }, 100);
    }
}
