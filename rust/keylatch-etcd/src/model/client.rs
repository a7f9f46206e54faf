//! What a process decides, one step each.

use super::fault::Fault;
use super::state::{Client, Id, Mark, Message, Op, Phase, Removal, Session, Setup, State, TTL};

impl Phase {
    /// Whether a client of this phase counts on a hold.
    pub(super) fn holds(&self) -> bool {
        let is_upgrading = matches!(self, Self::Upgrading | Self::Settling | Self::Marking(_) | Self::Marked(_));
        is_upgrading || matches!(self, Self::Held | Self::Downgrading | Self::Unmarking(..))
    }
}

impl Client {
    pub(super) fn new(client: usize, lease: u8) -> Self {
        Self {
            op: 0,
            phase: Phase::Idle,
            id: Id { client, number: 0, slot: 0 },
            numbers: 0,
            slots: 0,
            free: Vec::new(),
            old: None,
            upgraded: false,
            refused: false,
            tainted: false,
            predecessors: Vec::new(),
            fence: 0,
            session: Session::Live,
            lease,
            deadline: TTL,
            pending: Vec::new(),
            wrote: false,
            downgraded: false,
            deleted: false,
        }
    }

    pub(super) fn is_valid(&self, now: u8) -> bool {
        self.session == Session::Live && now < self.deadline
    }

    /// Numbers an acquisition.
    fn begin(&mut self) {
        self.numbers += 1;
        self.id.number = self.numbers;
        self.id.slot = self.free.pop().unwrap_or_else(|| self.new_slot());
    }

    fn new_slot(&mut self) -> u8 {
        self.slots += 1;
        self.slots
    }

    /// Sends a removal of entries.
    fn removal(&mut self, id: Id, raise: bool) -> Message {
        self.pending.push(Removal { id, raise, repeated: false });
        Message::Remove { id, lease: self.lease, raise }
    }

    fn end_op(&mut self) {
        self.op += 1;
        self.rest();
    }

    /// Back to the start of the operation, or of the next.
    fn rest(&mut self) {
        self.phase = Phase::Idle;
        self.tainted = false;
        self.predecessors.clear();
        self.fence = 0;
        self.wrote = false;
        self.downgraded = false;
        self.deleted = false;
        self.old = None;
        self.upgraded = false;
        self.refused = false;
    }
}

/// The steps of the clients; `Setup` knows the scripts and the fault.
impl Setup {
    /// Transactions that create the entries of an operation.
    pub(super) fn parts(&self, op: &Op) -> u8 {
        if self.has(Fault::BatchSplit) { op.keys.len() as u8 } else { 1 }
    }

    fn creation(&self, op: &Op, id: Id, lease: u8, (part, first): (u8, bool)) -> Message {
        let mut keys = op.keys.clone();
        if self.has(Fault::BatchSplit) {
            keys = vec![keys[usize::from(part)]];
        } else {
            keys.sort_unstable();
        }
        Message::Create { id, lease, keys, first }
    }

    pub(super) fn begin(&self, s: &mut State, client: usize) {
        let c = &mut s.clients[client];
        if !self.has(Fault::KeyReused) {
            c.begin();
        }
        c.phase = Phase::Creating(0);
        self.send_creation(s, client, 0, true);
    }

    /// Sends a creation, the first time or again.
    pub(super) fn send_creation(&self, s: &mut State, client: usize, part: u8, first: bool) {
        let op = self.scripts[client][s.clients[client].op].clone();
        let (id, lease) = (s.clients[client].id, s.clients[client].lease);
        s.send(self.creation(&op, id, lease, (part, first)));
    }

    pub(super) fn send_confirm(&self, s: &mut State, client: usize) {
        let op = self.scripts[client][s.clients[client].op].clone();
        s.clients[client].phase = Phase::Confirming;
        s.send(Message::Confirm { id: s.clients[client].id, keys: op.keys });
    }

    /// Ends the operation with a removal of its entries.
    pub(super) fn remove(&self, s: &mut State, client: usize) {
        let c = &mut s.clients[client];
        let unanswered = matches!(c.phase, Phase::Creating(_));
        if unanswered && self.has(Fault::UnknownIsFailure) {
            c.end_op();
            return;
        }
        let raise = (c.tainted || unanswered) && !self.has(Fault::NoFloor);
        // Of an upgrade that waited, the shared entry is there still.
        if let Some((old, tainted)) = c.old.take() {
            let removal = c.removal(old, tainted);
            s.send(removal);
        }
        let c = &mut s.clients[client];
        let removal = c.removal(c.id, raise);
        c.end_op();
        s.send(removal);
    }

