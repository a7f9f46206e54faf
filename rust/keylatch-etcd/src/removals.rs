//! Removals under way: a try waits for those of its own process.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;

/// A removal's number, and what ends with it.
type UnderWay = (u64, watch::Receiver<()>);

/// Entries that are being removed, by their queue.
#[derive(Debug, Default)]
pub(crate) struct Removals {
    of_queue: Mutex<HashMap<Vec<u8>, Vec<UnderWay>>>,
    next: AtomicU64,
}

/// A removal; over when it is dropped.
#[derive(Debug)]
pub(crate) struct Removal {
    removals: Arc<Removals>,
    queues: Vec<Vec<u8>>,
    number: u64,
    _over: watch::Sender<()>,
}

impl Removals {
    /// Notes a removal of entries in these queues.
    pub(crate) fn begin(self: &Arc<Self>, queues: Vec<Vec<u8>>) -> Removal {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, over) = watch::channel(());
        let mut of_queue = self.of_queue.lock();
        for queue in &queues {
            of_queue.entry(queue.clone()).or_default().push((number, over.clone()));
        }
        Removal { removals: Arc::clone(self), queues, number, _over: sender }
    }

    /// Returns when those are over that had begun before in these queues.
    pub(crate) async fn ended(&self, queues: &[Vec<u8>]) {
        let begun: Vec<_> = {
            let of_queue = self.of_queue.lock();
            queues.iter().filter_map(|queue| of_queue.get(queue)).flatten().map(|(_, over)| over.clone()).collect()
        };
        for mut over in begun {
            // The sender never sends; it ends with the removal.
            let _ = over.changed().await;
        }
    }
}

impl Drop for Removal {
    fn drop(&mut self) {
        let mut of_queue = self.removals.of_queue.lock();
        for queue in &self.queues {
            if let Some(removals) = of_queue.get_mut(queue) {
                removals.retain(|(number, _)| *number != self.number);
                if removals.is_empty() {
                    of_queue.remove(queue);
                }
            }
        }
    }
}
