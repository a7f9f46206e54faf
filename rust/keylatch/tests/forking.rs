//! In a forked child every call fails immediately, whatever the parent's threads were in the middle of, and a new
//! manager works there.
#![cfg(unix)]

#[path = "it/steps/mod.rs"]
mod steps;
#[path = "tier_hub/mod.rs"]
mod tier_hub;

use keylatch::tier::{Answer, Ask, Effort, Fences, PermitId, Term, Tier, TierError, TierEvents};
use keylatch::{
    AdaptiveTimeout, BatchLockRequest, BatchMode, EventOptions, Fairness, FastObjectLockManager, Filter, LockConfig,
    LockError, LockRequest, Mode, OwnedLockGuard, Submitted, TopBy,
};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, FromRawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;
use steps::*;

unsafe extern "C" {
    safe fn fork() -> i32;
    safe fn waitpid(child: i32, status: Option<&mut i32>, options: i32) -> i32;
    safe fn _exit(status: i32) -> !;
    safe fn alarm(seconds: u32) -> u32;
    safe fn pipe(ends: &mut [i32; 2]) -> i32;
}

/// Seconds after which a child that hangs is ended.
const A_CHILDS_LIFE: u32 = 60;

/// Where a child says what it asks, so that its parent knows where it stopped.
struct Asks(File);

impl Asks {
    fn about_to(&mut self, what: &str) {
        writeln!(self.0, "{what}").expect("the pipe has room for all of it");
    }
}

/// Runs `checks` in a forked child, which names each before it asks.
///
/// The answers must all be true.
fn in_a_child(checks: impl FnOnce(&mut Asks) -> bool) {
    let mut ends = [0; 2];
    assert_eq!(pipe(&mut ends), 0, "no pipe to be had");
    // SAFETY: just made, and owned by nothing else.
    let [mut reader, tells] = ends.map(|end| unsafe { File::from_raw_fd(end) });
    let child = fork();
    assert!(child >= 0, "no process to be had");
    if child == 0 {
        alarm(A_CHILDS_LIFE);
        let good = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| checks(&mut Asks(tells))));
        _exit(if let Ok(true) = good { 0 } else { 1 });
    }
    drop(tells);
    let mut asked = String::new();
    reader.read_to_string(&mut asked).unwrap();
    let mut status = 0;
    assert_eq!(waitpid(child, Some(&mut status), 0), child);
    let last = asked.lines().last().unwrap_or("nothing");
    match status {
        0 => {}
        14 => panic!("the child hung: {last}"),
        _ => panic!("the child ended with {status:#x}: {last}"),
    }
}

/// Asks something, which must be true, and says before what it is.
macro_rules! ask {
    ($asks:ident, $($call:expr),+ $(,)?) => {
        $($asks.about_to(stringify!($call));
        if !$call {
            return false;
        })+
    };
}

fn is_forked<T>(answer: Result<T, LockError>) -> bool {
    match answer {
        Err(LockError::Batch { cause, .. }) => *cause == LockError::Forked,
        Err(error) => error == LockError::Forked,
        Ok(_) => false,
    }
}

fn says_forked<T>(answer: std::io::Result<T>) -> bool {
    answer
        .err()
        .and_then(std::io::Error::into_inner)
        .is_some_and(|error| error.to_string() == LockError::Forked.to_string())
}

#[test]
fn forked_child_gets_errors_parent_goes_on() {
    let locks = few_shards(Fairness::default());
    let held = locks.acquire_write_lock_blocking("b", "held", "parent").unwrap();
    let grant = locks.acquire_write_lock_blocking("b", "detached", "parent").unwrap().into_grant();
    let queue = locks.completion_queue().unwrap();
    let ticket = locks.lock(LockRequest::write(("b", "held"))).with_queue(&queue, 1).unwrap().ticket().unwrap();
    let mut future = ByHand::waiting(locks.acquire_read_lock("b", "held", "future"));
    let mut held = Some(held);
    let handle = locks.clone();
    in_a_child(|asks| {
        ask!(asks, is_forked(locks.release(grant)), !locks.cancel(ticket));
        locks.close();
        drop(held.take());
        drop(handle);
        let fresh = few_shards(Fairness::default());
        ask!(asks, fresh.acquire_write_lock_blocking("b", "held", "child").is_ok());
        true
    });
    assert!(future.poll().is_pending(), "the parent's lock is still held");
    assert!(!locks.is_closed());
    assert!(locks.cancel(ticket));
    locks.release(grant).unwrap();
    drop(held);
    drop(future.after_wakes().unwrap());
    drop((future, queue));
    assert_at_rest(&locks);
}

