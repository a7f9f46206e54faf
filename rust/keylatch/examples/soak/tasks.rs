//! Tasks on an executor, whose futures are dropped after any number of polls.

use crate::Soak;
use crate::random::Random;
use crate::tally::Fault;
use keylatch::LockRequest;
use std::future::{IntoFuture, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

const TASKS: u64 = 8;

pub(crate) fn work(soak: &Arc<Soak>, seed: u64) {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).build() {
        Ok(runtime) => runtime,
        Err(problem) => return soak.tally.violation(format!("no threads for tasks: {problem}")),
    };
    let tasks: Vec<_> = (0..TASKS)
        .map(|number| runtime.spawn(task(Arc::clone(soak), Random::new(seed.wrapping_add(number << 40)))))
        .collect();
    for task in tasks {
        if runtime.block_on(task).is_err() {
            soak.tally.violation("a task panicked".into());
        }
    }
}

async fn task(soak: Arc<Soak>, mut random: Random) {
    while !soak.stopped() {
        let (page, mode) = (soak.ledger.pick(&mut random), random.mode());
        let give_up_after = random.one_in(4).then(|| 1 + random.below(3));
        let request = LockRequest::new(soak.ledger.key(page), mode).owner("task");
        let mut future = soak.locks.lock(request).into_future();
        let mut polls = 0;
        let answer = poll_fn(|context| {
            if give_up_after == Some(polls) {
                return Poll::Ready(None);
            }
            polls += 1;
            if give_up_after.is_some() {
                context.waker().wake_by_ref();
            }
            Pin::new(&mut future).poll(context).map(Some)
        })
        .await;
        match answer {
            None => {
                drop(future);
                soak.tally.injected(Fault::DroppedFuture);
            }
            Some(Ok(guard)) => {
                soak.ledger.visit(page, &guard, &soak.tally);
                if random.one_in(32) {
                    // Held across a turn of the executor.
                    tokio::task::yield_now().await;
                    soak.ledger.visit(page, &guard, &soak.tally);
                }
            }
            Some(Err(error)) => soak.tally.violation(format!("a task's request ended with {error}")),
        }
        tokio::task::yield_now().await;
    }
}
