//! Deaths of holders in other processes, which the next holder has to learn of.

use crate::tiers::{Alone, WRITE, both, both_with, polled, wait_until};
use keylatch::tier::{Answer, Ask, Effort, Fences, PermitId, Term, Tier, TierError, TierEvents};
use keylatch::{BatchLockRequest, Fairness, FastObjectLockManager, Filter, LockConfig, LockRequest, Mode};
use std::future::{Future, IntoFuture};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

#[test]
fn death_is_known_to_the_next_holder_alone() {
    let tier = Arc::new(Alone::default());
    let locks = FastObjectLockManager::with_tier(LockConfig::default(), tier.clone()).unwrap();
    let died: Vec<_> =
        (0..3).map(|_| locks.lock(WRITE()).blocking().unwrap()).map(|held| held.previous_holder_died()).collect();
    assert_eq!(died, [true, false, false], "the permit is asked for once");
    let other = locks.lock(LockRequest::write(("b", "other"))).try_now().unwrap();
    assert!(other.previous_holder_died());
    drop(other);
    drop(locks);
    assert_eq!(tier.detached.load(Ordering::SeqCst), 1);
}

/// No event has said so yet. Who waits waits for another term.
/// What happens to a future that was informed, or to its hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// The future is dropped.
    Dropped,
    /// The future is dropped, and then the permit is lost.
    DroppedThenLost,
    /// The permit is lost before the future is dropped.
    Lost,
    /// The hold that the future was handed is revoked.
    Revoked,
}

#[test]
fn death_goes_on_where_no_hold_learned_of_it() {
    let patient = Fairness::Eventual { after: Duration::from_secs(3600) };
    for (fairness, ends) in [Fairness::Fifo, patient].into_iter().flat_map(|fairness| {
        [Ends::Dropped, Ends::DroppedThenLost, Ends::Lost, Ends::Revoked].map(|ends| (fairness, ends))
    }) {
        both_with(fairness, |hub, [one, two], [tier, _]| {
            let held = two.lock(WRITE()).blocking().unwrap();
            let (waits, woken) = polled(one.lock(WRITE()).into_future());
            let mut waits = Some(waits);
            hub.note_death(("b", "o").into());
            drop(held);
            woken.wait();
            if matches!(ends, Ends::Dropped | Ends::DroppedThenLost) {
                waits = None;
            }
            match ends {
                Ends::Dropped => {}
                Ends::DroppedThenLost | Ends::Lost => hub.lose(&tier),
                Ends::Revoked => {
                    let revoked = one.force_release(&Filter::default().key(("b", "o")));
                    assert_eq!(revoked.len(), usize::from(fairness == Fairness::Fifo));
                }
            }
            if ends == Ends::DroppedThenLost || ends == Ends::Lost {
                wait_until("no one reports the death", || hub.has_death_to_report(("b", "o").into()));
                hub.renew(&tier);
            }
            drop(waits);
            let next = two.lock(WRITE()).blocking().unwrap();
            assert!(next.previous_holder_died(), "{fairness:?} {ends:?}");
            drop(next);
            assert!(!two.lock(WRITE()).blocking().unwrap().previous_holder_died());
            assert!(!one.lock(WRITE()).blocking().unwrap().previous_holder_died());
        });
    }
}

const BATCH: fn() -> BatchLockRequest<'static> =
    || BatchLockRequest::new("o").add_write_lock("b", "a").add_write_lock("b", "o");

/// The batch tries its first lock, and waits for the second.
#[test]
fn death_goes_on_in_a_batch_that_waits() {
    both(|hub, [_, two], _| {
        let held = two.lock(WRITE()).blocking().unwrap();
        hub.note_death(("b", "a").into());
        let informed = std::thread::scope(|scope| {
            let batch = scope.spawn(|| two.acquire_locks_batch_blocking(BATCH()).unwrap().into_guards());
            wait_until("the batch does not wait", || {
                let all = two.get_metrics().shard_metrics;
                (all.holders, all.waiters) == (2, 1)
            });
            drop(held);
            batch.join().unwrap().iter().filter(|guard| guard.previous_holder_died()).count()
        });
        assert_eq!(informed, 1);
    });
}

#[test]
fn death_goes_on_from_a_batch_that_fails() {
    both(|hub, [one, two], _| {
        let held = two.lock(WRITE()).blocking().unwrap();
        hub.note_death(("b", "a").into());
        let late = two.acquire_locks_batch_blocking(BATCH().timeout(Duration::from_millis(50)));
        assert!(late.is_err());
        drop(held);
        assert!(one.lock(LockRequest::read(("b", "a"))).blocking().unwrap().previous_holder_died());
    });
    both(|hub, [one, two], _| {
        let held = two.lock(WRITE()).blocking().unwrap();
        hub.note_death(("b", "a").into());
        let mut waits = Box::pin(two.acquire_locks_batch(BATCH()));
        wait_until("the future does not wait for its second lock", || {
            assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            let all = two.get_metrics().shard_metrics;
            (all.holders, all.waiters) == (2, 1)
        });
        drop(waits);
        drop(held);
        assert!(one.lock(LockRequest::read(("b", "a"))).blocking().unwrap().previous_holder_died());
    });
}

