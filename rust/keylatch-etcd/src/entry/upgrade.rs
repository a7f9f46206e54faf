//! An upgrade that waits: marks beside the shared entry, and what it waits for.
//!
//! The shared entry stays, so writers wait for it as before. The pending mark stands among the exclusive entries, so readers
//! that come later wait for it. It waits for each shared entry that no exclusive one stands before: that one holds, or is
//! about to. When there is none, the second mark is put, and in the same step it is read once more that there is none. From
//! then on the readers that stand behind a waiting writer wait for the mark, too: the writer may leave.

use super::{Created, Entries, Entry, Replaced, Wish};
use crate::layout::{self, Layout, Mark as Kind};
use crate::session::Session;
use crate::space::{Epoch, Space};
use crate::wire::{ASCENDING, BY_CREATION, Compare, KeyValue, RangeRequest, RequestOp, TxnRequest, TxnResponse};
use keylatch::Mode;
use std::sync::Arc;

/// What an upgrade waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The create revision of the mark.
    pub(crate) revision: i64,
    /// The revision of the store when this was read.
    pub(crate) read_at: i64,
    /// An entry of another process that shares the key.
    pub(crate) reader: Option<Vec<u8>>,
    /// The create revision of the oldest writer before the mark.
    pub(crate) writer: Option<i64>,
}

/// What became of a mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Marked {
    At(Mark),
    /// The shared entry is gone.
    NotShared,
    /// Another process upgrades the key.
    Conflict,
    /// As for other entries.
    Other(Created),
}

impl Entries {
    /// The mark of an upgrade of the one key of a wish.
    pub(crate) fn mark(space: &Space, session: Arc<Session>, wish: &Wish) -> Self {
        let number = space.next_number();
        let entry = |(key, _): &(keylatch::ObjectKey, Mode)| {
            let queue = space.layout.queue(key.as_ref());
            Entry {
                name: Layout::mark(queue.as_bytes(), Kind::Pending, session.lease, number),
                conflicting: Layout::conflicting(&queue, Mode::Exclusive),
                ahead: None,
                value: layout::entry_value(&wish.owner, key.as_ref()),
                queue: queue.into_bytes(),
            }
        };
        let entries = wish.keys.iter().take(1).map(entry).collect();
        // A second mark goes without a removal that says so.
        Self { entries, number, slot: None, floor: space.layout.floor(session.lease), session }
    }

    /// The second mark of the same upgrade.
    pub(crate) fn done_mark(&self) -> Self {
        let done = |entry: &Entry| {
            let name = Layout::mark(&entry.queue, Kind::Done, self.session.lease, self.number);
            Entry { name, ..entry.clone() }
        };
        Self { entries: self.entries.iter().map(done).collect(), ..self.clone() }
    }

    /// Puts the second mark, and reads who shares the key.
    ///
    /// If both entries are there and the epoch is this one.
    pub(crate) fn mark_done(&self, space: &Space, epoch: &Epoch, revision: i64, shared: &Replaced) -> TxnRequest {
        let done = self.done_mark();
        let mut request = self.mark_look(space, epoch, revision, shared);
        request.compare.push(self.is_above_floor());
        let before = RequestOp::range(RangeRequest::key(done.entries[0].name.clone()));
        request.success.push(before);
        request.success.extend(done.puts(&done.entries));
        request
    }

    /// The create revision of the second mark.
    ///
    /// From the answer to [`mark_done`](Self::mark_done).
    pub(crate) fn done_at(answer: &TxnResponse) -> i64 {
        let before = answer.responses.get(3).and_then(|found| found.kvs().first());
        // An earlier copy may have put it.
        before.map_or_else(|| answer.header.map_or(0, |header| header.revision), |kv| kv.create_revision)
    }

    /// Removes the second mark that was put at this revision.
    ///
    /// The next one has the same name. A copy that comes late leaves it alone.
    pub(crate) fn done_removal(&self, revision: i64) -> TxnRequest {
        let done = self.done_mark();
        let compare = done.names().map(|name| Compare::created_at(name.to_vec(), revision)).collect();
        let success = done.names().map(|name| RequestOp::delete(name.to_vec())).collect();
        TxnRequest { compare, success, failure: Vec::new() }
    }

