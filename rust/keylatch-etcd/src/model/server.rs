//! What etcd does with a request: one step each, as the log orders them.

use super::fault::Fault;
use super::state::{Entry, Id, KEYS, Lease, Mark, Message, Predecessor, Server, Setup, TTL};

impl Server {
    pub(super) fn has_lease(&self, lease: u8) -> bool {
        self.leases.iter().any(|l| l.id == lease)
    }

    /// Ends a lease, with all that is attached to it.
    pub(super) fn end_lease(&mut self, lease: u8) {
        self.leases.retain(|l| l.id != lease);
        self.entries.retain(|e| e.lease != lease);
        self.floors.retain(|floor| floor.0 != lease);
    }

    pub(super) fn grant(&mut self, now: u8) -> u8 {
        self.next_lease += 1;
        self.leases.push(Lease { id: self.next_lease, expiry: now + TTL });
        self.next_lease
    }

    /// The youngest older entry that conflicts, a key each.
    pub(super) fn predecessors(&self, setup: &Setup, id: Id, keys: &[(usize, bool)]) -> Vec<Predecessor> {
        let of = |&(key, exclusive): &(usize, bool)| {
            let own = self.entries.iter().find(|e| e.id.is_named_as(id) && e.key == key).map_or(u8::MAX, |e| e.rev);
            let ahead = |e: &&Entry| {
                let seen = match e.mark {
                    Some(Mark::Done) => !setup.has(Fault::MarkUnseen),
                    Some(Mark::Pending) => setup.has(Fault::PendingSeen),
                    None => false,
                };
                !e.id.is_named_as(id) && if exclusive { e.ahead } else { seen }
            };
            let older = |e: &&Entry| e.key == key && (e.rev < own && (exclusive || e.exclusive) || ahead(e));
            (key, self.entries.iter().filter(older).map(|e| e.rev).max())
        };
        keys.iter().map(of).collect()
    }

