//! Whatever sessions do, exactly the real deadlocks are found: random programs of many sessions, with upgrades, batches,
//! cancelled requests and labels in between, run on two managers side by side. One looks for deadlocks before anybody
//! sleeps; the other never does (but for two upgrades of one lock), and shows who holds and who waits. From that it is
//! worked out by brute force who could never go on, whatever the others did.

use crate::steps::{ByHand, assert_at_rest, until, with};
use keylatch::{
    BatchLockRequest, Cycle, Fairness, FastObjectLockManager, Filter, LockConfig, LockError, LockRequest, Mode,
    OwnedLockGuard, Session, Victim,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

/// Who and what, by number.
#[derive(Debug, Clone)]
struct Setting {
    sessions: usize,
    keys: usize,
    fairness: Fairness,
    victim: Victim,
}

/// One move; numbers are taken modulo what there is.
#[derive(Debug, Clone)]
enum Move {
    /// A session asks for a key, or a label does.
    Ask {
        who: usize,
        key: usize,
        write: bool,
    },
    AskAsLabel {
        key: usize,
        write: bool,
    },
    Batch {
        who: usize,
        keys: Vec<(usize, bool)>,
    },
    Upgrade {
        who: usize,
        hold: usize,
    },
    Downgrade {
        who: usize,
        hold: usize,
    },
    Release {
        who: usize,
        hold: usize,
    },
    ReleaseLabel {
        hold: usize,
    },
    /// A waiter gives up.
    Cancel {
        which: usize,
    },
}

fn setting() -> impl Strategy<Value = Setting> {
    let policies = [
        Fairness::Fifo,
        Fairness::Fifo,
        Fairness::WriterFirst,
        Fairness::ReaderFirst,
        Fairness::Eventual { after: Duration::ZERO },
        Fairness::Eventual { after: Duration::from_secs(3600) },
    ];
    let victims = [Victim::Asker, Victim::Youngest, Victim::LowestPriority];
    (2..=20usize, 2..=10usize, prop::sample::select(policies.to_vec()), prop::sample::select(victims.to_vec()))
        .prop_map(|(sessions, keys, fairness, victim)| Setting { sessions, keys, fairness, victim })
}

fn a_move() -> impl Strategy<Value = Move> {
    let number = 0..1000usize;
    let keys = prop::collection::vec((number.clone(), any::<bool>()), 1..4);
    prop_oneof![
        12 => (number.clone(), number.clone(), any::<bool>()).prop_map(|(who, key, write)| Move::Ask { who, key, write }),
        1 => (number.clone(), any::<bool>()).prop_map(|(key, write)| Move::AskAsLabel { key, write }),
        2 => (number.clone(), keys).prop_map(|(who, keys)| Move::Batch { who, keys }),
        2 => (number.clone(), number.clone()).prop_map(|(who, hold)| Move::Upgrade { who, hold }),
        1 => (number.clone(), number.clone()).prop_map(|(who, hold)| Move::Downgrade { who, hold }),
        2 => (number.clone(), number.clone()).prop_map(|(who, hold)| Move::Release { who, hold }),
        2 => number.clone().prop_map(|hold| Move::ReleaseLabel { hold }),
        1 => number.prop_map(|which| Move::Cancel { which }),
    ]
}

/// How a request ended, with what is held by it then.
struct Done {
    held: Vec<OwnedLockGuard>,
    error: Option<LockError>,
}

/// A request that waits. `given_up` makes it end as if it had not been made.
struct Request {
    owner: Owner,
    keys: BTreeSet<usize>,
    gathers: bool,
    future: ByHand<Pin<Box<dyn Future<Output = Done>>>>,
    given_up: Arc<AtomicBool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Session(usize),
    Label,
}

/// A manager, and all that goes on in it.
struct World {
    locks: FastObjectLockManager,
    sessions: Vec<Arc<Session>>,
    held: Vec<(Owner, OwnedLockGuard)>,
    requests: BTreeMap<usize, Request>,
    /// Deadlocks that were seen.
    seen: u64,
}

/// Returns a wait that ends when it is over or given up.
async fn unless<T>(given_up: Arc<AtomicBool>, wait: impl Future<Output = T>) -> Option<T> {
    let mut wait = pin!(wait);
    poll_fn(|context| match given_up.load(Ordering::Relaxed) {
        true => Poll::Ready(None),
        false => wait.as_mut().poll(context).map(Some),
    })
    .await
}

fn object(key: usize) -> String {
    key.to_string()
}

fn mode(write: bool) -> Mode {
    if write { Mode::Exclusive } else { Mode::Shared }
}

impl World {
    fn new(setting: &Setting, deadlock_delay: Duration) -> Self {
        let (fairness, victim) = (setting.fairness, setting.victim);
        let deadlock_delay = Some(deadlock_delay);
        let locks = with(LockConfig { shards: 4, fairness, victim, deadlock_delay, ..LockConfig::default() });
        let sessions = (0..setting.sessions).map(|number| Arc::new(locks.session(&format!("s{number}")))).collect();
        Self { locks, sessions, held: Vec::new(), requests: BTreeMap::new(), seen: 0 }
    }

    fn begin(&mut self, number: usize, owner: Owner, keys: BTreeSet<usize>, work: impl FnOnce(Means) -> Boxed) {
        let given_up = Arc::<AtomicBool>::default();
        let session = if let Owner::Session(who) = owner { Some(Arc::clone(&self.sessions[who])) } else { None };
        let future = work(Means { locks: self.locks.clone(), session, given_up: Arc::clone(&given_up) });
        self.requests.insert(number, Request { owner, keys, gathers: false, future: ByHand::new(future), given_up });
    }

    /// Returns how many requests of a session wait.
    ///
    /// One that waits for a batch does nothing else: as a victim it releases what it had gathered. So no session holds
    /// on to locks while another request of it waits.
    fn waits(&self, who: usize) -> usize {
        let requests = self.requests.values().filter(|request| request.owner == Owner::Session(who));
        requests.map(|request| if request.gathers { 2 } else { 1 }).sum()
    }

    fn keys_of(&self, who: usize) -> BTreeSet<usize> {
        let held = self.held.iter().filter(|(owner, _)| *owner == Owner::Session(who));
        let held = held.map(|(_, guard)| number_of(guard.key().object()));
        let asked = self.requests.values().filter(|request| request.owner == Owner::Session(who));
        held.chain(asked.flat_map(|request| request.keys.iter().copied())).collect()
    }

    /// Returns the key of one of an owner's holds.
    fn held_by(&self, owner: Owner, which: usize) -> Option<usize> {
        let holds = self.held.iter().filter(|(holder, _)| *holder == owner);
        let keys: BTreeSet<usize> = holds.map(|(_, guard)| number_of(guard.key().object())).collect();
        keys.iter().copied().nth(which % keys.len().max(1))
    }

    /// Returns the position of an owner's hold of a key.
    fn position_of(&self, owner: Owner, key: usize) -> usize {
        let is_it =
            |(holder, guard): &(Owner, OwnedLockGuard)| *holder == owner && number_of(guard.key().object()) == key;
        self.held.iter().position(is_it).expect("held in both")
    }

    /// Polls a request; whether it has ended, and how.
    fn poll(&mut self, number: usize) -> Option<Option<LockError>> {
        let request = self.requests.get_mut(&number)?;
        let Poll::Ready(done) = request.future.poll() else { return None };
        let owner = request.owner;
        self.requests.remove(&number);
        self.held.extend(done.held.into_iter().map(|guard| (owner, guard)));
        Some(done.error)
    }

    /// Deadlocks that were reported since the last call.
    fn new_deadlocks(&mut self) -> Vec<Cycle> {
        let reported = self.locks.get_metrics().shard_metrics.deadlocks;
        let all = self.locks.recent_deadlocks();
        let new = all[all.len() - (reported - self.seen) as usize..].to_vec();
        self.seen = reported;
        new
    }

    /// Returns the waiting request of a session for a key.
    fn request_for(&self, session: &str, key: usize) -> usize {
        let is_it = |request: &Request| {
            matches!(request.owner, Owner::Session(who) if format!("s{who}") == session) && request.keys.contains(&key)
        };
        *self.requests.iter().find(|(_, request)| is_it(request)).expect("the victim waits").0
    }
}

/// What a request is made with.
struct Means {
    locks: FastObjectLockManager,
    session: Option<Arc<Session>>,
    given_up: Arc<AtomicBool>,
}

type Boxed = Pin<Box<dyn Future<Output = Done>>>;

fn ask(key: usize, write: bool) -> impl FnOnce(Means) -> Boxed {
    move |Means { locks, session, given_up }| {
        Box::pin(async move {
            let object = object(key);
            let request = LockRequest::new(("b", &object), mode(write));
            let request = match &session {
                Some(session) => request.owner(&**session),
                None => request.owner("label"),
            };
            match unless(given_up, locks.lock(request).into_future()).await {
                None => Done { held: Vec::new(), error: None },
                Some(Ok(guard)) => Done { held: vec![guard.into_owned()], error: None },
                Some(Err(error)) => Done { held: Vec::new(), error: Some(error) },
            }
        })
    }
}

fn ask_for_many(keys: Vec<(usize, bool)>) -> impl FnOnce(Means) -> Boxed {
    move |Means { locks, session, given_up }| {
        Box::pin(async move {
            let objects: Vec<_> = keys.iter().map(|(key, write)| (object(*key), *write)).collect();
            let batch = BatchLockRequest::new(&**session.as_ref().expect("batches are sessions' here"));
            let batch = objects.iter().fold(batch, |batch, (object, write)| match write {
                true => batch.add_write_lock("b", object),
                false => batch.add_read_lock("b", object),
            });
            match unless(given_up, locks.acquire_locks_batch(batch)).await {
                None => Done { held: Vec::new(), error: None },
                Some(Ok(all)) => {
                    let held = all.into_guards().into_iter().map(|guard| guard.into_owned()).collect();
                    Done { held, error: None }
                }
                Some(Err(LockError::Batch { cause, .. })) => Done { held: Vec::new(), error: Some(*cause) },
                Some(Err(error)) => Done { held: Vec::new(), error: Some(error) },
            }
        })
    }
}

fn upgrade(mut guard: OwnedLockGuard) -> impl FnOnce(Means) -> Boxed {
    move |Means { given_up, .. }| {
        Box::pin(async move {
            let error = unless(given_up, guard.upgrade(None)).await.and_then(Result::err);
            Done { held: vec![guard], error }
        })
    }
}

fn number_of(object: &[u8]) -> usize {
    std::str::from_utf8(object).unwrap().parse().unwrap()
}

/// A hold or a wait: whose, and how.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Use {
    owner: String,
    session: bool,
    mode: Mode,
    upgrade: bool,
}

