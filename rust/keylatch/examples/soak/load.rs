//! Threads that use the locks as one should, and lose patience now and then.

use crate::random::Random;
use crate::tally::Fault;
use crate::{Soak, ledger::Ledger};
use keylatch::{BatchLockRequest, CompletionQueue, LockError, LockRequest, Mode, Submitted};
use std::collections::HashMap;
use std::time::Duration;

/// An answer that takes longer than this does not come.
pub(crate) const FOREVER: Duration = Duration::from_secs(30);

pub(crate) fn work(soak: &std::sync::Arc<Soak>, random: &mut Random) {
    let queue = match soak.locks.completion_queue() {
        Ok(queue) => queue,
        Err(problem) => return soak.tally.violation(format!("no completion queue: {problem}")),
    };
    while !soak.stopped() {
        match random.below(16) {
            0 => impatient(soak, random),
            1 => batch(soak, random),
            2 => converting(soak, random),
            3 => by_queue(soak, random, &queue),
            _ => plain(soak, random),
        }
    }
}

fn request<'a>(ledger: &'a Ledger, page: usize, mode: Mode, random: &mut Random) -> LockRequest<'a> {
    let request = LockRequest::new(ledger.key(page), mode).owner("load");
    if random.one_in(16) { request.priority(random.below(10) as u8) } else { request }
}

fn plain(soak: &Soak, random: &mut Random) {
    let (page, mode) = (soak.ledger.pick(random), random.mode());
    if soak.options.sabotage && random.one_in(1000) {
        return soak.ledger.visit_as(page, Mode::Exclusive, &soak.tally);
    }
    match soak.locks.lock(request(&soak.ledger, page, mode, random)).blocking() {
        Ok(guard) => soak.ledger.visit(page, &guard, &soak.tally),
        Err(error) => soak.tally.violation(format!("a request without limit ended with {error}")),
    }
}

fn impatient(soak: &Soak, random: &mut Random) {
    let (page, mode) = (soak.ledger.pick(random), random.mode());
    let limits = [Duration::ZERO, Duration::from_nanos(1), Duration::from_micros(random.below(300).into())];
    let limit = limits[random.below(3) as usize];
    match soak.locks.lock(request(&soak.ledger, page, mode, random).timeout(limit)).blocking() {
        Ok(guard) => soak.ledger.visit(page, &guard, &soak.tally),
        Err(LockError::Timeout { .. }) => soak.tally.injected(Fault::TimedOut),
        Err(error) => soak.tally.violation(format!("a request with {limit:?} ended with {error}")),
    }
}

fn batch(soak: &Soak, random: &mut Random) {
    let wanted: Vec<_> = (0..4).map(|_| (soak.ledger.pick(random), random.mode())).collect();
    let batch = wanted
        .iter()
        .fold(BatchLockRequest::new("batch"), |batch, (page, mode)| batch.add(soak.ledger.key(*page), *mode));
    match soak.locks.acquire_locks_batch_blocking(batch) {
        Ok(_all) => wanted.iter().for_each(|(page, mode)| soak.ledger.visit_as(*page, *mode, &soak.tally)),
        Err(error) => soak.tally.violation(format!("a batch without limit ended with {error}")),
    }
}

fn converting(soak: &Soak, random: &mut Random) {
    let page = soak.ledger.pick(random);
    let Ok(mut guard) = soak.locks.lock(request(&soak.ledger, page, Mode::Exclusive, random)).blocking() else {
        return soak.tally.violation("a request without limit ended".into());
    };
    soak.ledger.visit(page, &guard, &soak.tally);
    guard.downgrade();
    soak.ledger.visit(page, &guard, &soak.tally);
    match guard.upgrade_blocking(Some(Duration::from_micros(100))) {
        Ok(()) => {}
        Err(LockError::UpgradeConflict { .. }) => {}
        Err(LockError::Timeout { .. }) => soak.tally.injected(Fault::TimedOut),
        Err(error) => soak.tally.violation(format!("an upgrade ended with {error}")),
    }
    soak.ledger.visit(page, &guard, &soak.tally);
}

/// A few requests by completion queue at a time.
///
/// All answers are fetched before anything else is asked for: a lock that has arrived and is not fetched is held, and
/// its thread would wait for itself.
fn by_queue(soak: &Soak, random: &mut Random, queue: &CompletionQueue) {
    let mut waiting = HashMap::new();
    (0..8).for_each(|_| ask(soak, random, queue, &mut waiting));
    while !waiting.is_empty() && fetch(soak, queue, &mut waiting) {}
}

/// A request by completion queue, perhaps cancelled immediately.
fn ask(soak: &Soak, random: &mut Random, queue: &CompletionQueue, waiting: &mut HashMap<u64, usize>) {
    let (page, mode, token) = (soak.ledger.pick(random), random.mode(), random.next());
    match soak.locks.lock(request(&soak.ledger, page, mode, random)).with_queue(queue, token) {
        Ok(Submitted::Granted(guard)) => soak.ledger.visit(page, &guard, &soak.tally),
        Ok(Submitted::Waiting(ticket)) => {
            waiting.insert(token, page);
            if random.one_in(3) && soak.locks.cancel(ticket) {
                soak.tally.injected(Fault::Cancelled);
            }
        }
        Err(error) => soak.tally.violation(format!("a request by queue was refused: {error}")),
    }
}

/// Takes one answer. `false` if none comes.
fn fetch(soak: &Soak, queue: &CompletionQueue, waiting: &mut HashMap<u64, usize>) -> bool {
    let Ok(Some(completion)) = queue.next(Some(FOREVER)) else {
        soak.tally.violation(format!("{} answers of a queue do not come", waiting.len()));
        return false;
    };
    let Some(page) = waiting.remove(&completion.token) else {
        soak.tally.violation("an answer came twice".into());
        return true;
    };
    match completion.result {
        Ok(guard) => soak.ledger.visit(page, &guard, &soak.tally),
        Err(LockError::Cancelled { .. }) => {}
        Err(error) => soak.tally.violation(format!("a request by queue ended with {error}")),
    }
    true
}