    pub(super) fn lose(&self, s: &mut State, client: usize) {
        let c = &mut s.clients[client];
        let lease = c.lease;
        c.pending.clear();
        // Names have the lease.
        c.free.clear();
        match c.phase {
            _ if c.phase.holds() => c.end_op(),
            // A waiter begins again under the new lease.
            _ => c.rest(),
        }
        if self.has(Fault::LeaseBeforeRevoke) {
            c.session = Session::Granting;
            s.send(Message::Grant { client, sent: s.now });
        } else {
            c.session = Session::Revoking;
            s.send(Message::Revoke { client, lease });
        }
    }

    /// Tries to turn a shared hold into an exclusive one.
    pub(super) fn upgrade(&self, s: &mut State, client: usize) {
        let waits = self.op(s, client).is_some_and(|op| op.waits);
        let c = &mut s.clients[client];
        c.old = Some((c.id, c.tainted));
        c.begin();
        if waits {
            // Marks have names of their own.
            c.id.slot = c.new_slot();
        }
        c.tainted = false;
        c.phase = if waits { Phase::Marking(Mark::Pending) } else { Phase::Upgrading };
        self.send_exchange(s, client);
    }

    /// Sends the exchange, or the question what it has done.
    pub(super) fn send_exchange(&self, s: &mut State, client: usize) {
        let key = self.scripts[client][s.clients[client].op].keys[0].0;
        let c = &s.clients[client];
        let Some((old, _)) = c.old else { return };
        let (id, lease) = (c.id, c.lease);
        s.send(match c.phase {
            Phase::Settling => Message::Settle { id, old, lease, raise: c.tainted },
            Phase::Marking(mark) => Message::PutMark { id, old, lease, key, mark },
            Phase::Unmarking(_, rev) => Message::TakeMark { id, rev },
            _ => Message::Replace { id, old, lease, key },
        });
    }

    /// The server says that it is full, and may have carried the request out.
    fn full(&self, s: &mut State, client: usize) {
        let c = &mut s.clients[client];
        let is_forgotten = self.has(Fault::FullIsNotDone) && !c.tainted;
        match c.phase {
            Phase::Creating(_) if is_forgotten => c.end_op(),
            Phase::Creating(_) => {
                // Each copy is answered, unless there were several.
                c.phase = Phase::Waiting;
                self.remove(s, client);
            }
            Phase::Upgrading | Phase::Marking(_) if is_forgotten => self.keeps(s, client),
            Phase::Upgrading => {
                c.phase = Phase::Settling;
                self.send_exchange(s, client);
            }
            Phase::Marking(_) => {
                let removal = c.removal(c.id, c.tainted);
                self.keeps(s, client);
                s.send(removal);
            }
            _ => {}
        }
    }

    /// An exchange ended without an answer about all of its copies.
    pub(super) fn exchange_unknown(&self, s: &mut State, client: usize, fault: Fault) {
        let c = &mut s.clients[client];
        if self.has(fault) {
            let removal = c.removal(c.id, true);
            self.keeps(s, client);
            return s.send(removal);
        }
        c.phase = Phase::Settling;
        self.send_exchange(s, client);
    }

    /// The mark was put: holds alone, or waits for another.
    fn marked(&self, s: &mut State, client: usize, (mark, rev, done): (Mark, u8, u8), reader: Option<u8>) {
        let is_last = mark == Mark::Done || self.has(Fault::NoSecondMark);
        let c = &mut s.clients[client];
        match (reader, mark) {
            (None, _) if is_last => {
                // The shared entry stays until the release.
                (c.phase, c.upgraded, c.fence) = (Phase::Held, true, rev);
                return;
            }
            (None, _) => c.phase = Phase::Marking(Mark::Done),
            (Some(reader), Mark::Pending) => {
                c.phase = Phase::Marked(reader);
                return;
            }
            // A late copy would put it again.
            (Some(_), Mark::Done) if c.tainted => {
                let removal = c.removal(c.id, true);
                self.keeps(s, client);
                return s.send(removal);
            }
            (Some(reader), Mark::Done) => c.phase = Phase::Unmarking(reader, done),
        }
        self.send_exchange(s, client);
    }

