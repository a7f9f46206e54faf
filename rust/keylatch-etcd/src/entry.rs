//! The entries of one acquisition, and the transactions about them.

mod upgrade;

use crate::client::Sent;
use crate::error::EtcdError;
use crate::layout::{self, Layout};
use crate::session::Session;
use crate::space::{Epoch, Space};
use crate::wire::{BY_CREATION, Compare, DESCENDING, RangeRequest, RequestOp, TxnRequest, TxnResponse};
use keylatch::{Mode, ObjectKey};
use std::sync::Arc;

pub(crate) use upgrade::{Mark, Marked};

/// As many keys as a batch may have.
pub const KEYS_PER_BATCH: usize = PARTS * KEYS_PER_PART;

/// As many keys as one transaction takes.
///
/// A range and a put each, of the 128 operations that a server takes by default.
pub(crate) const KEYS_PER_TRANSACTION: usize = 64;

/// Transactions within the transaction of a larger batch, and keys of each.
///
/// A server counts the longest list of a transaction, and takes 128 of one and those within it together.
const PARTS: usize = 16;
const KEYS_PER_PART: usize = 56;
const _: () = assert!(PARTS + 2 * KEYS_PER_PART <= 128 && 2 * KEYS_PER_TRANSACTION <= 128);

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

    /// The queues that its entries are in.
    pub(crate) fn queues(&self, layout: &Layout) -> Vec<Vec<u8>> {
        self.keys.iter().map(|(key, _)| layout.queue(key.as_ref()).into_bytes()).collect()
    }

    /// The key that errors name.
    pub(crate) fn key(&self) -> ObjectKey {
        self.keys.first().map_or_else(|| ObjectKey::new("", ""), |(key, _)| key.clone())
    }
}

/// One entry: its key in etcd, and where those stand that it waits for.
#[derive(Debug, Clone)]
struct Entry {
    queue: Vec<u8>,
    name: Vec<u8>,
    conflicting: Vec<u8>,
    /// Where those stand that it waits for whatever their revision is.
    ahead: Option<Vec<u8>>,
    value: Vec<u8>,
}

impl Entry {
    /// The name after a downgrade.
    fn name_ahead(&self) -> Vec<u8> {
        let letter = self.name.len() - Layout::ENTRY_NAME;
        [&self.name[..letter], b"0r", &self.name[letter + 1..]].concat()
    }
}

/// The entries of one acquisition.
///
/// No request about another that had their names is under way.
#[derive(Debug, Clone)]
pub(crate) struct Entries {
    entries: Arc<[Entry]>,
    /// The number of the acquisition, which is used once.
    number: u64,
    /// What the names have; nothing if they are not to be used again.
    slot: Option<u64>,
    /// Where the greatest number stands that may not create anything any more.
    floor: Vec<u8>,
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

/// An entry of this process whose place another takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Replaced {
    pub(crate) name: Vec<u8>,
    pub(crate) revision: i64,
    /// The slot that is free once the entry is gone.
    pub(crate) slot: Option<u64>,
}

/// What became of a creation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Created {
    At(Place),
    /// An earlier copy of the request had created them, at this revision.
    Before(i64),
    /// The epoch is another one than was thought.
    OtherEpoch,
    /// Another is in the way, and the creation was only to happen without.
    Busy,
    /// The number is below the floor, which another acquisition has raised.
    Spent,
    /// The floor is gone, and so may be everything else of the lease.
    NoFloor,
}

/// Which of two entries there is, of which one was to take the other's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    /// The new one, of this revision.
    New(i64),
    Old,
    Neither,
}

impl Entries {
    pub(crate) fn new(space: &Space, session: Arc<Session>, wish: &Wish) -> Self {
        let (number, slot) = (space.next_number(), session.slots.take());
        let entry = |(key, mode): &(ObjectKey, Mode)| {
            let queue = space.layout.queue(key.as_ref());
            Entry {
                name: Layout::entry(&queue, *mode, session.lease, slot),
                conflicting: Layout::conflicting(&queue, *mode),
                ahead: Some(Layout::ahead(&queue, *mode)),
                value: layout::entry_value(&wish.owner, key.as_ref()),
                queue: queue.into_bytes(),
            }
        };
        let entries = wish.keys.iter().map(entry).collect();
        Self { entries, number, slot: Some(slot), floor: space.layout.floor(session.lease), session }
    }

