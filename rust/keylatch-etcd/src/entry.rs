//! The entries of one acquisition, and the transactions about them.

use crate::layout::{self, Layout};
use crate::session::Session;
use crate::space::{Epoch, Space};
use crate::wire::{BY_CREATION, Compare, DESCENDING, KeyValue, RangeRequest, RequestOp, TxnRequest, TxnResponse};
use keylatch::{Mode, ObjectKey};
use std::sync::Arc;

/// As many keys as one transaction takes.
///
/// A range and a put each, of 128 operations.
pub(crate) const KEYS_PER_TRANSACTION: usize = 64;

/// What is asked for: keys with their modes, and whom to name.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) keys: Vec<(ObjectKey, Mode)>,
    pub(crate) owner: String,
}

impl Wish {
    /// Keys in their order, each once, with the stronger of its modes.
    pub(crate) fn new(mut keys: Vec<(ObjectKey, Mode)>, owner: &str) -> Self {
        let rank = |mode: Mode| u8::from(mode != Mode::Exclusive);
        keys.sort_by(|a, b| a.0.cmp(&b.0).then(rank(a.1).cmp(&rank(b.1))));
        keys.dedup_by(|later, first| later.0 == first.0);
        Self { keys, owner: owner.to_owned() }
    }

    /// The key that errors name.
    pub(crate) fn key(&self) -> ObjectKey {
        self.keys.first().map_or_else(|| ObjectKey::new("", ""), |(key, _)| key.clone())
    }
}

/// One entry: its key in etcd, and where those stand that it waits for.
#[derive(Debug, Clone)]
struct Entry {
    name: Vec<u8>,
    conflicting: Vec<u8>,
    value: Vec<u8>,
}

/// The entries of one acquisition. Their names were used by no other before.
#[derive(Debug, Clone)]
pub(crate) struct Entries {
    entries: Vec<Entry>,
    marker: Vec<u8>,
    pub(crate) session: Arc<Session>,
}

/// What stands before an acquisition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The create revision of the own entries.
    pub(crate) revision: i64,
    /// The revision of the store when this was read.
    pub(crate) read_at: i64,
    /// The youngest older entry of each key that is not free for us.
    pub(crate) predecessors: Vec<Vec<u8>>,
}

/// What became of a creation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Created {
    At(Place),
    /// An earlier copy of the request had created them.
    Before,
    /// The epoch is another one than was thought.
    OtherEpoch,
    /// Another is in the way, and the creation was only to happen without.
    Busy,
}

impl Entries {
    pub(crate) fn new(space: &Space, session: Arc<Session>, wish: &Wish) -> Self {
        let number = space.next_number();
        let entry = |(key, mode): &(ObjectKey, Mode)| {
            let queue = space.layout.queue(key.as_ref());
            Entry {
                name: Layout::entry(&queue, *mode, session.lease, number),
                conflicting: Layout::conflicting(&queue, *mode),
                value: layout::entry_value(&wish.owner, key.as_ref()),
            }
        };
        let entries = wish.keys.iter().map(entry).collect();
        Self { entries, marker: space.layout.marker(session.lease, number), session }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.entries.iter().map(|entry| entry.name.as_slice())
    }

    fn is_absent(&self) -> impl Iterator<Item = Compare> {
        self.names().map(|name| Compare::created_at(name.to_vec(), 0))
    }

    /// Creates the entries at the end of their queues, all in one revision.
    pub(crate) fn creation(&self, space: &Space, epoch: &Epoch) -> TxnRequest {
        let compare = self.is_absent().chain([Compare::created_at(self.marker.clone(), 0), space.same_epoch(epoch)]);
        // The ranges come first: they show what was there before.
        let ranges = self.entries.iter().map(|entry| {
            RequestOp::range(RangeRequest {
                limit: 1,
                sort_order: DESCENDING,
                sort_target: BY_CREATION,
                keys_only: true,
                ..RangeRequest::prefix(entry.conflicting.clone())
            })
        });
        TxnRequest {
            compare: compare.collect(),
            success: ranges.chain(self.puts()).collect(),
            failure: vec![self.look_at_first()],
        }
    }

