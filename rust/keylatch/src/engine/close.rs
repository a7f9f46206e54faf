//! The end of a manager: nobody gets a lock any more, everybody who waits is told, and what is held can be released.

use super::core::Core;
use crate::wait::Phase;

impl Core {
    /// Closes the manager; once is enough.
    pub(crate) fn close(&self) {
        if self.is_forked() || self.set_closed() {
            return;
        }
        // Whoever queues checks the mark under the mutex of its shard, so one pass after setting it reaches everybody.
        for shard in 0..self.table.shard_count() {
            self.end_all(shard, Phase::Closed);
        }
        self.events.close();
        self.end_what_ends_with_it();
        self.timer.stop();
        self.stop_callbacks();
    }
}
