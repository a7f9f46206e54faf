//! A request of this process that waits: what its thread, its leader and the attendant share.

use crate::protocol::enter::Death;
use crate::word::{MemberId, Place};
use keylatch::Mode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::Instant;

/// How a slot is held by this process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Held {
    pub(crate) place: Place,
    pub(crate) death: Death,
}

/// What a waiting request is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// Behind others of the process.
    Queued,
    /// At the front; deals with the file.
    Leads,
    /// At the front and named as the writer; readers have to leave.
    Drains,
    Granted(Held),
    Ended,
}

/// One waiting request.
///
/// Its phase changes under its own mutex; the line's mutex is taken inside of that, never outside.
pub(crate) struct Waiter {
    pub(crate) slot: u32,
    /// Another one once the request was revoked while it waited for readers.
    pub(crate) record: AtomicU32,
    pub(crate) mode: Mode,
    pub(crate) phase: Mutex<Phase>,
    /// 1 once it leads or ended; a sleeping thread waits for it.
    pub(crate) word: AtomicU32,
    pub(crate) waker: Mutex<Option<Waker>>,
    pub(crate) is_task: bool,
    pub(crate) since: Instant,
    /// Whose turn the leader has seen, and since when.
    pub(crate) patience: Mutex<Option<(MemberId, Instant)>>,
}

impl Waiter {
    pub(crate) fn new(slot: u32, record: u32, mode: Mode, is_task: bool) -> Arc<Self> {
        Arc::new(Self {
            slot,
            record: record.into(),
            mode,
            phase: Mutex::new(Phase::Queued),
            word: AtomicU32::new(0),
            waker: Mutex::new(None),
            is_task,
            since: Instant::now(),
            patience: Mutex::new(None),
        })
    }

    /// The record that covers it.
    ///
    /// Its leader's own until the request has ended.
    pub(crate) fn record(&self) -> u32 {
        self.record.load(Ordering::Relaxed)
    }
}