/// Results that no caller fetched, and a result whose manager is gone.
#[test]
fn death_goes_on_from_unfetched_results() {
    both_with(Fairness::Fifo, |hub, [one, two], _| {
        let held = two.lock(WRITE()).blocking().unwrap();
        let queue = one.completion_queue().unwrap();
        assert!(one.lock(WRITE()).with_queue(&queue, 1).unwrap().ticket().is_some());
        hub.note_death(("b", "o").into());
        drop(held);
        wait_until("no grant", || one.get_metrics().shard_metrics.holders == 1);
        drop(queue);
        assert!(two.lock(WRITE()).blocking().unwrap().previous_holder_died());
        assert!(!two.lock(WRITE()).blocking().unwrap().previous_holder_died());
    });
    both_with(Fairness::Fifo, |hub, [one, two], _| {
        let [held, other] =
            ["o", "other"].map(|object| two.lock(LockRequest::write(("b", object))).blocking().unwrap());
        let (opens, door) = std::sync::mpsc::channel::<()>();
        let (begins, begun) = std::sync::mpsc::channel::<()>();
        let first = one.lock(LockRequest::write(("b", "other"))).with_callback(move |result| {
            result.map(drop).unwrap();
            begins.send(()).unwrap();
            door.recv().unwrap();
        });
        assert!(first.unwrap().ticket().is_some());
        assert!(one.lock(WRITE()).with_callback(|result| assert!(result.is_err())).unwrap().ticket().is_some());
        drop(other);
        begun.recv().unwrap();
        hub.note_death(("b", "o").into());
        drop(held);
        wait_until("no grant", || one.get_metrics().shard_metrics.holders == 1);
        drop(one);
        opens.send(()).unwrap();
        assert!(two.lock(WRITE()).blocking().unwrap().previous_holder_died());
    });
}

/// Answers nothing by itself, and remembers what it was called for.
#[derive(Debug, Default)]
struct Scripted {
    events: Mutex<Option<Arc<dyn TierEvents>>>,
    asked: Mutex<Vec<PermitId>>,
    unreported: Mutex<Vec<PermitId>>,
    /// Calls that report a death return only when it is free.
    door: Mutex<()>,
}

impl Scripted {
    fn events(&self) -> Arc<dyn TierEvents> {
        self.events.lock().unwrap().clone().expect("attached")
    }

    fn asked(&self, nth: usize) -> PermitId {
        wait_until("no ask", || self.asked.lock().unwrap().len() > nth);
        self.asked.lock().unwrap()[nth]
    }

    fn grant(&self, id: PermitId, previous_died: bool) {
        let fences = Fences { first: 1, count: 1000 };
        self.events().answered(id, Answer::Granted { fences, previous_died });
    }
}

impl Tier for Scripted {
    fn attach(&self, events: Arc<dyn TierEvents>) -> Result<Term, TierError> {
        *self.events.lock().unwrap() = Some(events);
        Ok(Term(0))
    }
    fn ask(&self, asks: &[Ask<'_>], _: Effort, _: &mut [Answer]) {
        self.asked.lock().unwrap().extend(asks.iter().map(|ask| ask.id));
    }
    fn withdraw(&self, _: PermitId) {}
    fn give_back(&self, _: PermitId) {}
    fn downgrade(&self, _: PermitId) {}
    fn upgrade(&self, _: PermitId, _: Term, _: Effort) -> Answer {
        Answer::Pending
    }
    fn death_unreported(&self, id: PermitId) {
        self.unreported.lock().unwrap().push(id);
        drop(self.door.lock());
    }
    fn detach(&self) {
        self.events.lock().unwrap().take();
    }
}

/// Events overtake each other.
#[test]
fn death_goes_on_from_a_grant_after_its_loss() {
    for is_renewed in [false, true] {
        let tier = Arc::new(Scripted::default());
        let locks = FastObjectLockManager::with_tier(LockConfig::default(), tier.clone()).unwrap();
        let (waits, woken) = polled(locks.lock(WRITE()).into_future());
        let first = tier.asked(0);
        tier.events().all_lost(Term(0));
        if is_renewed {
            // Another permit is asked for, so that the old one's number is no one's.
            tier.events().renewed(Term(1));
        }
        tier.grant(first, true);
        assert_eq!(*tier.unreported.lock().unwrap(), [first], "renewed: {is_renewed}");
        if !is_renewed {
            tier.events().renewed(Term(1));
        }
        tier.grant(tier.asked(1), false);
        woken.wait();
        drop(waits);
        assert_eq!(tier.unreported.lock().unwrap().len(), 1);
    }
}

/// A writer comes while the tier takes the death in.
#[test]
fn death_does_not_pass_a_newcomer_by() {
    let tier = Arc::new(Scripted::default());
    let config = LockConfig { fairness: Fairness::Fifo, ..LockConfig::default() };
    let locks = FastObjectLockManager::with_tier(config, tier.clone()).unwrap();
    let (unseen, woken) = polled(locks.lock(WRITE()).into_future());
    let first = tier.asked(0);
    tier.grant(first, true);
    woken.wait();
    tier.events().recalled(first, Mode::Shared);
    std::thread::scope(|scope| {
        let shut = tier.door.lock().unwrap();
        scope.spawn(|| drop(unseen));
        wait_until("no one reports the death", || !tier.unreported.lock().unwrap().is_empty());
        let (mut next, woken) = polled(locks.lock(WRITE()).into_future());
        drop(shut);
        tier.grant(tier.asked(1), true);
        woken.wait();
        let result = next.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(result, Poll::Ready(Ok(held)) if held.previous_holder_died()));
    });
}
