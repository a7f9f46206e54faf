//! Programs of one thread about holds that are lost or change: leases, force, sessions that count, up- and downgrades, all
//! of it in a table that may be full; and what each has to answer.

#![allow(dead_code, reason = "proptest and the fuzzer each use their part")]

use keylatch::{
    FastObjectLockManager, Filter, Grant, LockConfig, LockError, LockRequest, Lost, Mode, OwnedLockGuard, OwnerRef,
    Reentrancy, Session,
};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(3600);
const KEYS: [&str; 3] = ["a", "b", "c"];
/// Two labels, and two sessions after them.
const OWNERS: usize = 4;
/// Room for this number of keys: whole pages, of which one place is not for keys.
const ROOM: usize = 31;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    Take {
        key: usize,
        mode: Mode,
        owner: usize,
        lease: Lease,
        number: bool,
    },
    Release(usize),
    Renew(usize, Lease),
    Force(usize),
    Expire(usize),
    ReleaseAll(usize),
    Downgrade(usize),
    /// Without a look at the leases that are in the way, or after one.
    Upgrade(usize, bool),
    /// Other keys are locked until there is no room for another one.
    Fill,
    Empty,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lease {
    None,
    Long,
    /// Over as soon as it began.
    Over,
}

impl Lease {
    fn from_number(number: u8) -> Self {
        [Self::None, Self::Long, Self::Over, Self::Over][usize::from(number) % 4]
    }

    fn ttl(self) -> Option<Duration> {
        match self {
            Self::None => None,
            Self::Long => Some(LONG),
            Self::Over => Some(Duration::from_nanos(1)),
        }
    }
}

/// What a caller has in its hands.
enum Hand {
    Guard(OwnedLockGuard),
    Number(Grant),
}

impl Hand {
    fn number(&self) -> Option<Grant> {
        match self {
            Self::Guard(_) => None,
            Self::Number(grant) => Some(*grant),
        }
    }
}

/// A hold, as the model has it.
struct Hold {
    hand: Hand,
    key: usize,
    mode: Mode,
    owner: usize,
    lease: Lease,
    lost: Option<Lost>,
    /// Its number, if it is exclusive.
    fence: u64,
}

/// How a grant stands to what there is of the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beside {
    Others,
    /// It is one hold with what its session has.
    Counted,
    /// What its session shared is exclusive with it.
    Risen,
}

struct World {
    locks: FastObjectLockManager,
    sessions: [Session; 2],
    holds: Vec<Hold>,
    fences: [u64; KEYS.len()],
    /// Of other keys, while the table is full.
    fillers: Vec<OwnedLockGuard>,
}

impl World {
    fn new() -> Self {
        let max_locks = u32::try_from(ROOM).expect("a few");
        let config = LockConfig { shards: 2, max_locks, reentrancy: Reentrancy::Count, ..LockConfig::default() };
        let locks = FastObjectLockManager::with_config(config).expect("these settings are fine");
        let sessions = ["one", "two"].map(|name| locks.session(name));
        Self { locks, sessions, holds: Vec::new(), fences: [0; KEYS.len()], fillers: Vec::new() }
    }

    /// Whether the table may be full: a lost or counted hold may need two places.
    fn may_be_full(&self) -> bool {
        !self.fillers.is_empty() || 2 * self.holds.len() + KEYS.len() >= ROOM
    }

    fn fill(&mut self) {
        for number in 0_u32.. {
            match self.locks.try_acquire_write_lock("filler", &number.to_le_bytes(), "filler") {
                Ok(guard) => self.fillers.push(guard.into_owned()),
                Err(LockError::WouldBlock { .. }) => {}
                Err(LockError::TableFull { .. }) => return,
                Err(other) => panic!("{other}"),
            }
        }
    }

    fn held(&self, key: usize) -> impl Iterator<Item = &Hold> {
        self.holds.iter().filter(move |hold| hold.key == key && hold.lost.is_none())
    }

    /// Has the model lose holds; returns how many.
    fn lose(&mut self, why: Lost, mut which: impl FnMut(&Hold) -> bool) -> usize {
        let mut count = 0;
        for hold in self.holds.iter_mut().filter(|hold| hold.lost.is_none()) {
            if which(hold) {
                hold.lost = Some(why);
                count += 1;
            }
        }
        count
    }

