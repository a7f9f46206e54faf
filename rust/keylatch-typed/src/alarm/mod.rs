//! What wakes a waiter when its time is over.
//!
//! * A waiter that blocks its thread parks until the deadline: [`Alarm::Caller`].
//! * A waiter that is polled on a tokio runtime uses that runtime's timer (feature `tokio`). It needs `enable_time`.
//! * Any other waiter uses a timer thread of this crate, which starts with the first such wait.
//!
//! A future that moves to another executor, or whose runtime is gone, sets a new alarm where it is polled next. Within the
//! context of a runtime that was shut down tokio's timer panics; a grant is looked at before.

mod thread;

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

pub(crate) enum Alarm {
    /// Not set yet.
    Unset,
    /// The caller polls again when the deadline has passed.
    Caller,
    #[cfg(feature = "tokio")]
    Tokio(std::pin::Pin<Box<tokio::time::Sleep>>, tokio::runtime::Id),
    Thread(thread::Entry),
}

impl Alarm {
    /// Ready when the time is over; otherwise wakes the task then.
    pub(crate) fn poll(
        &mut self,
        deadline: Option<Instant>,
        #[cfg_attr(not(feature = "tokio"), allow(unused_variables))] timeout: Duration,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        let Some(deadline) = deadline else { return Poll::Pending };
        if let Self::Caller = self {
            return if Instant::now() >= deadline { Poll::Ready(()) } else { Poll::Pending };
        }
        #[cfg(feature = "tokio")]
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            if !matches!(self, Self::Tokio(_, id) if *id == runtime.id()) {
                let left = match self {
                    // The first alarm counts on the runtime's clock, which tests may pause.
                    Self::Unset => timeout,
                    _ => deadline.saturating_duration_since(Instant::now()),
                };
                *self = Self::Tokio(Box::pin(tokio::time::sleep(left)), runtime.id());
            }
            if let Self::Tokio(sleep, _) = self {
                return sleep.as_mut().poll(context);
            }
        }
        if Instant::now() >= deadline {
            return Poll::Ready(());
        }
        match self {
            Self::Thread(entry) => {
                // The timer was quicker, and has woken the task that was here before.
                if !entry.set_waker(context.waker()) {
                    return Poll::Ready(());
                }
            }
            _ => match thread::set(deadline, context.waker().clone()) {
                Ok(entry) => *self = Self::Thread(entry),
                Err(error) => {
                    tracing::error!("no timer thread, so a wait for a lock ends early: {error}");
                    return Poll::Ready(());
                }
            },
        }
        Poll::Pending
    }
}

#[cfg(feature = "tokio")]
use std::future::Future as _;