/// What the parent's threads do while children are forked.
///
/// Each takes mutexes that a child may find locked for ever.
fn bustle(locks: &FastObjectLockManager, what: usize, round: u64, shared: &Shared) {
    let key = (round % 20).to_string();
    let request = LockRequest::write(("b", key.as_str()));
    // Not ever new ones: a thread that prints the manager prints all of them.
    let name = format!("name {what} {}", round % 200);
    match what {
        // Names, and the records and entries of keys that come and go.
        0 => drop(locks.lock(request.owner(name.as_str())).try_now().map(|guard| guard.owner())),
        1 => match round % 5 {
            0 => drop(locks.get_metrics()),
            1 => drop((locks.holders(&Filter::new()), locks.waiters(&Filter::new()))),
            2 => drop((locks.top(3, TopBy::Age), locks.blocking_chain(("b", "held")))),
            3 => drop((locks.lock_order_reports(), locks.recent_deadlocks(), locks.health())),
            _ => drop(shared.guard.owner()),
        },
        // Events: subscribing, reporting and fetching.
        2 => {
            let own = locks.subscribe(EventOptions::default());
            let _ = locks.lock(LockRequest::read(("b", "held")).timeout(Duration::from_nanos(1))).blocking();
            drop((own.try_next(), shared.events.try_next(), shared.events.is_closed()));
        }
        // Sessions, and what is remembered of their requests.
        3 => {
            let session = locks.session(&name).release_on_drop(round.is_multiple_of(2));
            let numbered = locks.lock(request.owner(&session).request_id(1)).grant_now();
            let batch = BatchLockRequest::new(&session).add_write_lock("b", "x").add_write_lock("b", "y");
            drop(locks.acquire_locks_batch_blocking(batch.timeout(Duration::ZERO)));
            numbered.into_iter().for_each(|grant| drop(locks.release(grant)));
            shared.session.answered(round, shared.grant);
        }
        // Mail.
        4 => {
            let waits = locks.lock(LockRequest::write(("b", "held"))).with_queue(&shared.queue, round);
            waits.iter().filter_map(Submitted::ticket).for_each(|ticket| {
                locks.cancel(ticket);
            });
            drop(shared.queue.try_next());
            drop(
                locks
                    .lock(LockRequest::write(("b", "held")))
                    .with_callback(drop)
                    .map(|waits| waits.ticket().map(|ticket| locks.cancel(ticket))),
            );
        }
        // Leases, losses, and who listens to them.
        5 => {
            let leased = locks.lock(request.ttl(Duration::from_nanos(1)).owner(name.as_str())).try_now();
            leased.iter().for_each(|guard| guard.on_lost(drop));
            drop((locks.expire(&Filter::new().owner(&name)), leased));
            let _ = (locks.is_current(("b", "held"), 1), locks.key_and_mode(shared.grant), shared.guard.is_valid());
            shared.guard.on_lost(drop);
        }
        // Futures, and the timer's thread.
        _ => {
            let mut future =
                ByHand::new(locks.lock(LockRequest::write(("b", "held")).timeout(Duration::from_millis(1))));
            let _ = future.poll();
        }
    }
}

/// What the parent has in use while it forks.
struct Shared {
    guard: OwnedLockGuard,
    grant: keylatch::Grant,
    session: keylatch::Session,
    events: keylatch::Events,
    queue: keylatch::CompletionQueue,
}

