//! The crate under the model checker: `make models`. The code is the one that ships, on loom's atomics and mutexes.
//!
//! Each model says which mistake it would catch. A deadlock in a model is a lost wake-up.

mod locks;
mod snapshots;

use futures_util::FutureExt;
use std::time::Duration;

/// No deadline: a model has no clock.
const NEVER: Duration = Duration::MAX;

/// Explores all interleavings within a bound of preemptions.
///
/// `LOOM_MAX_PREEMPTIONS` is the bound; 2 without it.
fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(2));
    builder.check(model);
}

/// Polls a future once, with a waker that does nothing.
fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    future.now_or_never()
}