    /// The answer to a request.
    pub(super) fn handle(&mut self, setup: &Setup, now: u8, message: &Message) -> Option<Message> {
        match message {
            Message::Create { id, lease, keys, first } => Some(self.create(setup, *id, *lease, keys, *first)),
            Message::Confirm { id, keys } => {
                let own =
                    |&(key, _): &(usize, bool)| self.entries.iter().find(|e| e.id.is_named_as(*id) && e.key == key);
                let Some(entries) = keys.iter().map(own).collect::<Option<Vec<_>>>() else {
                    return Some(Message::Gone { id: *id });
                };
                let rev = entries.iter().map(|e| e.rev).max().unwrap_or(0);
                let predecessors = self.predecessors(setup, *id, keys);
                Some(Message::Created { id: *id, rev, predecessors, first: false })
            }
            Message::Remove { id, lease, raise } => {
                let by_client = setup.has(Fault::ReleaseByClient);
                self.entries.retain(|e| if by_client { e.id.client != id.client } else { !e.id.is_named_as(*id) });
                if *raise && self.has_lease(*lease) {
                    self.raise(*lease, id.number, setup.has(Fault::FloorLowered));
                }
                Some(Message::Removed { id: *id })
            }
            Message::Renew { client, lease, sent } => {
                let Some(found) = self.leases.iter_mut().find(|l| l.id == *lease) else {
                    return Some(Message::NoLease { client: *client, lease: *lease });
                };
                found.expiry = now + TTL;
                Some(Message::Renewed { client: *client, lease: *lease, sent: *sent })
            }
            Message::Revoke { client, lease } => {
                self.end_lease(*lease);
                Some(Message::Revoked { client: *client, lease: *lease })
            }
            Message::Grant { client, sent } => {
                let lease = self.grant(now);
                Some(Message::Granted { client: *client, lease, sent: *sent })
            }
            Message::Downgrade { id, key, rev } => {
                let is_it = |e: &&mut Entry| e.id.is_named_as(*id) && e.key == *key && e.exclusive && e.rev == *rev;
                if let Some(entry) = self.entries.iter_mut().find(is_it) {
                    self.rev += 1;
                    *entry = Entry { rev: self.rev, exclusive: false, ahead: !setup.has(Fault::NotAhead), ..*entry };
                }
                Some(Message::Downgraded { id: *id })
            }
            Message::Replace { id, old, lease, key } => {
                if let Some(entry) = self.entries.iter().find(|e| e.id.is_named_as(*id)) {
                    return Some(Message::Replaced { id: *id, rev: entry.rev });
                }
                let mut there = self.entries.iter().filter(|e| e.key == *key).peekable();
                let is_alone = there.peek().is_some() && there.all(|e| e.id == *old);
                if !is_alone || !self.has_lease(*lease) || self.is_below_floor(*lease, id.number) {
                    return Some(Message::NotReplaced { id: *id });
                }
                self.entries.retain(|e| e.id != *old);
                self.rev += 1;
                let rev = self.rev;
                self.entries.push(Entry {
                    rev,
                    key: *key,
                    id: *id,
                    lease: *lease,
                    exclusive: true,
                    ahead: false,
                    mark: None,
                });
                Some(Message::Replaced { id: *id, rev })
            }
            Message::PutMark { id, old, lease, key, mark } => {
                let is_there = |is: &dyn Fn(&Entry) -> bool| self.entries.iter().any(is);
                let other = is_there(&|e| e.key == *key && e.mark == Some(Mark::Pending) && e.id != *id);
                let shared = is_there(&|e| e.id == *old);
                if other || !shared || !self.has_lease(*lease) || self.is_below_floor(*lease, id.number) {
                    return Some(Message::NotReplaced { id: *id });
                }
                let own = self.entries.iter().find(|e| e.id == *id && e.mark == Some(Mark::Pending)).map(|e| e.rev);
                let queue = self.entries.iter().filter(|e| e.key == *key && e.id != *old && e.id != *id);
                let writers = queue.clone().filter(|e| e.exclusive).map(|e| e.rev);
                let before = writers.chain(own).min().unwrap_or(u8::MAX);
                let reader = queue.filter(|e| !e.exclusive && (e.rev < before || e.ahead)).map(|e| e.rev).min();
                if *mark == Mark::Done && own.is_none() {
                    return Some(Message::NotReplaced { id: *id });
                }
                if !self.entries.iter().any(|e| e.id == *id && e.mark == Some(*mark)) {
                    self.rev += 1;
                    let (rev, mark) = (self.rev, Some(*mark));
                    let entry = Entry { rev, key: *key, id: *id, lease: *lease, exclusive: true, ahead: false, mark };
                    self.entries.push(entry);
                }
                let put = self.entries.iter().find(|e| e.id == *id && e.mark == Some(*mark)).map_or(0, |e| e.rev);
                Some(Message::MarkPut { id: *id, rev: own.unwrap_or(put), done: put, mark: *mark, reader })
            }
            Message::TakeMark { id, rev } => {
                let is_any = setup.has(Fault::TakenByName);
                let is_it = |e: &Entry| e.id == *id && e.mark == Some(Mark::Done) && (is_any || e.rev == *rev);
                self.entries.retain(|e| !is_it(e));
                Some(Message::MarkTaken { id: *id })
            }
            Message::Settle { id, old, lease, raise } => {
                if *raise && self.has_lease(*lease) {
                    self.raise(*lease, id.number, false);
                }
                let found = |id: &Id| self.entries.iter().find(|e| e.id.is_named_as(*id));
                Some(match found(id) {
                    Some(entry) => Message::Replaced { id: *id, rev: entry.rev },
                    None => Message::Settled { id: *id, old: found(old).is_some() },
                })
            }
            Message::Write { fence } => {
                if *fence >= self.store_fence {
                    self.store_fence = *fence;
                } else if setup.has(Fault::StoreUnchecked) {
                    self.store_broken = true;
                }
                None
            }
            _ => None,
        }
    }

    fn is_below_floor(&self, lease: u8, number: u8) -> bool {
        self.floors.iter().any(|floor| floor.0 == lease && floor.1 >= number)
    }

    fn raise(&mut self, lease: u8, number: u8, may_lower: bool) {
        if may_lower || !self.is_below_floor(lease, number) {
            self.floors.retain(|floor| floor.0 != lease);
            self.floors.push((lease, number));
            self.floors.sort_unstable();
        }
    }

    fn create(&mut self, setup: &Setup, id: Id, lease: u8, keys: &[(usize, bool)], first: bool) -> Message {
        if !self.has_lease(lease) || self.is_below_floor(lease, id.number) {
            return Message::Refused { id };
        }
        let predecessors = self.predecessors(setup, id, keys);
        let there = self.entries.iter().find(|e| e.id.is_named_as(id) && e.key == keys[0].0).map(|e| e.rev);
        if let (Some(rev), false) = (there, first) {
            return Message::Created { id, rev, predecessors, first };
        }
        self.rev += 1;
        if there.is_some() {
            // They are written again, and stay as old as they are. The answer cannot know that.
            return Message::Created { id, rev: self.rev, predecessors, first };
        }
        for &(key, exclusive) in keys {
            debug_assert!(key < KEYS);
            self.entries.push(Entry { rev: self.rev, key, id, lease, exclusive, ahead: false, mark: None });
        }
        Message::Created { id, rev: self.rev, predecessors, first }
    }
}