/// What the thread that forks has for itself, because it takes it to change it.
struct Own {
    guard: OwnedLockGuard,
    events: keylatch::Events,
}

/// Every call there is, in a child.
fn every_call(locks: &FastObjectLockManager, shared: &Shared, own: &mut Own, asks: &mut Asks) -> bool {
    const SHORT: Option<Duration> = Some(Duration::from_millis(1));
    let Shared { guard, grant, session, events, queue } = shared;
    let (grant, all) = (*grant, Filter::all());
    let Own { guard: mine, events: received } = own;
    let write = || LockRequest::write(("b", "free")).owner("a name that is new");
    let of_session = || LockRequest::write(("b", "free")).owner(&*session);
    let batch = || BatchLockRequest::new("another").add_write_lock("b", "free").add_read_lock("b", "held");
    let of_session_batch = || BatchLockRequest::new(&*session).add_write_lock("b", "y").add_write_lock("b", "x");
    // Requests.
    ask!(
        asks,
        is_forked(locks.lock(write()).try_now()),
        is_forked(locks.lock(write()).blocking()),
        is_forked(locks.lock(write().timeout(Duration::ZERO)).blocking()),
        is_forked(locks.lock(write().ttl(Duration::from_secs(1))).blocking()),
        is_forked(locks.lock(LockRequest::read(("b", "held"))).blocking()),
        is_forked(locks.lock(LockRequest::read(("b", "held", "v"))).try_now()),
        is_forked(locks.lock(write()).grant_now()),
        is_forked(locks.lock(write()).grant_blocking()),
        is_forked(locks.lock(of_session()).blocking()),
        is_forked(locks.lock(of_session().request_id(1)).grant_blocking()),
        is_forked(locks.lock(of_session().request_id(1)).grant_now()),
        is_forked(ByHand::new(locks.lock(write())).ready()),
        is_forked(ByHand::new(locks.acquire_read_lock("b", "held", "x")).ready()),
        is_forked(locks.lock(write()).with_queue(queue, 2)),
        is_forked(locks.lock(write()).with_callback(drop)),
        is_forked(locks.acquire_locks_batch_blocking(batch())),
        is_forked(locks.acquire_locks_batch_blocking(batch().mode(BatchMode::BestEffort))),
        is_forked(locks.acquire_locks_batch_blocking(batch().ttl(Duration::from_secs(1)))),
        is_forked(locks.acquire_locks_batch_blocking(of_session_batch())),
        is_forked(ByHand::new(Box::pin(locks.acquire_locks_batch(batch()))).ready()),
    );
    // Grants.
    ask!(
        asks,
        is_forked(locks.release(grant)),
        is_forked(locks.adopt(grant)),
        is_forked(locks.renew(grant, Duration::from_secs(1))),
        is_forked(locks.remaining(grant)),
        !locks.is_valid(grant),
        is_forked(locks.fence(grant)),
        is_forked(locks.is_current(("b", "held"), 1)),
        is_forked(locks.key_and_mode(grant)),
        is_forked(locks.downgrade(grant)),
        is_forked(locks.try_upgrade(grant)),
        is_forked(locks.upgrade_blocking(grant, None)),
        is_forked(locks.upgrade_with_queue(grant, None, queue, 1)),
        is_forked(locks.on_lost(grant, drop)),
    );
    // A guard.
    ask!(
        asks,
        guard.owner().is_empty(),
        guard.mode() == Mode::Shared,
        guard.key().object() == b"held",
        guard.fence() == 0,
        guard.remaining() == Some(Duration::ZERO),
        !guard.is_valid(),
        is_forked(guard.renew(Duration::from_secs(1))),
        is_forked(mine.try_upgrade()),
        is_forked(mine.try_downgrade()),
        is_forked(mine.upgrade_blocking(SHORT)),
        is_forked(ByHand::new(mine.upgrade(SHORT)).ready()),
        ByHand::new(guard.lost()).poll().is_pending(),
        format!("{guard:?}").contains("held"),
    );
    asks.about_to("guard.downgrade(), on_lost()");
    mine.downgrade();
    guard.on_lost(drop);
    // Owners and sessions.
    ask!(
        asks,
        format!("{:?}", locks.owner("a new owner")).contains("Owner"),
        format!("{:?}", locks.owner_with_source("a new owner", "here")).contains("Owner"),
        locks.session("a new session").name().is_empty(),
        locks.session_with_source("a new session", "here").release_all() == 0,
        session.release_all() == 0,
        &*session.name() == "the parent's",
        format!("{session:?}").contains("Session"),
    );
    asks.about_to("session.answered(), and the drop of a new session");
    session.answered(7, grant);
    drop(locks.session("another").release_on_drop(true));
    // Questions.
    ask!(
        asks,
        locks.holders(&all).is_empty() && locks.holders(&Filter::new().key(("b", "held"))).is_empty(),
        locks.waiters(&all).is_empty() && locks.waiters(&Filter::new().key(("b", "held"))).is_empty(),
        locks.top(3, TopBy::Age).is_empty() && locks.top(3, TopBy::Waiters).is_empty(),
        locks.blocking_chain(("b", "held")).is_empty(),
        locks.blocking_chain("name").is_empty() && locks.blocking_chain(session).is_empty(),
        locks.force_release(&all).is_empty() && locks.expire(&all).is_empty(),
        locks.lock_order_reports().reports.is_empty(),
        locks.recent_deadlocks().is_empty(),
        locks.get_metrics().shard_metrics.holders == 0,
        !format!("{:?}", locks.health()).is_empty(),
        locks.adaptive_timeout().is_some() && locks.default_timeout().is_some(),
        format!("{locks:?}").contains("FastObjectLockManager"),
        locks.config().shards == 1 && !locks.is_closed(),
    );
    // Events.
    let mut closed = locks.subscribe(EventOptions::default());
    ask!(
        asks,
        closed.try_next().is_none() && closed.next(None).is_none() && closed.is_closed(),
        matches!(ByHand::new(closed.recv()).poll(), Poll::Ready(None)),
        events.try_next().is_none() && events.next(None).is_none() && events.next(SHORT).is_none(),
        matches!(ByHand::new(received.recv()).poll(), Poll::Ready(None)),
        events.is_closed(),
        says_forked(events.descriptor().map(drop)),
        events.dropped() < u64::MAX,
        format!("{events:?}").contains("Events"),
    );
    asks.about_to("events.close(), and the drop of a subscription");
    events.close();
    drop(closed);
    // Queues.
    ask!(
        asks,
        queue.try_next().is_none() && queue.is_over(),
        says_forked(queue.next(None)) && says_forked(queue.next(SHORT)),
        format!("{queue:?}").contains("CompletionQueue"),
        locks.completion_queue().is_ok_and(|new| new.try_next().is_none() && new.as_fd().try_clone_to_owned().is_ok()),
    );
    locks.close();
    true
}