    /// Returns the mode that is granted now, and how it stands to what there is.
    fn allows(&mut self, key: usize, mode: Mode, owner: usize) -> Option<(Mode, Beside)> {
        loop {
            let exclusive = self.held(key).any(|hold| hold.mode == Mode::Exclusive);
            if self.held(key).next().is_none() || (mode == Mode::Shared && !exclusive) {
                return Some((mode, Beside::Others));
            }
            if self.lose(Lost::Expired, |hold| hold.key == key && hold.lease == Lease::Over) > 0 {
                continue;
            }
            let own = owner >= 2 && self.held(key).all(|hold| hold.owner == owner);
            let beside = if exclusive { Beside::Counted } else { Beside::Risen };
            return own.then_some((Mode::Exclusive, beside));
        }
    }

    fn take(&mut self, key: usize, mode: Mode, owner: usize, lease: Lease, number: bool) {
        let expected = self.allows(key, mode, owner);
        let named = match owner {
            0 => OwnerRef::Named("label"),
            1 => OwnerRef::Named("other"),
            session => OwnerRef::from(&self.sessions[session - 2]),
        };
        let mut request = LockRequest::new(("bucket", KEYS[key]), mode).owner(named);
        if let Some(ttl) = lease.ttl() {
            request = request.ttl(ttl);
        }
        let lock = self.locks.lock(request);
        let answer = match number {
            true => lock.grant_now().map(Hand::Number),
            false => lock.try_now().map(|guard| Hand::Guard(guard.into_owned())),
        };
        match (answer, expected) {
            (Ok(hand), Some((mode, beside))) => {
                let (has, fence) = match &hand {
                    Hand::Guard(guard) => (guard.mode(), guard.fence()),
                    Hand::Number(grant) => {
                        let mode = self.locks.key_and_mode(*grant).expect("held").1;
                        (mode, self.locks.fence(*grant).expect("held"))
                    }
                };
                assert_eq!(has, mode);
                if mode == Mode::Exclusive {
                    let last = &mut self.fences[key];
                    let is_one_hold = beside == Beside::Counted;
                    assert!(if is_one_hold { fence >= *last } else { fence > *last }, "{fence} after {last}");
                    *last = fence;
                }
                if beside == Beside::Risen {
                    for hold in self.holds.iter_mut().filter(|hold| hold.key == key && hold.lost.is_none()) {
                        (hold.mode, hold.fence) = (Mode::Exclusive, fence);
                    }
                }
                wait_out(&self.locks, &hand, lease);
                self.holds.push(Hold { hand, key, mode, owner, lease, lost: None, fence });
            }
            (Err(LockError::WouldBlock { .. }), None) => {}
            // For a key without holders, or an entry that would count.
            (Err(LockError::TableFull { .. }), Some(_)) if self.may_be_full() => {
                assert!(self.held(key).all(|hold| hold.owner == owner));
            }
            (answer, expected) => panic!("{:?} where {expected:?} was to be", answer.map(drop)),
        }
    }

    fn release(&mut self, which: usize) {
        if self.holds.is_empty() {
            return;
        }
        let hold = self.holds.swap_remove(which % self.holds.len());
        let answer = match hold.hand {
            Hand::Guard(guard) if which.is_multiple_of(7) => return drop(guard),
            Hand::Guard(guard) => guard.try_release(),
            Hand::Number(grant) => self.locks.release(grant),
        };
        check(hold.lost, &answer);
    }

    fn renew(&mut self, which: usize, lease: Lease) {
        let (count, Some(ttl)) = (self.holds.len(), lease.ttl()) else { return };
        if count == 0 {
            return;
        }
        let hold = &mut self.holds[which % count];
        let answer = match &hold.hand {
            Hand::Guard(guard) => guard.renew(ttl),
            Hand::Number(grant) => self.locks.renew(*grant, ttl),
        };
        check(hold.lost, &answer);
        if hold.lost.is_none() {
            hold.lease = lease;
            wait_out(&self.locks, &hold.hand, lease);
        }
    }