    /// Puts the mark, if the shared entry is there and no other mark is.
    pub(crate) fn mark_creation(&self, space: &Space, epoch: &Epoch, shared: &Replaced) -> TxnRequest {
        let marks = Layout::marks(&self.entries[0].queue, Kind::Pending);
        let is_shared = Compare::created_at(shared.name.clone(), shared.revision);
        let compare = vec![
            self.is_absent(),
            self.is_above_floor(),
            space.same_epoch(epoch),
            is_shared,
            Compare::none_below(&marks),
        ];
        let reads = self.sharers().into_iter();
        let own = RequestOp::range(RangeRequest::key(shared.name.clone()));
        TxnRequest {
            compare,
            success: reads.chain(self.puts(&self.entries)).collect(),
            failure: self.reasons(space).into_iter().chain([own]).collect(),
        }
    }

    /// Reads what a creation did that compared this epoch.
    pub(crate) fn marked(&self, answer: &TxnResponse, epoch: &Epoch, shared: &Replaced) -> Marked {
        let revision = answer.header.map_or(0, |header| header.revision);
        if answer.succeeded {
            return Marked::At(Self::read_sharers(answer, revision, shared));
        }
        match self.created(answer, epoch) {
            Created::Busy => {
                let own = answer.responses.get(3).and_then(|found| found.kvs().first());
                let is_shared = own.is_some_and(|kv| kv.create_revision == shared.revision);
                if is_shared { Marked::Conflict } else { Marked::NotShared }
            }
            other => Marked::Other(other),
        }
    }

    /// Reads who shares the key, if both entries are there and the epoch is this one.
    pub(crate) fn mark_look(&self, space: &Space, epoch: &Epoch, revision: i64, shared: &Replaced) -> TxnRequest {
        TxnRequest {
            compare: vec![
                Compare::created_at(self.entries[0].name.clone(), revision),
                Compare::created_at(shared.name.clone(), shared.revision),
                space.same_epoch(epoch),
            ],
            success: self.sharers().into(),
            failure: vec![RequestOp::range(RangeRequest::key(shared.name.clone()))],
        }
    }

    /// Reads the answer to [`mark_look`](Self::mark_look).
    ///
    /// Nothing if the mark is gone or the epoch is another.
    pub(crate) fn mark_looked(answer: &TxnResponse, revision: i64, shared: &Replaced) -> Option<Marked> {
        if answer.succeeded {
            return Some(Marked::At(Self::read_sharers(answer, revision, shared)));
        }
        let own = answer.responses.first().and_then(|found| found.kvs().first());
        own.is_none_or(|kv| kv.create_revision != shared.revision).then_some(Marked::NotShared)
    }

    /// Reads those that share the key, and the oldest writer.
    fn sharers(&self) -> [RequestOp; 3] {
        let queue = &self.entries[0].queue;
        let oldest = |letters: &[u8], limit| {
            let prefix = [queue.as_slice(), letters].concat();
            let order =
                RangeRequest { sort_order: ASCENDING, sort_target: BY_CREATION, ..RangeRequest::prefix(prefix) };
            RequestOp::range(RangeRequest { limit, keys_only: true, ..order })
        };
        // Of two, one is of another process.
        [oldest(b"r", 2), oldest(b"0r", 2), oldest(b"w", 1)]
    }

    fn read_sharers(answer: &TxnResponse, revision: i64, shared: &Replaced) -> Mark {
        let found = |at: usize| answer.responses.get(at).map_or(&[][..], |found| found.kvs());
        let writer = found(2).first().map(|kv| kv.create_revision).filter(|&writer| writer < revision);
        // A reader behind a writer waits. One that is not may hold.
        let before = writer.unwrap_or(revision);
        let holds = |kv: &&KeyValue| kv.key != shared.name;
        let mut readers = found(0).iter().filter(|kv| kv.create_revision < before).chain(found(1)).filter(holds);
        let reader = readers.next().map(|kv| kv.key.clone());
        Mark { revision, read_at: answer.header.map_or(0, |header| header.revision), reader, writer }
    }
}