struct SetWhenDropped<'a>(&'a AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Forks while the parent's threads are in the middle of everything.
#[test]
#[cfg_attr(tsan, ignore = "ThreadSanitizer does not follow a process with threads through a fork")]
fn no_call_hangs_in_child_of_busy_process() {
    for lock_order_lint in [false, true] {
        let locks = with(LockConfig {
            shards: 1,
            lock_order_lint,
            deadlock_delay: Some(Duration::ZERO),
            adaptive: Some(AdaptiveTimeout::default()),
            ..LockConfig::default()
        });
        let mut own = Own {
            guard: locks.acquire_read_lock_blocking("b", "held", "who forks").unwrap().into_owned(),
            events: locks.subscribe(EventOptions::default()),
        };
        let shared = Shared {
            guard: locks.acquire_read_lock_blocking("b", "held", "the parent").unwrap().into_owned(),
            grant: locks.acquire_write_lock_blocking("b", "detached", "the parent").unwrap().into_grant(),
            session: locks.session("the parent's"),
            events: locks.subscribe(EventOptions { wait_above: Some(Duration::ZERO), ..EventOptions::default() }),
            queue: locks.completion_queue().unwrap(),
        };
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for thread in 0..3 {
                let (locks, shared, done) = (&locks, &shared, &done);
                scope.spawn(move || {
                    (0..)
                        .take_while(|_| !done.load(Ordering::Relaxed))
                        .for_each(|round| bustle(locks, (thread + round as usize) % 7, round, shared));
                });
            }
            // Also if a child failed: the others would go on for ever.
            let _done = SetWhenDropped(&done);
            for _ in 0..30 {
                in_a_child(|asks| every_call(&locks, &shared, &mut own, asks));
            }
        });
        locks.release(shared.grant).unwrap();
        drop((shared, own));
        assert_at_rest(&locks);
    }
}

