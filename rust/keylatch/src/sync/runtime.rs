//! What the feature `tokio` adds to futures and to blocking calls. Without it there is nothing to do here.

use std::task::{Context, Poll};

/// One step of a future, which counts against the budget of its tokio task.
///
/// Otherwise a task whose awaits never have to wait would keep the other tasks of its thread from running.
#[must_use = "a step that was not taken is paid back"]
pub(crate) struct Step {
    #[cfg(feature = "tokio")]
    budget: tokio::task::coop::RestoreOnPending,
}

impl Step {
    /// Begins a step. Pending, with the task woken, when its budget is used up.
    #[inline(always)]
    pub(crate) fn begin(context: &mut Context<'_>) -> Poll<Self> {
        #[cfg(feature = "tokio")]
        return tokio::task::coop::poll_proceed(context).map(|budget| Self { budget });
        #[cfg(not(feature = "tokio"))]
        {
            let _ = context;
            Poll::Ready(Self {})
        }
    }

    /// Ends the step, which was taken if there is an answer.
    #[inline(always)]
    pub(crate) fn end<T>(self, answer: Poll<T>) -> Poll<T> {
        #[cfg(feature = "tokio")]
        if answer.is_ready() {
            self.budget.made_progress();
        }
        answer
    }
}

/// Panics in debug builds with the feature `tokio` on a thread that runs tasks.
///
/// Asleep, the thread would run none of its tasks, and one of them may be the holder.
#[inline(always)]
#[track_caller]
pub(crate) fn check_may_sleep() {
    #[cfg(all(feature = "tokio", debug_assertions))]
    check_may_sleep_slow();
}

#[cfg(all(feature = "tokio", debug_assertions))]
#[track_caller]
fn check_may_sleep_slow() {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    // The runtime alone knows whether its thread may block: within `spawn_blocking` and `block_in_place` it may. It panics
    // where it may not.
    if std::panic::catch_unwind(|| runtime.block_on(async {})).is_err() {
        panic!(
            "this would put a thread to sleep that runs tokio's tasks: await the lock instead of blocking, or block within \
             tokio::task::spawn_blocking"
        );
    }
}
