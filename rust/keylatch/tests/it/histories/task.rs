//! An actor that is a task: every poll of its futures is watched.

use super::event::{By, Log, What};
use super::program::Step;
use super::runner::{Stage, cancelling, gave_up, hold};
use keylatch::{FastLockGuard, LockError};
use std::future::{IntoFuture, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

pub(crate) async fn act(stage: Arc<Stage>, steps: Vec<Step>, log: Log) {
    for step in steps {
        let request = log.asking(step.key, step.mode, step.priority, By::Task);
        match acquire(&stage, &step, request, &log).await {
            None => log.note(request, What::GaveUp),
            Some(Ok(guard)) => hold(&stage.locks, request, guard, &step, &log),
            Some(Err(error)) => gave_up(request, &error, &log),
        }
        tokio::task::yield_now().await;
    }
}

/// `None` if the future was dropped before it was done.
async fn acquire<'a>(
    stage: &'a Stage,
    step: &Step,
    request: u64,
    log: &Log,
) -> Option<Result<FastLockGuard<'a>, LockError>> {
    let mut future = stage.locks.lock(stage.request(step)).into_future();
    let mut polls = 0;
    poll_fn(move |context| {
        if step.give_up_after == Some(polls) {
            cancelling(request, step, log);
            // In line until here: what was granted in this instant is given on, and the history does not tell.
            drop(std::mem::replace(&mut future, stage.locks.lock(stage.request(step)).into_future()));
            return Poll::Ready(None);
        }
        let began_at = log.time();
        let answer = Pin::new(&mut future).poll(context);
        polls += 1;
        if answer.is_pending() {
            log.note(request, if polls == 1 { What::InLine } else { What::Polled { began_at } });
            if step.restless {
                context.waker().wake_by_ref();
            }
        }
        answer.map(Some)
    })
    .await
}