    fn downgrade(&mut self, which: usize) {
        let Some(which) = which.checked_rem(self.holds.len()) else { return };
        let alone = self.held(self.holds[which].key).count() == 1;
        let hold = &mut self.holds[which];
        let Hand::Guard(guard) = &mut hold.hand else { return };
        guard.downgrade();
        if hold.lost.is_none() && alone {
            hold.mode = Mode::Shared;
        }
        assert_eq!(guard.mode(), hold.mode);
    }

    fn upgrade(&mut self, which: usize, waits: bool) {
        let Some(which) = which.checked_rem(self.holds.len()) else { return };
        let Hold { key, mode, lost, lease, owner, .. } = self.holds[which];
        // A waiter has what ran out taken away; should that be its own, it may have been upgraded before.
        if matches!(self.holds[which].hand, Hand::Number(_)) || (waits && lease == Lease::Over) {
            return;
        }
        let reads = lost.is_none() && mode == Mode::Shared;
        if reads && waits && self.keeps_shared(key, owner) {
            self.lose(Lost::Expired, |hold| hold.key == key && hold.lease == Lease::Over);
        }
        let in_the_way = self.keeps_shared(key, owner);
        let hold = &mut self.holds[which];
        let Hand::Guard(guard) = &mut hold.hand else { return };
        let answer = if waits { guard.upgrade_blocking(Some(Duration::ZERO)) } else { guard.try_upgrade() };
        let refused = matches!(
            &answer,
            Err(LockError::WouldBlock { .. } | LockError::Timeout { .. } | LockError::Deadlock { .. })
        );
        if hold.lost.is_none() && reads && in_the_way {
            assert!(refused, "{answer:?} beside others");
        } else {
            check(hold.lost, &answer);
        }
        let (has, fence) = (guard.mode(), guard.fence());
        if lost.is_none() && reads && !in_the_way {
            assert!(fence > self.fences[key], "{fence} after {}", self.fences[key]);
            self.fences[key] = fence;
            // All that its session shared has risen with it.
            for hold in self.holds.iter_mut().filter(|hold| hold.key == key && hold.lost.is_none()) {
                (hold.mode, hold.fence) = (Mode::Exclusive, fence);
            }
        }
        assert_eq!(has, self.holds[which].mode);
    }

    /// Whether another owner keeps a hold of this one from becoming exclusive.
    fn keeps_shared(&self, key: usize, owner: usize) -> bool {
        let counts = owner >= 2 && self.held(key).all(|hold| hold.owner == owner);
        self.held(key).count() > 1 && !counts
    }

    /// Making room in the table may take expired holds away that no request waits for.
    fn see_what_made_room(&mut self) {
        if !self.may_be_full() {
            return;
        }
        let listed = self.locks.holders(&Filter::new().bucket("bucket"));
        let numbers: Vec<Grant> = self.holds.iter().filter_map(|hold| hold.hand.number()).collect();
        for (key, name) in KEYS.iter().enumerate() {
            // Guards of one key lose it together.
            let guards_have_it = listed.iter().any(|holder| {
                let has_run_out = holder.lease.is_some_and(|left| left.is_zero());
                holder.key.object() == name.as_bytes() && has_run_out && !numbers.contains(&holder.grant)
            });
            let has_it = |hand: &Hand| match hand.number() {
                Some(number) => listed.iter().any(|holder| holder.grant == number),
                None => guards_have_it,
            };
            self.lose(Lost::Expired, |hold| hold.key == key && hold.lease == Lease::Over && !has_it(&hold.hand));
        }
    }

    /// That the number of who has a key alone is the key's, and no other is.
    fn check_numbers(&self) {
        for (key, name) in KEYS.iter().enumerate() {
            let current = self.held(key).find(|hold| hold.mode == Mode::Exclusive).map(|hold| hold.fence);
            let numbers = self.holds.iter().filter(|hold| hold.key == key && hold.mode == Mode::Exclusive);
            for number in numbers.map(|hold| hold.fence).chain([self.fences[key]]) {
                let is_current = self.locks.is_current(("bucket", *name), number).expect("no fork");
                assert_eq!(is_current, current == Some(number), "{number} where {current:?} is");
            }
        }
    }

