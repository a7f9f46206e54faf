//! Programs of one thread about holds that are lost: leases, force, sessions that count; and what each has to answer.

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

#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    Take { key: usize, mode: Mode, owner: usize, lease: Lease, number: bool },
    Release(usize),
    Renew(usize, Lease),
    Force(usize),
    Expire(usize),
    ReleaseAll(usize),
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

/// A hold, as the model has it.
struct Hold {
    hand: Hand,
    key: usize,
    mode: Mode,
    owner: usize,
    lease: Lease,
    lost: Option<Lost>,
}

struct World {
    locks: FastObjectLockManager,
    sessions: [Session; 2],
    holds: Vec<Hold>,
    fences: [u64; KEYS.len()],
}

impl World {
    fn new() -> Self {
        let config = LockConfig { shards: 2, reentrancy: Reentrancy::Count, ..LockConfig::default() };
        let locks = FastObjectLockManager::with_config(config).expect("these settings are fine");
        let sessions = ["one", "two"].map(|name| locks.session(name));
        Self { locks, sessions, holds: Vec::new(), fences: [0; KEYS.len()] }
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

    /// The mode in which a request is granted now, if it is, and whether it is counted with one that the session has.
    fn allows(&mut self, key: usize, mode: Mode, owner: usize) -> Option<(Mode, bool)> {
        loop {
            let exclusive = self.held(key).any(|hold| hold.mode == Mode::Exclusive);
            if self.held(key).next().is_none() || (mode == Mode::Shared && !exclusive) {
                return Some((mode, false));
            }
            if self.lose(Lost::Expired, |hold| hold.key == key && hold.lease == Lease::Over) > 0 {
                continue;
            }
            let own = owner >= 2 && exclusive && self.held(key).all(|hold| hold.owner == owner);
            return own.then_some((Mode::Exclusive, true));
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
            (Ok(hand), Some((mode, counted))) => {
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
                    assert!(if counted { fence >= *last } else { fence > *last }, "{fence} after {last}");
                    *last = fence;
                }
                wait_out(&self.locks, &hand, lease);
                self.holds.push(Hold { hand, key, mode, owner, lease, lost: None });
            }
            (Err(LockError::WouldBlock { .. }), None) => {}
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
        }
        let held = self.holds.iter().filter(|hold| hold.lost.is_none()).count();
        assert_eq!(self.locks.holders(&Filter::new()).len(), held, "listed");
        assert_eq!(self.locks.get_metrics().shard_metrics.holders, held as u64, "counted");
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

/// Waits until a lease is over that was to be over at once.
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
            0..=6 => Step::Take {
                key,
                mode: if what & 128 == 0 { Mode::Shared } else { Mode::Exclusive },
                owner: usize::from(which >> 2) % OWNERS,
                lease,
                number: which & 128 == 0,
            },
            7..=10 => Step::Release(usize::from(which)),
            11 | 12 => Step::Renew(usize::from(which), lease),
            13 => Step::Force(key),
            14 => Step::Expire(key),
            _ => Step::ReleaseAll(usize::from(which) % 2),
        }
    };
    bytes.chunks_exact(2).map(step).collect()
}