    /// Shares as before.
    fn keeps(&self, s: &mut State, client: usize) {
        let c = &mut s.clients[client];
        if let Some((old, tainted)) = c.old.take() {
            (c.id, c.tainted, c.phase, c.refused) = (old, tainted, Phase::Held, true);
        }
    }

    /// Holds alone, and removes what may come of the shared entry.
    fn replaced(&self, s: &mut State, client: usize, rev: u8) {
        let c = &mut s.clients[client];
        let Some((old, tainted)) = c.old.take() else { return };
        (c.phase, c.upgraded, c.fence) = (Phase::Held, true, rev);
        if tainted {
            // A late copy of its creation would put it again.
            let removal = c.removal(old, true);
            s.send(removal);
        } else if !c.tainted {
            c.free.push(old.slot);
        }
    }

    /// Holds, or waits for what is older.
    fn settle(&self, s: &mut State, client: usize) {
        let late = s.now >= s.clients[client].deadline || s.clients[client].session != Session::Live;
        let c = &mut s.clients[client];
        if c.predecessors.iter().any(|p| p.1.is_some()) {
            c.phase = Phase::Waiting;
        } else if late && !self.has(Fault::NoClockCheck) {
            // The lease may be over: nothing is believed before the new lease.
            c.phase = Phase::Waiting;
        } else {
            c.phase = Phase::Held;
            if self.has(Fault::NoClockCheck) {
                c.deadline = c.deadline.max(s.now + 1);
            }
        }
    }

    pub(super) fn predecessor_gone(&self, s: &mut State, client: usize) {
        if self.has(Fault::NoConfirm) || self.has(Fault::OlderIgnored) {
            let gone = |rev: u8| !s.server.entries.iter().any(|e| e.rev == rev);
            let op = self.scripts[client][s.clients[client].op].clone();
            let id = s.clients[client].id;
            let own = s.server.entries.iter().filter(|e| e.id.is_named_as(id)).count() == op.keys.len();
            if self.has(Fault::OlderIgnored) && own {
                let c = &mut s.clients[client];
                c.predecessors.iter_mut().filter(|p| p.1.is_some_and(gone)).for_each(|p| p.1 = None);
                return self.settle(s, client);
            }
            if self.has(Fault::NoConfirm) {
                let mut fresh = s.server.predecessors(self, id, &op.keys);
                let mine = s.clients[client].fence;
                fresh.iter_mut().for_each(|p| p.1 = p.1.filter(|&rev| rev < mine));
                s.clients[client].predecessors = fresh;
                return self.settle(s, client);
            }
        }
        self.send_confirm(s, client);
    }