/// Who holds and who waits for one key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Lock {
    holders: Vec<Use>,
    line: Vec<Use>,
}

fn look_at(locks: &FastObjectLockManager) -> BTreeMap<usize, Lock> {
    let mut found: BTreeMap<usize, Lock> = BTreeMap::new();
    for hold in locks.holders(&Filter::new()) {
        let (owner, session, mode) = (hold.owner.to_string(), hold.session, hold.mode);
        let holders = &mut found.entry(number_of(hold.key.object())).or_default().holders;
        holders.push(Use { owner, session, mode, upgrade: false });
    }
    // Holds are listed in no particular order.
    found.values_mut().for_each(|lock| lock.holders.sort());
    for wait in locks.waiters(&Filter::new()) {
        let (owner, session, mode, upgrade) = (wait.owner.to_string(), wait.session, wait.mode, wait.upgrade);
        let line = &mut found.entry(number_of(wait.key.object())).or_default().line;
        line.push(Use { owner, session, mode, upgrade });
        assert_eq!(line.len(), wait.position);
    }
    found
}

impl Lock {
    /// Returns whether its holders let a request have it.
    fn allows(&self, wait: &Use) -> bool {
        match (wait.upgrade, wait.mode) {
            (true, _) => self.holders.iter().all(|hold| hold.owner == wait.owner),
            (false, Mode::Exclusive) => self.holders.is_empty(),
            (false, Mode::Shared) => self.holders.iter().all(|hold| hold.mode == Mode::Shared),
        }
    }