    /// Holds while this acquisition may create its entries.
    fn is_above_floor(&self) -> Compare {
        Compare::value_below(self.floor.clone(), Layout::floor_value(self.number))
    }

    /// Reads why a creation did not happen: own first entry, floor, epoch.
    fn reasons(&self, space: &Space) -> [RequestOp; 3] {
        let first = RangeRequest { keys_only: true, ..RangeRequest::key(self.entries[0].name.clone()) };
        let others = [self.floor.clone(), space.layout.epoch()].map(RangeRequest::key);
        let [floor, epoch] = others.map(RequestOp::range);
        [RequestOp::range(first), floor, epoch]
    }

    /// The queues that the entries are in.
    pub(crate) fn queues(&self) -> Vec<Vec<u8>> {
        self.entries.iter().map(|entry| entry.queue.clone()).collect()
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.entries.iter().map(|entry| entry.name.as_slice())
    }

    /// Holds while the entries are not there.
    ///
    /// All are created in one step, so the first speaks for all.
    fn is_absent(&self) -> Compare {
        Compare::created_at(self.entries[0].name.clone(), 0)
    }

    /// Whether they are too many for one list of operations.
    fn is_divided(&self) -> bool {
        self.entries.len() > KEYS_PER_TRANSACTION
    }

    /// What is done about the entries, in one step however many they are.
    fn divided(&self, part: impl Fn(&[Entry]) -> Vec<RequestOp>) -> Vec<RequestOp> {
        if !self.is_divided() {
            return part(&self.entries);
        }
        let inner = |success| RequestOp::txn(TxnRequest { success, ..TxnRequest::default() });
        self.entries.chunks(KEYS_PER_PART).map(|entries| inner(part(entries))).collect()
    }

    /// Reads why the first copy of a creation did nothing.
    pub(crate) fn explanation(&self, space: &Space) -> TxnRequest {
        TxnRequest { success: self.reasons(space).into(), ..TxnRequest::default() }
    }

    /// Creates the entries at the end of their queues, all in one revision.
    ///
    /// The first copy finds no entry of its own. If it comes late, beside what a later one has created, it writes the same
    /// once more, which changes no create revision. What it could not do is explained by a request of its own.
    pub(crate) fn creation(&self, space: &Space, epoch: &Epoch, sent: Sent) -> TxnRequest {
        let range = |entry: &Entry| {
            RequestOp::range(RangeRequest {
                limit: 1,
                sort_order: DESCENDING,
                sort_target: BY_CREATION,
                keys_only: true,
                ..RangeRequest::prefix(entry.conflicting.clone())
            })
        };
        let mut compare = vec![self.is_above_floor(), space.same_epoch(epoch)];
        compare.extend((sent == Sent::Again).then(|| self.is_absent()));
        TxnRequest {
            compare,
            // The ranges come first: they show what was there before.
            success: self.divided(|entries| entries.iter().map(range).chain(self.puts(entries)).collect()),
            failure: if sent == Sent::Again { self.reasons(space).into() } else { Vec::new() },
        }
    }

    /// Creates the entries if none stands before any; leaves nothing behind otherwise.
    ///
    /// An entry that they replace is not in the way. It goes in the same step, or stays as it was.
    pub(crate) fn creation_alone(&self, space: &Space, epoch: &Epoch, replaced: Option<&Replaced>) -> TxnRequest {
        let own = [self.is_absent(), self.is_above_floor(), space.same_epoch(epoch)].into_iter();
        let free = self.entries.iter().map(|entry| match replaced {
            Some(own) if own.name.starts_with(&entry.conflicting) => {
                Compare::only_below(&entry.conflicting, own.revision)
            }
            _ => Compare::none_below(&entry.conflicting),
        });
        let delete = replaced.map(|own| RequestOp::delete(own.name.clone()));
        TxnRequest {
            compare: own.chain(free).collect(),
            success: delete.into_iter().chain(self.puts(&self.entries)).collect(),
            failure: self.reasons(space).into(),
        }
    }

    /// Reads which entry there is: the own one, or the one that it was to replace.
    ///
    /// Where a copy of the creation may still be under way, the floor is raised.
    pub(crate) fn settlement(&self, replaced: &Replaced, creation: Creation) -> TxnRequest {
        let read = |name: &[u8]| RequestOp::range(RangeRequest::key(name));
        let reads = [&self.entries[0].name, &replaced.name, &self.floor].map(|name| read(name));
        if creation == Creation::Done {
            return TxnRequest { success: reads.into(), ..TxnRequest::default() };
        }
        let success = reads.iter().cloned().chain([self.raised_floor()]).collect();
        TxnRequest { compare: vec![self.is_above_floor()], success, failure: reads.into() }
    }

