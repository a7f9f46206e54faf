//! Closing a manager: no request gets a lock any more, all waits end, and what is held can be released.

use super::core::Core;
use crate::wait::Phase;

impl Core {
    /// Closes the manager; once is enough.
    pub(crate) fn close(&self) {
        if self.is_forked() || self.set_closed() {
            return;
        }
        // A request that queues checks the mark under the mutex of its shard, so one pass after setting it reaches all.
        for shard in 0..self.table.shard_count() {
            self.end_all(shard, Phase::Closed);
        }
        // From here on no lock delay begins.
        self.open_all(self.local());
        self.close_permits(self.local());
        self.events.close();
        self.end_what_ends_with_it();
        self.timer.stop();
        self.stop_callbacks();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::sync::steps_of;
    use crate::{FastObjectLockManager, LockConfig, LockRequest};

    #[test]
    fn close_visits_each_queue_once() {
        let locks = FastObjectLockManager::with_config(LockConfig { shards: 1, ..LockConfig::default() }).unwrap();
        let queue = locks.completion_queue().unwrap();
        let keys: Vec<String> = (0..500).map(|number| number.to_string()).collect();
        let held: Vec<_> = keys.iter().map(|key| locks.try_acquire_write_lock("b", key, "me").unwrap()).collect();
        for key in keys.iter().chain(&keys) {
            let waits = locks.lock(LockRequest::write(("b", key.as_str()))).with_queue(&queue, 1).unwrap();
            assert!(waits.ticket().is_some());
        }
        // Once to find the lines, once to find that no line is left.
        assert_eq!(steps_of(|| locks.close()), 2 * keys.len() as u64);
        let ended = std::iter::from_fn(|| queue.try_next()).count();
        assert_eq!(ended, 2 * keys.len());
        drop(held);
    }
}