    /// Gives the lock to the next in line, if it is free for that one.
    fn serve(&mut self) -> bool {
        let Some(first) = self.line.first() else { return false };
        let is_free = self.allows(first);
        if is_free {
            let first = self.line.remove(0);
            self.holders.retain(|hold| !first.upgrade || hold.owner != first.owner);
            self.holders.push(Use { upgrade: false, ..first });
        }
        is_free
    }
}

/// Sessions that could never go on, whatever the order of the lines.
///
/// That is so even if all who can go on let go of everything: a session goes on only if all that it waits for is free
/// for it.
fn stuck(mut locks: BTreeMap<usize, Lock>) -> BTreeSet<String> {
    for lock in locks.values_mut() {
        lock.holders.retain(|hold| hold.session);
        lock.line.retain(|wait| wait.session);
    }
    loop {
        let waiting: BTreeSet<String> =
            locks.values().flat_map(|lock| lock.line.iter().map(|wait| wait.owner.clone())).collect();
        for lock in locks.values_mut() {
            lock.holders.retain(|hold| waiting.contains(&hold.owner));
        }
        let is_blocked = |owner: &String| {
            let mut waits = locks.values().flat_map(|lock| lock.line.iter().map(move |wait| (lock, wait)));
            waits.any(|(lock, wait)| wait.owner == *owner && !lock.allows(wait))
        };
        let Some(goes_on) = waiting.iter().find(|owner| !is_blocked(owner)).cloned() else { return waiting };
        locks.values_mut().for_each(|lock| lock.line.retain(|wait| wait.owner != goes_on));
    }
}