    fn step(&mut self, step: Step) {
        let of = |key: usize| Filter::new().key(("bucket", KEYS[key]));
        match step {
            Step::Take { key, mode, owner, lease, number } => self.take(key, mode, owner, lease, number),
            Step::Release(which) => self.release(which),
            Step::Renew(which, lease) => self.renew(which, lease),
            Step::Force(key) => {
                let taken = self.locks.force_release(&of(key)).len();
                assert_eq!(taken, self.lose(Lost::Forced, |hold| hold.key == key));
            }
            Step::Expire(key) => {
                let taken = self.locks.expire(&of(key)).len();
                assert_eq!(taken, self.lose(Lost::Expired, |hold| hold.key == key && hold.lease == Lease::Over));
            }
            Step::ReleaseAll(session) => {
                let taken = self.sessions[session].release_all();
                assert_eq!(taken, self.lose(Lost::Forced, |hold| hold.owner == session + 2));
            }
            Step::Downgrade(which) => self.downgrade(which),
            Step::Upgrade(which, waits) => self.upgrade(which, waits),
            Step::Fill => self.fill(),
            Step::Empty => {
                self.see_what_made_room();
                self.fillers.clear();
            }
        }
        self.see_what_made_room();
        let held = self.holds.iter().filter(|hold| hold.lost.is_none()).count();
        assert_eq!(self.locks.holders(&Filter::new().bucket("bucket")).len(), held, "listed");
        let holders = self.locks.get_metrics().shard_metrics.holders;
        assert_eq!(holders, (held + self.fillers.len()) as u64, "counted");
        self.check_numbers();
    }
}

/// That a hold answers as it should, lost or not.
#[track_caller]
fn check(lost: Option<Lost>, answer: &Result<(), LockError>) {
    let fits = match lost {
        None => answer.is_ok(),
        Some(Lost::Expired) => matches!(answer, Err(LockError::LeaseLost { .. })),
        Some(_) => matches!(answer, Err(LockError::NotHeld { .. })),
    };
    assert!(fits, "{answer:?} of a hold that was lost so: {lost:?}");
}

/// Waits until a lease is over that was to be over immediately.
fn wait_out(locks: &FastObjectLockManager, hand: &Hand, lease: Lease) {
    let left = || match hand {
        Hand::Guard(guard) => guard.remaining(),
        Hand::Number(grant) => locks.remaining(*grant).expect("held"),
    };
    while lease == Lease::Over && left().is_some_and(|left| !left.is_zero()) {
        std::thread::yield_now();
    }
}

/// Runs a program; it panics where the answers are not the model's.
pub(crate) fn run(program: &[Step]) {
    let mut world = World::new();
    for step in program {
        world.step(*step);
    }
    while !world.holds.is_empty() {
        world.step(Step::Release(world.holds.len() * 3 + 1));
    }
    world.step(Step::Empty);
    for key in 0..KEYS.len() {
        for number in [false, true] {
            world.take(key, Mode::Exclusive, 0, Lease::None, number);
            world.step(Step::Release(1));
        }
    }
}

pub(crate) fn from_bytes(bytes: &[u8]) -> Vec<Step> {
    let step = |bytes: &[u8]| {
        let (what, which) = (bytes[0], bytes[1]);
        let key = usize::from(which) % KEYS.len();
        let lease = Lease::from_number(what >> 4);
        match what % 16 {
            0..=5 => Step::Take {
                key,
                mode: if what & 128 == 0 { Mode::Shared } else { Mode::Exclusive },
                owner: usize::from(which >> 2) % OWNERS,
                lease,
                number: which & 128 == 0,
            },
            6..=8 => Step::Release(usize::from(which)),
            9 => Step::Renew(usize::from(which), lease),
            10 => Step::Downgrade(usize::from(which)),
            11 => Step::Upgrade(usize::from(which), what & 16 != 0),
            12 => Step::Force(key),
            13 => Step::Expire(key),
            14 => Step::ReleaseAll(usize::from(which) % 2),
            _ if what & 16 == 0 => Step::Fill,
            _ => Step::Empty,
        }
    };
    bytes.chunks_exact(2).map(step).collect()
}