    /// Creates the entries if none stands before any; leaves nothing behind otherwise.
    pub(crate) fn creation_alone(&self, space: &Space, epoch: &Epoch) -> TxnRequest {
        // All are created in one step, so the first speaks for all.
        let own =
            self.is_absent().take(1).chain([Compare::created_at(self.marker.clone(), 0), space.same_epoch(epoch)]);
        let free = self.entries.iter().map(|entry| Compare::none_below(&entry.conflicting));
        let looks = self.entries.iter().map(|entry| {
            RequestOp::range(RangeRequest {
                limit: 1,
                keys_only: true,
                ..RangeRequest::prefix(entry.conflicting.clone())
            })
        });
        TxnRequest {
            compare: own.chain(free).collect(),
            success: self.puts().collect(),
            failure: std::iter::once(self.look_at_first()).chain(looks).collect(),
        }
    }

    fn puts(&self) -> impl Iterator<Item = RequestOp> {
        let lease = self.session.lease;
        self.entries.iter().map(move |entry| RequestOp::put(entry.name.clone(), entry.value.clone(), lease))
    }

    fn look_at_first(&self) -> RequestOp {
        RequestOp::range(RangeRequest { keys_only: true, ..RangeRequest::key(self.entries[0].name.clone()) })
    }

    /// Reads what a creation did.
    pub(crate) fn created(&self, answer: &TxnResponse) -> Created {
        let revision = answer.header.map_or(0, |header| header.revision);
        if answer.succeeded {
            let before = answer.responses.iter().filter_map(|response| response.kvs().first());
            let predecessors = before.map(|kv| kv.key.clone()).collect();
            return Created::At(Place { revision, read_at: revision, predecessors });
        }
        if answer.responses.first().is_some_and(|own| !own.kvs().is_empty()) {
            return Created::Before;
        }
        let is_busy = answer.responses.iter().skip(1).any(|found| !found.kvs().is_empty());
        if is_busy { Created::Busy } else { Created::OtherEpoch }
    }

    /// The create revision of the own entries, or nothing if one of them is gone.
    fn confirmed(&self, answer: &TxnResponse) -> Option<i64> {
        let first: Vec<Option<&KeyValue>> =
            answer.responses.iter().take(self.entries.len()).map(|response| response.kvs().first()).collect();
        let all: Option<Vec<i64>> = first.into_iter().map(|kv| kv.map(|kv| kv.create_revision)).collect();
        all.filter(|all| all.len() == self.entries.len()).and_then(|all| all.into_iter().max())
    }

    /// Reads the own entries and what is older, while the epoch is this one.
    pub(crate) fn look(&self, space: &Space, epoch: &Epoch, revision: i64) -> TxnRequest {
        let older = self.entries.iter().map(|entry| {
            RequestOp::range(RangeRequest {
                limit: 1,
                sort_order: DESCENDING,
                sort_target: BY_CREATION,
                keys_only: true,
                max_create_revision: revision - 1,
                ..RangeRequest::prefix(entry.conflicting.clone())
            })
        });
        let own = self
            .names()
            .map(|name| RequestOp::range(RangeRequest { keys_only: true, ..RangeRequest::key(name.to_vec()) }));
        TxnRequest { compare: vec![space.same_epoch(epoch)], success: own.chain(older).collect(), failure: Vec::new() }
    }

    /// Reads the answer to [`look`](Self::look).
    ///
    /// Nothing if an own entry is gone, or the epoch is another.
    pub(crate) fn looked(&self, answer: &TxnResponse) -> Option<Place> {
        let revision = self.confirmed(answer)?;
        let read_at = answer.header.map_or(0, |header| header.revision);
        let older = answer.responses.iter().skip(self.entries.len()).filter_map(|response| response.kvs().first());
        Some(Place { revision, read_at, predecessors: older.map(|kv| kv.key.clone()).collect() })
    }

    /// Removes the entries.
    ///
    /// A marker stays where a copy of the creation may still be under way.
    pub(crate) fn removal(&self, marker: Marker) -> TxnRequest {
        let mut success: Vec<_> = self.names().map(|name| RequestOp::delete(name.to_vec())).collect();
        if marker == Marker::Leave {
            success.push(RequestOp::put(self.marker.clone(), Vec::new(), self.session.lease));
        }
        TxnRequest { success, ..TxnRequest::default() }
    }
}

/// What a removal leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marker {
    /// Nothing: the creation was answered at its first attempt.
    None,
    /// A key that a creation which arrives late finds, and then creates nothing.
    Leave,
}
