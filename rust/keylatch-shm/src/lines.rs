//! Requests of this process that wait, in order of arrival: one line a slot.
//!
//! The bits and bells in the file are a member's, so of all requests of a process for one slot one at a time, the leader,
//! deals with the file. The others sleep here. The line also counts the threads that share one of the member's names.

use crate::layout::BELLS;
use crate::mutex::lock;
use crate::protocol::enter::Sharers;
use crate::waiter::Waiter;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

/// Mutexes over which slots are spread.
const SHARDS: usize = 64;
const _: () = assert!(SHARDS.is_power_of_two() && SHARDS >= BELLS);

/// The requests for one slot; the front one leads.
#[derive(Default)]
pub(crate) struct Line {
    pub(crate) queue: VecDeque<Arc<Waiter>>,
    pub(crate) sharers: Sharers,
}

impl Line {
    fn is_unused(&self) -> bool {
        self.queue.is_empty() && self.sharers == Sharers::default()
    }
}

type Shard = HashMap<u32, Line>;

pub(crate) struct Lines(Box<[Mutex<Shard>]>);

impl Default for Lines {
    fn default() -> Self {
        Self((0..SHARDS).map(|_| Mutex::default()).collect())
    }
}

impl Lines {
    /// Runs `work` on the line of a slot, under its mutex.
    pub(crate) fn with<R>(&self, slot: u32, work: impl FnOnce(&mut Line) -> R) -> R {
        let mut shard = lock(&self.0[slot as usize % SHARDS]);
        let line = shard.entry(slot).or_default();
        let result = work(line);
        if line.is_unused() {
            shard.remove(&slot);
        }
        result
    }
}