/// What waits in the parent ends in the child: futures, upgrades, letters.
#[test]
fn what_waits_in_the_parent_is_over_in_the_child() {
    let locks = few_shards(Fairness::default());
    let held = locks.acquire_write_lock_blocking("b", "held", "parent").unwrap();
    let other = locks.acquire_read_lock_blocking("b", "read", "other").unwrap();
    let mut reader = locks.acquire_read_lock_blocking("b", "read", "reader").unwrap();
    let mut events = locks.subscribe(EventOptions::default());
    let lost = held.lost();
    {
        let mut waits = ByHand::waiting(locks.acquire_read_lock("b", "held", "future"));
        let mut upgrades = ByHand::waiting(reader.upgrade(None));
        let mut lost = ByHand::waiting(lost);
        let mut next = ByHand::waiting(events.recv());
        in_a_child(|asks| {
            ask!(
                asks,
                is_forked(waits.ready()),
                is_forked(upgrades.ready()),
                lost.poll().is_pending(),
                matches!(next.poll(), Poll::Ready(None)),
            );
            asks.about_to("the drop of what waited");
            drop((waits, upgrades, lost, next));
            true
        });
    }
    drop((held, other, reader, events));
    assert_at_rest(&locks);
}

/// No call in a child waits for the parent's tier.
#[test]
fn tier_stays_with_its_parent() {
    let hub = tier_hub::Hub::new(tier_hub::Weather::calm());
    let tier = hub.process();
    let locks = FastObjectLockManager::with_tier(LockConfig::default(), tier).unwrap();
    let held = locks.lock(LockRequest::write(("b", "held"))).blocking().unwrap();
    drop(locks.lock(LockRequest::write(("b", "kept"))).blocking().unwrap());
    in_a_child(|asks| {
        ask!(
            asks,
            is_forked(locks.lock(LockRequest::write(("b", "kept"))).try_now()),
            is_forked(locks.lock(LockRequest::read(("b", "new"))).blocking()),
            is_forked(locks.lock(LockRequest::write(("b", "held"))).blocking()),
            !held.is_valid() || is_forked(locks.lock(LockRequest::read(("b", "held"))).try_now()),
        );
        locks.close();
        true
    });
    drop(held);
    drop(locks.lock(LockRequest::write(("b", "held"))).blocking().unwrap());
    hub.stop();
}

/// Grants everything, and counts what it is asked.
#[derive(Debug, Default)]
struct Counted {
    calls: AtomicU64,
    events: Mutex<Option<Arc<dyn TierEvents>>>,
    last: Mutex<Option<PermitId>>,
}

impl Counted {
    fn call(&self) {
        self.calls.fetch_add(1, Ordering::SeqCst);
    }

    fn grant(&self) -> Answer {
        Answer::Granted { fences: Fences { first: 1, count: 1000 }, previous_died: true }
    }
}

impl Tier for Counted {
    fn attach(&self, events: Arc<dyn TierEvents>) -> Result<Term, TierError> {
        *self.events.lock().unwrap() = Some(events);
        Ok(Term(0))
    }

