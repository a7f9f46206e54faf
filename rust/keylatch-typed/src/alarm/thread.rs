//! The timer thread for executors without a timer: one for the process, started by the first wait that needs it.

use crate::sync::wake_all;
use std::collections::BTreeMap;
use std::io;
use std::task::Waker;
use std::time::Instant;

struct Timer {
    state: parking_lot::Mutex<State>,
    is_earlier: parking_lot::Condvar,
}

struct State {
    is_running: bool,
    /// Alarms that were set so far: tells those of one moment apart.
    set: u64,
    due: BTreeMap<(Instant, u64), Waker>,
}

static TIMER: Timer = Timer {
    state: parking_lot::const_mutex(State { is_running: false, set: 0, due: BTreeMap::new() }),
    is_earlier: parking_lot::Condvar::new(),
};

/// An alarm that is set; dropping it takes it back.
pub(crate) struct Entry(Instant, u64);

/// Wakes at this moment.
///
/// # Errors
///
/// Returns why the timer thread could not be started. The next call tries again.
pub(super) fn set(at: Instant, waker: Waker) -> io::Result<Entry> {
    let mut state = TIMER.state.lock();
    if !state.is_running {
        std::thread::Builder::new().name("keylatch-timer".into()).spawn(run)?;
        state.is_running = true;
    }
    let entry = Entry(at, state.set);
    state.set += 1;
    let is_earlier = state.due.first_key_value().is_none_or(|((first, _), _)| at < *first);
    state.due.insert((at, entry.1), waker);
    drop(state);
    if is_earlier {
        TIMER.is_earlier.notify_one();
    }
    Ok(entry)
}

fn run() {
    let mut state = TIMER.state.lock();
    loop {
        let first = state.due.first_entry();
        match first.map(|entry| (entry.key().0, entry)) {
            Some((at, entry)) if at <= Instant::now() => {
                let waker = entry.remove();
                drop(state);
                wake_all([waker]);
                state = TIMER.state.lock();
            }
            Some((at, _)) => drop(TIMER.is_earlier.wait_until(&mut state, at)),
            None => TIMER.is_earlier.wait(&mut state),
        }
    }
}

impl Entry {
    /// Wakes this task instead. Returns `false` if the time has come already.
    #[must_use]
    pub(super) fn set_waker(&self, waker: &Waker) -> bool {
        let mut waker = waker.clone();
        let mut state = TIMER.state.lock();
        let present = state.due.get_mut(&(self.0, self.1));
        let is_set = present.map(|present| std::mem::swap(present, &mut waker)).is_some();
        drop(state);
        // The one that was replaced, or the new one.
        drop(waker);
        is_set
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let waker = TIMER.state.lock().due.remove(&(self.0, self.1));
        drop(waker);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn alarm_that_fired_takes_no_waker() {
        let far = Instant::now() + Duration::from_secs(3600);
        let entry = set(far, Waker::noop().clone()).unwrap();
        assert!(entry.set_waker(Waker::noop()));
        // As the timer does when the time has come.
        drop(TIMER.state.lock().due.remove(&(entry.0, entry.1)));
        assert!(!entry.set_waker(Waker::noop()), "no task would be woken");
    }
}
