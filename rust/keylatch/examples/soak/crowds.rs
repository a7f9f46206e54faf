//! Very many on one key.

use crate::Soak;
use crate::load::FOREVER;
use crate::random::Random;
use crate::tally::Fault;
use keylatch::{FastLockGuard, LockError, LockRequest, Mode};
use std::future::IntoFuture;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

const WAITERS: usize = 10_000;
const READERS: usize = 70_000;

/// A key that only this scene uses.
const KEY: (&str, &str) = ("crowds", "one");

fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Writers and readers wait; some give up, the others are served.
///
/// A writer is always alone.
pub(crate) fn ten_thousand_waiters(soak: &Soak, random: &mut Random) {
    let Ok(held) = soak.locks.acquire_write_lock_blocking(KEY.0, KEY.1, "crowd") else {
        return soak.tally.violation("the crowd's key is not free".into());
    };
    let mut waiting = Vec::with_capacity(WAITERS);
    for _ in 0..WAITERS {
        let request = LockRequest::new((KEY.0, KEY.1), random.mode()).priority(random.below(3) as u8);
        let mut future = soak.locks.lock(request).into_future();
        soak.tally.expect(poll(&mut future).is_pending(), || "a waiter did not have to wait".into());
        waiting.push(future);
    }
    let crowd = soak.locks.get_metrics().shard_metrics.waiters;
    soak.tally.expect(crowd >= WAITERS as u64, || format!("{crowd} in line, {WAITERS} joined it"));
    let before = waiting.len();
    waiting.retain(|_| !random.one_in(3));
    (waiting.len()..before).for_each(|_| soak.tally.injected(Fault::DroppedFuture));
    drop(held);
    serve(soak, waiting, |mode| {
        let others = soak.locks.try_acquire_read_lock(KEY.0, KEY.1, "intruder");
        mode == Mode::Shared || others.is_err()
    });
    leave_free(soak);
}

/// Shares the key as often as possible; the others wait until there is room.
pub(crate) fn seventy_thousand_readers(soak: &Soak, _: &mut Random) {
    let read = || soak.locks.lock(LockRequest::read((KEY.0, KEY.1)).owner("reader"));
    let inside: Vec<_> = (0..READERS).map_while(|_| read().try_now().ok()).collect();
    soak.tally.expect(inside.len() == READERS, || format!("only {} readers got in", inside.len()));
    let mut writer = soak.locks.lock(LockRequest::write((KEY.0, KEY.1)).owner("writer")).into_future();
    soak.tally.expect(poll(&mut writer).is_pending(), || "a writer got in beside readers".into());
    drop(inside);
    serve(soak, vec![writer], |mode| mode == Mode::Exclusive);
    leave_free(soak);
}

/// Polls until everybody has had the lock.
fn serve<'a, F>(soak: &Soak, mut waiting: Vec<F>, fine: impl Fn(Mode) -> bool)
where
    F: Future<Output = Result<FastLockGuard<'a>, LockError>> + Unpin,
{
    let began = Instant::now();
    while !waiting.is_empty() {
        waiting.retain_mut(|future| match poll(future) {
            Poll::Pending => true,
            Poll::Ready(Ok(guard)) => {
                soak.tally.expect(fine(guard.mode()), || "another holder was let in beside a writer".into());
                false
            }
            Poll::Ready(Err(error)) => {
                soak.tally.violation(format!("one of a crowd got {error}"));
                false
            }
        });
        if began.elapsed() > FOREVER {
            return soak.tally.violation(format!("{} of a crowd are never served", waiting.len()));
        }
    }
}

fn leave_free(soak: &Soak) {
    let free = soak.locks.try_acquire_write_lock(KEY.0, KEY.1, "last").is_ok();
    soak.tally.expect(free, || "a crowd left its key locked".into());
}