/// Sessions that could never go on with the lines in their present order.
///
/// That is so even if all who can go on let go of everything.
fn stuck_in_order(mut locks: BTreeMap<usize, Lock>) -> BTreeSet<String> {
    loop {
        let waiting: BTreeSet<String> = locks
            .values()
            .flat_map(|lock| lock.line.iter().filter(|wait| wait.session).map(|wait| wait.owner.clone()))
            .collect();
        let mut changed = false;
        for lock in locks.values_mut() {
            let before = lock.holders.len();
            lock.holders.retain(|hold| hold.session && waiting.contains(&hold.owner));
            changed |= lock.holders.len() != before;
            while lock.serve() {
                changed = true;
            }
        }
        if !changed {
            return waiting;
        }
    }
}

/// The two managers, and what is known to happen in both.
struct Twins {
    setting: Setting,
    /// Looks for deadlocks.
    looks: World,
    /// Shows what there is.
    shows: World,
    next: usize,
    /// They came to differ as they may: there is nothing to compare from then on.
    apart: bool,
}

impl Twins {
    fn new(setting: &Setting) -> Self {
        let (looks, shows) = (World::new(setting, Duration::ZERO), World::new(setting, Duration::from_secs(3600)));
        Self { setting: setting.clone(), looks, shows, next: 0, apart: false }
    }

    fn both(&mut self) -> [&mut World; 2] {
        [&mut self.looks, &mut self.shows]
    }

    fn run(&mut self, one: &Move) {
        let keys = self.setting.keys;
        let who_of = |who: usize| who % self.setting.sessions;
        let number = self.next;
        self.next += 1;
        match one {
            Move::Ask { who, key, write } => {
                let (who, key) = (who_of(*who), key % keys);
                if self.looks.waits(who) > usize::from(*write) || self.looks.keys_of(who).contains(&key) {
                    return;
                }
                for world in self.both() {
                    world.begin(number, Owner::Session(who), [key].into(), ask(key, *write));
                }
            }
            Move::AskAsLabel { key, write } => {
                let key = key % keys;
                for world in self.both() {
                    world.begin(number, Owner::Label, [key].into(), ask(key, *write));
                }
            }
            Move::Batch { who, keys: wanted } => {
                let who = who_of(*who);
                let wanted: Vec<_> = wanted.iter().map(|(key, write)| (key % keys, *write)).collect();
                let distinct: BTreeSet<usize> = wanted.iter().map(|(key, _)| *key).collect();
                if self.looks.waits(who) > 0 || !self.looks.keys_of(who).is_disjoint(&distinct) {
                    return;
                }
                for world in self.both() {
                    world.begin(number, Owner::Session(who), distinct.clone(), ask_for_many(wanted.clone()));
                    world.requests.get_mut(&number).expect("it was just made").gathers = true;
                }
            }
            Move::Upgrade { who, hold } => {
                let who = who_of(*who);
                let Some(key) = self.looks.held_by(Owner::Session(who), *hold) else { return };
                if self.looks.waits(who) > 0 {
                    return;
                }
                for world in self.both() {
                    let (owner, guard) = world.held.remove(world.position_of(Owner::Session(who), key));
                    world.begin(number, owner, [key].into(), upgrade(guard));
                }
            }
            Move::Downgrade { who, hold } | Move::Release { who, hold } => {
                let who = who_of(*who);
                let Some(key) = self.looks.held_by(Owner::Session(who), *hold) else { return };
                if self.looks.waits(who) > 0 {
                    return;
                }
                for world in self.both() {
                    let position = world.position_of(Owner::Session(who), key);
                    match one {
                        Move::Downgrade { .. } => world.held[position].1.downgrade(),
                        _ => drop(world.held.remove(position)),
                    }
                }
            }
            Move::ReleaseLabel { hold } => {
                let Some(key) = self.looks.held_by(Owner::Label, *hold) else { return };
                self.both().into_iter().for_each(|world| drop(world.held.remove(world.position_of(Owner::Label, key))));
            }
            Move::Cancel { which } => {
                let Some(number) = self.looks.requests.keys().copied().nth(which % 8) else { return };
                self.both()
                    .into_iter()
                    .for_each(|world| world.requests[&number].given_up.store(true, Ordering::Relaxed));
            }
        }
        self.go_on();
    }

