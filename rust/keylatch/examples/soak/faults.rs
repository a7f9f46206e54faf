//! Users that behave badly: each time their lock has to be free for the next one.

use crate::Soak;
use crate::load::FOREVER;
use crate::random::Random;
use crate::tally::Fault;
use keylatch::{Filter, Grant, LockError, LockRequest, Mode, OwnedLockGuard, Submitted};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// Panics without the message that a real mistake would print.
fn panic_on_purpose() -> ! {
    resume_unwind(Box::new("on purpose"))
}

pub(crate) fn work(soak: &Arc<Soak>, random: &mut Random) {
    while !soak.stopped() {
        let page = soak.ledger.pick(random);
        let mode = random.mode();
        match random.below(10) {
            0 => die_with_lock(soak, page, mode),
            1 | 2 => lose_grant(soak, page, mode),
            3 => forge_grant(soak, random),
            8 => outlive_lease(soak, page, mode),
            9 => lose_by_force(soak, page, mode),
            4 | 5 => call_back(soak, random, page, mode),
            _ => panic_with_lock(soak, page, mode),
        }
        // Ordinary load is to be most of what goes on.
        std::thread::sleep(std::time::Duration::from_micros(50));
    }
}

fn take(soak: &Soak, page: usize, mode: Mode) -> Option<OwnedLockGuard> {
    match soak.locks.lock(LockRequest::new(soak.ledger.key(page), mode).owner("faults")).blocking() {
        Ok(guard) => Some(guard.into_owned()),
        Err(error) => {
            soak.tally.violation(format!("a request without limit ended with {error}"));
            None
        }
    }
}

fn panic_with_lock(soak: &Soak, page: usize, mode: Mode) {
    let Some(guard) = take(soak, page, mode) else { return };
    let ended = catch_unwind(AssertUnwindSafe(move || {
        soak.ledger.visit(page, &guard, &soak.tally);
        panic_on_purpose()
    }));
    soak.tally.expect(ended.is_err(), || "a panic was lost".into());
    soak.tally.injected(Fault::PanicWithLock);
}

fn die_with_lock(soak: &Arc<Soak>, page: usize, mode: Mode) {
    let its = Arc::clone(soak);
    let thread = std::thread::spawn(move || {
        let Some(guard) = take(&its, page, mode) else { return };
        its.ledger.visit(page, &guard, &its.tally);
        panic_on_purpose()
    });
    soak.tally.expect(thread.join().is_err(), || "a thread that was to die did not".into());
    soak.tally.injected(Fault::DeadThread);
}

/// Keeps a grant as a number and ends its taker: exactly one other releases it.
fn lose_grant(soak: &Arc<Soak>, page: usize, mode: Mode) {
    let its = Arc::clone(soak);
    let thread = std::thread::spawn(move || {
        let guard = take(&its, page, mode)?;
        its.ledger.visit(page, &guard, &its.tally);
        Some(guard.into_grant())
    });
    let Ok(Some(grant)) = thread.join() else { return soak.tally.violation("no grant".into()) };
    soak.ledger.visit_as(page, mode, &soak.tally);
    let releases: Vec<_> = std::thread::scope(|scope| {
        let both: Vec<_> = (0..2).map(|_| scope.spawn(|| soak.locks.release(grant))).collect();
        both.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    soak.tally.injected(Fault::LostGrant);
    let stale = LockError::NotHeld { grant: grant.to_raw() };
    let fine = releases.iter().filter(|release| release.is_ok()).count() == 1 && releases.contains(&Err(stale));
    soak.tally.expect(fine, || format!("a grant released twice: {releases:?}"));
    soak.tally.injected(Fault::StaleRelease);
}

/// A holder outlives its lease: the next gets the lock, the late release fails.
fn outlive_lease(soak: &Soak, page: usize, mode: Mode) {
    let request = LockRequest::new(soak.ledger.key(page), mode).owner("late").ttl(Duration::from_nanos(1));
    let Ok(late) = soak.locks.lock(request).blocking() else {
        return soak.tally.violation("no lock with a lease".into());
    };
    let Some(next) = take(soak, page, Mode::Exclusive) else { return };
    soak.ledger.visit(page, &next, &soak.tally);
    drop(next);
    let answer = late.try_release();
    let fine = matches!(answer, Err(LockError::LeaseLost { .. }));
    soak.tally.expect(fine, || format!("released after its lease: {answer:?}"));
    soak.tally.injected(Fault::LeaseOver);
}

/// A holder whose lock is revoked by force does nothing; the next one gets it.
fn lose_by_force(soak: &Soak, page: usize, mode: Mode) {
    let request = LockRequest::new(soak.ledger.key(page), mode).owner("to be forced");
    let Ok(loser) = soak.locks.lock(request).blocking() else { return soak.tally.violation("no lock".into()) };
    let filter = Filter::new().key(soak.ledger.key(page)).owner("to be forced");
    // It may be that another thread of this kind has taken it already.
    let _ = soak.locks.force_release(&filter);
    if let Some(next) = take(soak, page, Mode::Exclusive) {
        soak.ledger.visit(page, &next, &soak.tally);
    }
    let answer = loser.try_release();
    let fine = matches!(answer, Err(LockError::NotHeld { .. }));
    soak.tally.expect(fine, || format!("released after it was taken away: {answer:?}"));
    soak.tally.injected(Fault::TakenByForce);
}

fn forge_grant(soak: &Soak, random: &mut Random) {
    // Far beyond what any run takes: the generation that a grant carries is in its upper half.
    let Some(forged) = Grant::from_raw(random.next() | 1 << 63) else { return };
    let answer = soak.locks.release(forged);
    soak.tally.expect(matches!(answer, Err(LockError::NotHeld { .. })), || format!("{forged:?} released: {answer:?}"));
    soak.tally.injected(Fault::ForgedGrant);
}

/// A callback that panics with its guard, or is cancelled; it is called once.
fn call_back(soak: &Arc<Soak>, random: &mut Random, page: usize, mode: Mode) {
    let panics = random.one_in(2);
    let (its, (called, calls)) = (Arc::clone(soak), mpsc::channel());
    let request = LockRequest::new(soak.ledger.key(page), mode).owner("callback");
    let submitted = soak.locks.lock(request).with_callback(move |answer| {
        match &answer {
            Ok(guard) => its.ledger.visit(page, guard, &its.tally),
            Err(LockError::Cancelled { .. }) => {}
            Err(error) => its.tally.violation(format!("a callback was given {error}")),
        }
        let _ = called.send(());
        if panics {
            its.tally.injected(Fault::PanicInCallback);
            panic_on_purpose()
        }
    });
    match submitted {
        Ok(Submitted::Granted(guard)) => soak.ledger.visit(page, &guard, &soak.tally),
        Ok(Submitted::Waiting(ticket)) => {
            if random.one_in(3) && soak.locks.cancel(ticket) {
                soak.tally.injected(Fault::Cancelled);
            }
            soak.tally.expect(calls.recv_timeout(FOREVER).is_ok(), || "a callback was not called".into());
            // Its sender is gone when it has ended; until then a second call could still come.
            soak.tally.expect(calls.recv_timeout(FOREVER).is_err(), || "a callback was called twice".into());
        }
        Err(error) => soak.tally.violation(format!("a request by callback was refused: {error}")),
    }
}