    /// Reads the answer to [`settlement`](Self::settlement).
    ///
    /// Nothing if the floor is gone, and the lease with it.
    pub(crate) fn settled(answer: &TxnResponse, replaced: &Replaced) -> Option<Settled> {
        let found = |at: usize| answer.responses.get(at).and_then(|found| found.kvs().first());
        let [own, old, floor] = [0, 1, 2].map(found);
        floor?;
        Some(match (own, old) {
            (Some(own), _) => Settled::New(own.create_revision),
            (None, Some(old)) if old.create_revision == replaced.revision => Settled::Old,
            (None, _) => Settled::Neither,
        })
    }

    /// Gives the slot back.
    ///
    /// The entries are gone, and no copy of their removal is under way.
    pub(crate) fn put_slot_back(&self) {
        if let Some(slot) = self.slot {
            self.session.slots.put_back(slot);
        }
    }

    /// The slot, for others to give back.
    pub(crate) fn slot(&self) -> Option<u64> {
        self.slot
    }

    /// The same entries, whose names are not used again.
    pub(crate) fn without_slot(&self) -> Self {
        Self { slot: None, ..self.clone() }
    }

    fn raised_floor(&self) -> RequestOp {
        RequestOp::put(self.floor.clone(), Layout::floor_value(self.number), self.session.lease)
    }

    /// Raises the floor to this acquisition.
    pub(crate) fn floor_raise(&self) -> TxnRequest {
        TxnRequest { compare: vec![self.is_above_floor()], success: vec![self.raised_floor()], failure: Vec::new() }
    }