    /// Polls all requests, in the same order in both, until none gets any further.
    fn go_on(&mut self) {
        loop {
            let before = self.looks.requests.len();
            let numbers: Vec<usize> = self.shows.requests.keys().copied().collect();
            for number in numbers {
                self.poll(number);
                if self.apart {
                    return;
                }
            }
            let moved = self.looks.requests.len() != before;
            if !moved {
                return;
            }
        }
    }

    /// Polls a request in both, and checks what comes of it.
    fn poll(&mut self, number: usize) {
        let Some(request) = self.shows.requests.get(&number) else { return };
        let (owner, gathers) = (request.owner, request.gathers);
        let mut shown = self.shows.poll(number);
        let mut found = self.looks.poll(number);
        // Two upgrades of one lock are reported in either.
        let common = self.shows.new_deadlocks();
        let mut reported = self.looks.new_deadlocks();
        assert!(reported.len() >= common.len());
        for (reported, common) in reported.drain(..common.len()).zip(common) {
            if (&reported.links, &reported.victim) != (&common.links, &common.victim) {
                // It closed several circles of one length: which is broken first is not said.
                assert_eq!(reported.links.len(), common.links.len(), "{reported} {common}");
                let Owner::Session(who) = owner else { unreachable!("a label closes none") };
                let asker = format!("s{who}");
                let is_its = |cycle: &Cycle| cycle.links.iter().any(|link| *link.session == *asker);
                assert!(is_its(&reported) && is_its(&common), "{asker} asked: {reported} {common}");
                self.apart = true;
                return;
            }
        }
        let same = |one: &Option<Option<LockError>>, other: &Option<Option<LockError>>| match (one, other) {
            (None, None) => true,
            (Some(one), Some(other)) => one.is_some() == other.is_some(),
            _ => false,
        };
        let mut gave_way = false;
        let was_kept = !stuck_in_order(look_at(&self.shows.locks)).is_empty();
        loop {
            let state = look_at(&self.shows.locks);
            let stuck = stuck(state.clone());
            // A batch goes on to its next key as soon as another order of a line lets it have one, in the same poll.
            let is_real = reported.iter().all(|cycle| cycle.links.iter().all(|link| stuck.contains(&*link.session)));
            if gathers && (!is_real || reported.is_empty() != stuck.is_empty()) && self.went_another_way(&reported) {
                self.apart = true;
                return;
            }
            if reported.is_empty() && !stuck.is_empty() {
                // A circle that a grant closed is found by a later look.
                let seen = self.looks.seen;
                let is_reported = || self.looks.locks.get_metrics().shard_metrics.deadlocks > seen;
                let none_is_stuck = || stuck_in_order(look_at(&self.looks.locks)).is_empty();
                until("a later look", || is_reported() || none_is_stuck());
                reported = self.looks.new_deadlocks();
                if reported.is_empty() {
                    // Another order kept this circle from being there.
                    self.apart = true;
                    return;
                }
            }
            let Some(cycle) = (!reported.is_empty()).then(|| reported.remove(0)) else { break };
            check(&cycle, &state, &stuck);
            let key = number_of(cycle.links[0].key.object());
            let victim = self.shows.request_for(&cycle.victim, key);
            self.shows.requests[&victim].given_up.store(true, Ordering::Relaxed);
            assert!(matches!(self.shows.poll(victim), Some(None)));
            if victim == number {
                assert!(matches!(found, Some(Some(LockError::Deadlock { .. }))), "{found:?}");
                gave_way = true;
            } else {
                assert!(matches!(self.looks.poll(victim), Some(Some(LockError::Deadlock { .. }))));
                // With that one gone, or with what it had gathered, this one may go on immediately.
                shown = shown.or_else(|| self.shows.poll(number));
                found = found.or_else(|| self.looks.poll(number));
                reported.extend(self.looks.new_deadlocks());
            }
        }
        if self.order_changed(was_kept) {
            self.apart = true;
            return;
        }
        assert!(gave_way || same(&shown, &found), "{shown:?} {found:?}");
    }

