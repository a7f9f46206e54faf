//! A thread that logs the report periodically. A thread, because it also has to report when a runtime is stuck.

use super::{Judged, LockMonitor};
use parking_lot::{Condvar, Mutex};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The shortest period.
const SHORTEST: Duration = Duration::from_millis(1);

/// Logs reports until it is dropped; see [`LockMonitor::report_every`].
#[derive(Debug)]
#[must_use = "dropping the reporter ends it"]
pub struct Reporter {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Stop {
    is_asked: Mutex<bool>,
    asked: Condvar,
}

impl LockMonitor {
    /// Starts a thread that logs the report every `period`.
    ///
    /// It also warns of locks with a wait of at least `threshold` within the last minute, or since the last report if that is
    /// longer ago, or in line now. The thread ends when
    /// the returned [`Reporter`] is dropped. A period below a millisecond counts as one.
    ///
    /// # Errors
    ///
    /// Returns why the thread could not be started.
    pub fn report_every(&self, period: Duration, threshold: Duration) -> io::Result<Reporter> {
        let (monitor, stop) = (self.clone(), Arc::new(Stop::default()));
        let ended_by = Arc::clone(&stop);
        let period = period.max(SHORTEST);
        let thread = std::thread::Builder::new().name("keylatch-report".into()).spawn(move || {
            while !ended_by.is_asked_within(period) {
                monitor.log_report();
                let contended = monitor.contended(threshold, Judged::Lately);
                if !contended.is_empty() {
                    tracing::warn!("high contention detected on locks: {contended:?}");
                }
            }
        })?;
        Ok(Reporter { stop, thread: Some(thread) })
    }
}

impl Stop {
    fn is_asked_within(&self, period: Duration) -> bool {
        let deadline = Instant::now().checked_add(period);
        let mut is_asked = self.is_asked.lock();
        while !*is_asked {
            match deadline {
                Some(deadline) if self.asked.wait_until(&mut is_asked, deadline).timed_out() => return *is_asked,
                Some(_) => {}
                None => self.asked.wait(&mut is_asked),
            }
        }
        true
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        *self.stop.is_asked.lock() = true;
        self.stop.asked.notify_one();
        // A subscriber that drops the reporter from the thread itself must not wait for itself.
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            drop(thread.join());
        }
    }
}