    fn puts<'e>(&self, entries: &'e [Entry]) -> impl Iterator<Item = RequestOp> + use<'e> {
        let lease = self.session.lease;
        entries.iter().map(move |entry| RequestOp::put(entry.name.clone(), entry.value.clone(), lease))
    }

    /// Reads what a creation did that compared this epoch, or its explanation.
    pub(crate) fn created(&self, answer: &TxnResponse, epoch: &Epoch) -> Created {
        let revision = answer.header.map_or(0, |header| header.revision);
        if answer.succeeded {
            let before = answer.leaves().filter_map(|response| response.kvs().first());
            let predecessors = before.map(|kv| kv.key.clone()).collect();
            return Created::At(Place { revision, read_at: revision, predecessors });
        }
        let found = |at: usize| answer.responses.get(at).and_then(|found| found.kvs().first());
        let [own, floor, present] = [0, 1, 2].map(found);
        match (own, floor) {
            (Some(own), _) => Created::Before(own.create_revision),
            (None, None) => Created::NoFloor,
            (None, Some(floor)) if floor.value >= Layout::floor_value(self.number) => Created::Spent,
            (None, Some(_)) if !epoch.is(present.map(|kv| kv.value.as_slice())) => Created::OtherEpoch,
            // What else was compared is that nothing stands before the entries.
            (None, Some(_)) => Created::Busy,
        }
    }

    /// Compares that all entries are there, as they were created at this revision.
    pub(crate) fn presence(&self, revision: i64) -> TxnRequest {
        let own = |entry: &Entry| Compare::created_at(entry.name.clone(), revision);
        let part =
            |entries: &[Entry]| TxnRequest { compare: entries.iter().map(own).collect(), ..TxnRequest::default() };
        if !self.is_divided() {
            return part(&self.entries);
        }
        let parts = self.entries.chunks(KEYS_PER_PART).map(|entries| RequestOp::txn(part(entries)));
        TxnRequest { success: parts.collect(), ..TxnRequest::default() }
    }

    /// Reads what is older, if the own entries are there and the epoch is this one.
    pub(crate) fn look(&self, space: &Space, epoch: &Epoch, revision: i64) -> TxnRequest {
        let own = |entry: &Entry| Compare::created_at(entry.name.clone(), revision);
        let first = |range: RangeRequest| RequestOp::range(RangeRequest { limit: 1, keys_only: true, ..range });
        let older = |entry: &Entry| {
            first(RangeRequest {
                sort_order: DESCENDING,
                sort_target: BY_CREATION,
                max_create_revision: revision - 1,
                ..RangeRequest::prefix(entry.conflicting.clone())
            })
        };
        let part = |entries: &[Entry]| {
            let ahead = entries.iter().filter_map(|entry| entry.ahead.clone());
            let ahead = ahead.map(|prefix| first(RangeRequest::prefix(prefix)));
            TxnRequest {
                compare: entries.iter().map(own).collect(),
                success: entries.iter().map(older).chain(ahead).collect(),
                failure: Vec::new(),
            }
        };
        if self.is_divided() {
            let parts = self.entries.chunks(KEYS_PER_PART).map(|entries| RequestOp::txn(part(entries)));
            let compare = vec![space.same_epoch(epoch)];
            return TxnRequest { compare, success: parts.collect(), failure: Vec::new() };
        }
        let mut whole = part(&self.entries);
        whole.compare.push(space.same_epoch(epoch));
        whole
    }

    /// Reads the answer to [`look`](Self::look); nothing if a comparison failed.
    pub(crate) fn looked(answer: &TxnResponse, revision: i64) -> Option<Place> {
        let read_at = answer.header.map_or(0, |header| header.revision);
        let older = answer.leaves().filter_map(|response| response.kvs().first());
        let predecessors = older.map(|kv| kv.key.clone()).collect();
        answer.all_succeeded().then_some(Place { revision, read_at, predecessors })
    }

    /// Puts shared entries ahead of the queue in the place of exclusive ones.
    ///
    /// A shared entry of its own would be behind those that wait. Exclusive ones wait for it whatever its revision is.
    pub(crate) fn downgrade(&self, revision: i64) -> TxnRequest {
        let lease = self.session.lease;
        let delete = self.names().map(|name| RequestOp::delete(name.to_vec()));
        let put = self.entries.iter().map(|entry| RequestOp::put(entry.name_ahead(), entry.value.clone(), lease));
        TxnRequest {
            compare: self.names().map(|name| Compare::created_at(name.to_vec(), revision)).collect(),
            success: delete.chain(put).collect(),
            failure: vec![RequestOp::range(RangeRequest {
                keys_only: true,
                ..RangeRequest::key(self.entries[0].name_ahead())
            })],
        }
    }

    /// The entries after a downgrade, with their create revision.
    ///
    /// Nothing if they were gone before.
    pub(crate) fn downgraded(&self, answer: &TxnResponse) -> Option<(Self, i64)> {
        let before = answer.responses.first().and_then(|response| response.kvs().first());
        let revision = match (answer.succeeded, before) {
            (true, _) => answer.header.map(|header| header.revision)?,
            (false, before) => before?.create_revision,
        };
        Some((self.ahead(), revision))
    }

    /// What a downgrade makes of the entries.
    pub(crate) fn ahead(&self) -> Self {
        let ahead = |entry: &Entry| Entry { name: entry.name_ahead(), ahead: None, ..entry.clone() };
        Self { entries: self.entries.iter().map(ahead).collect(), ..self.clone() }
    }

    /// Removes the entries.
    ///
    /// Where a copy of the creation may still be under way, the floor is raised to its number. It is never lowered: a
    /// removal may come late itself.
    pub(crate) fn removal(&self, creation: Creation) -> TxnRequest {
        let delete = |entry: &Entry| RequestOp::delete(entry.name.clone());
        let deletions = self.divided(|entries| entries.iter().map(delete).collect());
        match creation {
            Creation::Done => TxnRequest { success: deletions, ..TxnRequest::default() },
            Creation::UnderWay => {
                let success = deletions.iter().cloned().chain([self.raised_floor()]).collect();
                TxnRequest { compare: vec![self.is_above_floor()], success, failure: deletions }
            }
        }
    }

    /// What a removal found that deleted so much, or the first copy of it.
    pub(crate) fn removed(&self, deleted: i64, is_repeated: bool) -> Removed {
        let is_all = usize::try_from(deleted) == Ok(self.entries.len());
        if is_all || is_repeated { Removed::Found } else { Removed::Missing }
    }
}

/// What is known of a creation when its entries are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Creation {
    /// It was answered at its first attempt.
    Done,
    /// A copy of it may be carried out later.
    UnderWay,
}

/// What a removal found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Removed {
    /// The entries.
    Found,
    /// Not all of the entries: they were removed by another.
    Missing,
    /// The end of the lease, which removes them, too.
    LeaseOver,
    /// A server that refuses it; the lease was given up.
    Refused(EtcdError),
}