    /// An answer arrives.
    pub(super) fn receive(&self, s: &mut State, message: &Message) {
        match message {
            Message::Created { id, rev, predecessors, first } => {
                let client = id.client;
                // Once a second copy is sent, the first has been given up.
                let is_late = *first && s.clients[client].tainted;
                if s.clients[client].id != *id || is_late {
                    return;
                }
                let op = self.op(s, client).cloned();
                let c = &mut s.clients[client];
                match (c.phase.clone(), op) {
                    (Phase::Creating(part), Some(op)) if part + 1 < self.parts(&op) => {
                        let keys = predecessors.iter().map(|p| p.0);
                        // An answer about another part is not the one that is waited for.
                        let expected = match self.creation(&op, *id, 0, (part, false)) {
                            Message::Create { keys, .. } => keys[0].0,
                            _ => unreachable!("a creation"),
                        };
                        if keys.clone().any(|key| key == expected) {
                            c.predecessors.extend(predecessors);
                            c.phase = Phase::Creating(part + 1);
                            self.send_creation(s, client, part + 1, true);
                        }
                    }
                    (Phase::Creating(part), Some(op)) => {
                        let first = match self.creation(&op, *id, 0, (part, false)) {
                            Message::Create { keys, .. } => keys[0].0,
                            _ => unreachable!("a creation"),
                        };
                        if predecessors.first().is_some_and(|p| p.0 == first) {
                            c.predecessors.extend(predecessors);
                            c.fence = *rev;
                            self.settle(s, client);
                        }
                    }
                    (Phase::Confirming, Some(op)) if predecessors.len() == op.keys.len() => {
                        c.predecessors.clone_from(predecessors);
                        c.fence = *rev;
                        self.settle(s, client);
                    }
                    _ => {}
                }
            }
            Message::Refused { id } | Message::Gone { id } if s.clients[id.client].id == *id => {
                let c = &mut s.clients[id.client];
                let waits = matches!(c.phase, Phase::Confirming | Phase::Creating(_));
                if waits {
                    // What is left of it goes, and the operation begins again.
                    let raise = !self.has(Fault::NoFloor);
                    let removal = c.removal(*id, raise);
                    c.rest();
                    s.send(removal);
                }
            }
            Message::Downgraded { id } => {
                let c = &mut s.clients[id.client];
                if c.id == *id && c.phase == Phase::Downgrading {
                    c.phase = Phase::Held;
                }
            }
            Message::Replaced { id, rev } => {
                let c = &s.clients[id.client];
                if c.id == *id && matches!(c.phase, Phase::Upgrading | Phase::Settling) {
                    self.replaced(s, id.client, *rev);
                }
            }
            Message::MarkPut { id, rev, done, mark, reader } => {
                let c = &s.clients[id.client];
                if c.id == *id && c.phase == Phase::Marking(*mark) {
                    self.marked(s, id.client, (*mark, *rev, *done), *reader);
                }
            }
            Message::MarkTaken { id } => {
                let c = &mut s.clients[id.client];
                if let (true, Phase::Unmarking(reader, _)) = (c.id == *id, c.phase.clone()) {
                    c.phase = Phase::Marked(reader);
                }
            }
            Message::NotReplaced { id } => {
                let c = &mut s.clients[id.client];
                if c.id == *id && matches!(c.phase, Phase::Upgrading | Phase::Marking(_)) {
                    if matches!(c.phase, Phase::Marking(_)) {
                        let removal = s.clients[id.client].removal(*id, true);
                        self.keeps(s, id.client);
                        s.send(removal);
                    } else if c.tainted {
                        self.exchange_unknown(s, id.client, Fault::BusyIsFinal);
                    } else {
                        c.free.push(id.slot);
                        self.keeps(s, id.client);
                    }
                }
            }
            Message::Settled { id, old } => {
                let c = &mut s.clients[id.client];
                if c.id == *id && c.phase == Phase::Settling {
                    if *old {
                        self.keeps(s, id.client);
                    } else {
                        c.end_op();
                    }
                }
            }
            Message::Removed { id } => {
                let c = &mut s.clients[id.client];
                let Some(at) = c.pending.iter().position(|removal| removal.id == *id) else { return };
                let removal = c.pending.remove(at);
                // A late copy of the creation is below the floor. One of the removal would find the next entry.
                if !removal.repeated || self.has(Fault::SlotBeforeRemovalEnds) {
                    c.free.push(id.slot);
                }
            }
            Message::Full { id } if s.clients[id.client].id == *id => self.full(s, id.client),
            Message::Renewed { client, lease, sent } => {
                let now = s.now;
                let c = &mut s.clients[*client];
                let revives = self.has(Fault::LateRenewalRevives);
                if c.lease == *lease && c.session == Session::Live && (now < c.deadline || revives) {
                    let from = if self.has(Fault::DeadlineFromAnswer) { now } else { *sent };
                    c.deadline = c.deadline.max(from + TTL);
                }
            }
            Message::NoLease { client, lease } => {
                let c = &s.clients[*client];
                if c.lease == *lease && c.session == Session::Live {
                    self.lose(s, *client);
                }
            }
            Message::Revoked { client, lease } => {
                let c = &mut s.clients[*client];
                if c.lease == *lease && c.session == Session::Revoking {
                    c.session = Session::Granting;
                    s.send(Message::Grant { client: *client, sent: s.now });
                }
            }
            Message::Granted { client, lease, sent } => {
                let now = s.now;
                let c = &mut s.clients[*client];
                if c.session == Session::Granting {
                    c.session = Session::Live;
                    c.lease = *lease;
                    c.deadline = sent + TTL;
                    if now >= c.deadline {
                        // The answer took too long; its lease counts for nothing.
                        self.lose(s, *client);
                    }
                }
            }
            _ => {}
        }
    }
}