    fn ask(&self, asks: &[Ask<'_>], _: Effort, answers: &mut [Answer]) {
        self.call();
        *self.last.lock().unwrap() = asks.last().map(|ask| ask.id);
        answers.fill(self.grant());
    }

    fn withdraw(&self, _: PermitId) {
        self.call();
    }

    fn give_back(&self, _: PermitId) {
        self.call();
    }

    fn death_unreported(&self, _: PermitId) {
        self.call();
    }

    fn downgrade(&self, _: PermitId) {
        self.call();
    }

    fn upgrade(&self, _: PermitId, _: Term, _: Effort) -> Answer {
        self.call();
        self.grant()
    }

    fn is_current(&self) -> bool {
        self.call();
        true
    }

    fn detach(&self) {
        self.call();
    }
}

/// Whatever the child does to the manager, and the tier says to it.
#[test]
fn child_calls_nothing_of_the_tier() {
    let tier = Arc::new(Counted::default());
    let locks = FastObjectLockManager::with_tier(LockConfig::default(), tier.clone()).unwrap();
    let mut writes = Some(locks.lock(LockRequest::write(("b", "held"))).blocking().unwrap());
    let mut reads = locks.lock(LockRequest::read(("b", "read"))).blocking().unwrap();
    let mut future = ByHand::waiting(locks.acquire_write_lock("b", "held", "future"));
    let pin = locks.pin(("b", "pinned")).unwrap();
    let prepared = locks.prepare(("b", "kept")).unwrap();
    drop(locks.lock(LockRequest::write(("b", "kept"))).blocking().unwrap());
    let recalled = tier.last.lock().unwrap().expect("asked for");
    let events = tier.events.lock().unwrap().clone().expect("attached");
    let before = tier.calls.load(Ordering::SeqCst);
    let mut handle = Some(locks.clone());
    in_a_child(|asks| {
        ask!(
            asks,
            is_forked(locks.lock(LockRequest::write(("b", "kept"))).try_now()),
            is_forked(locks.lock(LockRequest::write(("b", "kept"))).blocking()),
            is_forked(locks.lock(LockRequest::write(("b", "new"))).blocking()),
            is_forked(locks.lock(LockRequest::write(("b", "kept")).timeout(Duration::ZERO)).blocking()),
            is_forked(locks.lock(LockRequest::read(("b", "read"))).grant_now()),
            is_forked(pin.try_acquire_write_lock("child")),
            is_forked(pin.acquire_read_lock_blocking("child")),
            matches!(ByHand::new(pin.acquire_write_lock("child")).poll(), Poll::Ready(Err(LockError::Forked))),
            matches!(ByHand::new(pin.acquire_read_lock("child")).poll(), Poll::Ready(Err(LockError::Forked))),
            is_forked(prepared.try_acquire_write_lock("child")),
            is_forked(prepared.acquire_read_lock_blocking("child")),
            matches!(ByHand::new(prepared.acquire_write_lock("child")).poll(), Poll::Ready(Err(LockError::Forked))),
            is_forked(locks.acquire_locks_batch_blocking(BatchLockRequest::new("child").add_write_lock("b", "kept"))),
            is_forked(
                locks.acquire_locks_batch_blocking(BatchLockRequest::new("child").add_pinned(&pin, Mode::Exclusive))
            ),
            is_forked(reads.try_upgrade()),
            is_forked(reads.upgrade_blocking(None)),
            is_forked(locks.lock(LockRequest::write(("b", "kept"))).with_callback(|_| {})),
            matches!(future.poll(), Poll::Ready(Err(LockError::Forked))),
            locks.force_release(&Filter::all()).is_empty(),
        );
        events.recalled(recalled, Mode::Exclusive);
        events.withdrawn(recalled);
        events.lost(recalled);
        events.all_lost(Term(0));
        events.renewed(Term(1));
        reads.downgrade();
        drop((writes.take(), pin.clone()));
        drop(future);
        locks.close();
        drop(handle.take());
        ask!(asks, tier.calls.load(Ordering::SeqCst) == before);
        true
    });
    drop((reads, writes));
    assert!(locks.lock(LockRequest::write(("b", "kept"))).try_now().is_ok());
}
