//! What a state of the search consists of.

use super::fault::Fault;

pub(super) const KEYS: usize = 2;
/// Ticks from a renewal to its end.
pub(super) const TTL: u8 = 2;

/// One operation of a script: the keys in its order, with their modes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub(super) struct Op {
    pub(super) keys: Vec<(usize, bool)>,
    pub(super) may_cancel: bool,
    pub(super) writes: bool,
    pub(super) downgrades: bool,
    pub(super) upgrades: bool,
    /// The upgrade waits for other readers.
    pub(super) waits: bool,
}

/// An acquisition, and what its entries are called.
///
/// The floor compares the number, which is used once. Names have the slot, which may be used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub(super) struct Id {
    pub(super) client: usize,
    pub(super) number: u8,
    pub(super) slot: u8,
}

impl Id {
    /// Whether the entries of both have one name.
    pub(super) fn is_named_as(self, other: Self) -> bool {
        (self.client, self.slot) == (other.client, other.slot)
    }
}

/// A removal without an answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub(super) struct Removal {
    pub(super) id: Id,
    /// It raises the floor: a copy of the creation may be under way.
    pub(super) raise: bool,
    /// It was sent more than once.
    pub(super) repeated: bool,
}

/// An entry of a queue.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub(super) struct Entry {
    pub(super) rev: u8,
    pub(super) key: usize,
    pub(super) id: Id,
    pub(super) lease: u8,
    pub(super) exclusive: bool,
    /// Exclusive ones wait for it whatever its revision is.
    pub(super) ahead: bool,
    /// Of an upgrade that waits, or of one that is done.
    pub(super) mark: Option<Mark>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub(super) enum Mark {
    Pending,
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub(super) struct Lease {
    pub(super) id: u8,
    pub(super) expiry: u8,
}

/// etcd, and the store behind the lock.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Default)]
pub(super) struct Server {
    pub(super) rev: u8,
    pub(super) entries: Vec<Entry>,
    /// Up to this number, acquisitions of the lease create nothing.
    pub(super) floors: Vec<(u8, u8)>,
    pub(super) leases: Vec<Lease>,
    pub(super) next_lease: u8,
    pub(super) store_fence: u8,
    pub(super) store_broken: bool,
}

/// The older entry that a waiter watches on a key; `None` where it holds.
pub(super) type Predecessor = (usize, Option<u8>);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub(super) enum Message {
    /// The first copy puts the entries without a look at whether they are there.
    Create {
        id: Id,
        lease: u8,
        keys: Vec<(usize, bool)>,
        first: bool,
    },
    Confirm {
        id: Id,
        keys: Vec<(usize, bool)>,
    },
    Remove {
        id: Id,
        lease: u8,
        raise: bool,
    },
    Renew {
        client: usize,
        lease: u8,
        sent: u8,
    },
    Revoke {
        client: usize,
        lease: u8,
    },
    Grant {
        client: usize,
        sent: u8,
    },
    Downgrade {
        id: Id,
        key: usize,
        rev: u8,
    },
    /// Puts an exclusive entry in the place of a shared one, if no other is there.
    Replace {
        id: Id,
        old: Id,
        lease: u8,
        key: usize,
    },
    /// Puts a mark beside a shared entry, and reads who shares the key.
    PutMark {
        id: Id,
        old: Id,
        lease: u8,
        key: usize,
        mark: Mark,
    },
    /// Removes the mark of this revision, of an upgrade that is not done after all.
    TakeMark {
        id: Id,
        rev: u8,
    },
    /// Asks which of both entries there is.
    ///
    /// It raises the floor if a copy of the exchange may be under way.
    Settle {
        id: Id,
        old: Id,
        lease: u8,
        raise: bool,
    },
    Write {
        fence: u8,
    },
    Created {
        id: Id,
        rev: u8,
        predecessors: Vec<Predecessor>,
        /// It answers the first copy of a creation.
        first: bool,
    },
    /// The database is full. The request may be done all the same.
    Full {
        id: Id,
    },
    Refused {
        id: Id,
    },
    Gone {
        id: Id,
    },
    Removed {
        id: Id,
    },
    Downgraded {
        id: Id,
    },
    /// With the revisions of both marks, and of another that shares the key.
    MarkPut {
        id: Id,
        rev: u8,
        done: u8,
        mark: Mark,
        reader: Option<u8>,
    },
    MarkTaken {
        id: Id,
    },
    NotReplaced {
        id: Id,
    },
    /// The new one, of this revision.
    Replaced {
        id: Id,
        rev: u8,
    },
    Settled {
        id: Id,
        old: bool,
    },
    Renewed {
        client: usize,
        lease: u8,
        sent: u8,
    },
    NoLease {
        client: usize,
        lease: u8,
    },
    Revoked {
        client: usize,
        lease: u8,
    },
    Granted {
        client: usize,
        lease: u8,
        sent: u8,
    },
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub(super) enum Phase {
    Idle,
    /// The creation of this chunk is unanswered.
    Creating(u8),
    Waiting,
    Confirming,
    Held,
    /// Shares already; the server has not said so.
    Downgrading,
    /// Shares; the exchange of the entry is unanswered.
    Upgrading,
    /// Shares; the mark is unanswered.
    Marking(Mark),
    /// Shares, and waits for this reader.
    Marked(u8),
    /// Shares; the mark that was too early is being removed.
    ///
    /// With the reader to wait for, and the mark's revision.
    Unmarking(u8, u8),
    /// Shares; it is asked what the exchange has done.
    Settling,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub(super) enum Session {
    Live,
    /// Lost; the old lease is being revoked.
    Revoking,
    /// The new lease is being asked for.
    Granting,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub(super) struct Client {
    pub(super) op: usize,
    pub(super) phase: Phase,
    pub(super) id: Id,
    /// The last number that was used.
    pub(super) numbers: u8,
    /// The last slot that was used for the first time.
    pub(super) slots: u8,
    /// Slots whose entries are gone, and of which no copy is under way.
    pub(super) free: Vec<u8>,
    /// The entry that is being replaced.
    ///
    /// And whether a copy of its creation may still be under way.
    pub(super) old: Option<(Id, bool)>,
    pub(super) upgraded: bool,
    /// No other upgrade is tried.
    pub(super) refused: bool,
    /// A copy of a creation may still be under way.
    pub(super) tainted: bool,
    pub(super) predecessors: Vec<Predecessor>,
    pub(super) fence: u8,
    pub(super) session: Session,
    pub(super) lease: u8,
    pub(super) deadline: u8,
    /// Removals without an answer.
    pub(super) pending: Vec<Removal>,
    pub(super) wrote: bool,
    pub(super) downgraded: bool,
    /// An operator deleted the entry.
    pub(super) deleted: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub(super) struct State {
    pub(super) now: u8,
    pub(super) server: Server,
    pub(super) clients: Vec<Client>,
    pub(super) network: Vec<Message>,
    pub(super) budget: Budget,
}

impl State {
    pub(super) fn send(&mut self, message: Message) {
        let place = self.network.binary_search(&message).unwrap_or_else(|place| place);
        self.network.insert(place, message);
    }
}

/// What may still go wrong in a search.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) struct Budget {
    pub(super) losses: u8,
    pub(super) retries: u8,
    pub(super) deletions: u8,
    pub(super) renewals: u8,
    pub(super) refusals: u8,
    /// Answers that say that the database is full.
    pub(super) full: u8,
}

/// One search: scripts, what may go wrong, and the deliberate fault.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) scripts: Vec<Vec<Op>>,
    pub(super) ticks: u8,
    pub(super) budget: Budget,
    pub(super) fault: Option<Fault>,
    /// As many clients stand in line, in their order, as the search begins.
    pub(super) in_line: usize,
}

impl Setup {
    pub(super) fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    pub(super) fn op(&self, state: &State, client: usize) -> Option<&Op> {
        self.scripts[client].get(state.clients[client].op)
    }
}

impl Message {
    /// Of a request that a full database refuses, whose it is.
    pub(super) fn puts(&self) -> Option<Id> {
        match self {
            Self::Create { id, .. } | Self::Replace { id, .. } | Self::PutMark { id, .. } => Some(*id),
            _ => None,
        }
    }
}