    /// Returns whether a batch took another way, by a key that an order kept it from.
    ///
    /// So it is in the manager that looks for circles.
    fn went_another_way(&self, reported: &[Cycle]) -> bool {
        let is_kept = !stuck_in_order(look_at(&self.shows.locks)).is_empty();
        let by_holds = |cycle: &Cycle| cycle.links.iter().all(|link| link.blocked_by.is_some());
        assert!(reported.iter().all(by_holds), "no session gives way because of the order of a line");
        until("a later look", || stuck_in_order(look_at(&self.looks.locks)).is_empty());
        is_kept
    }

    /// Returns whether a line has another order in the manager that looks for circles.
    ///
    /// Only where it `was_kept`, because the order kept sessions from ever going on. In its new order no session is
    /// kept so.
    fn order_changed(&self, was_kept: bool) -> bool {
        until("a later look", || stuck_in_order(look_at(&self.looks.locks)).is_empty());
        let (shown, found) = (look_at(&self.shows.locks), look_at(&self.looks.locks));
        assert!(shown == found || was_kept, "order changed though no session was stuck: {shown:#?} {found:#?}");
        shown != found
    }

    fn end(mut self) {
        while self.apart || !self.looks.held.is_empty() || !self.looks.requests.is_empty() {
            if std::mem::take(&mut self.apart) {
                self.both().into_iter().for_each(|world| world.requests.clear());
            }
            self.both().into_iter().for_each(|world| world.held.clear());
            self.go_on();
            assert!(self.apart || self.looks.requests.len() == self.shows.requests.len());
        }
        self.both().into_iter().for_each(|world| assert_at_rest(&world.locks));
    }
}

/// Checks that a reported circle is one, and could never go on.
///
/// Each session waits for what the next one holds, in the reported way. So the victim holds something that another one
/// of them waits for.
fn check(cycle: &Cycle, state: &BTreeMap<usize, Lock>, stuck: &BTreeSet<String>) {
    assert_eq!(cycle.victim, cycle.links[0].session);
    let next = cycle.links.iter().cycle().skip(1);
    for (link, next) in cycle.links.iter().zip(next) {
        assert!(stuck.contains(&*link.session), "{} could go on in {state:#?}", link.session);
        let Lock { holders, line } = &state[&number_of(link.key.object())];
        let is_its = |wait: &&Use| wait.session && wait.owner == *link.session && wait.mode == link.mode;
        assert!(line.iter().any(|wait| is_its(&wait)), "{link} in {state:#?}");
        let mode = link.blocked_by.expect("no session gives way because of the order of a line");
        let is_in_the_way = holders.iter().any(|hold| hold.owner == *next.session && hold.mode == mode)
            && (link.mode == Mode::Exclusive || mode == Mode::Exclusive);
        assert!(is_in_the_way, "{link} in {state:#?}");
    }
    let distinct: BTreeSet<_> = cycle.links.iter().map(|link| &link.session).collect();
    assert_eq!(distinct.len(), cycle.links.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn exactly_the_real_circles_are_found(setting in setting(), moves in prop::collection::vec(a_move(), 1..150)) {
        let mut twins = Twins::new(&setting);
        for one in &moves {
            twins.run(one);
            if twins.apart {
                break;
            }
        }
        twins.end();
    }
}
