//! The manager's insides, and the small things that every path needs.

use crate::config::{Fairness, LockConfig, invalid};
use crate::engine::local::Local;
use crate::error::{Holder, Holders, LockError};
use crate::events::{Deadlocks, Event, EventOptions, Inbox, LockOrders, Outlet, Subscribers};
use crate::grant::MAX_RECORDS;
use crate::hold::{
    FirstState, Grant, Held, KeptShut, Label, Leases, NotedHold, OwnerRef, Owners, Record, SESSION, SessionState,
    Sessions, Tombstones, UNNAMED, record,
};
use crate::key::KeyRef;
use crate::measure::{Adaptive, Tally};
use crate::memory::{Arena, NONE};
use crate::mode::Mode;
use crate::request::Limit;
use crate::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use crate::sync::{Clock, OnceLock, PerThread, forks, watch_forks};
use crate::table::{Entry, LockedShard, Secrets, Table, Word};
use crate::tier::Tier;
use crate::wait::{Dispatcher, EndsWithIt, NEVER, Queue, Timer, Waiter, Waiters};
use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::loss::RevocationListeners;
use super::tiered::Tiered;

/// Records beyond what locks need, for thirty thousand threads.
///
/// Only address space, until they are used: 48 MiB, so that a manager fits where there is little.
const KEPT_BY_THREADS: u32 = 1 << 20;
/// Pages of hold records that are searched for a reader, where none is noted.
const A_FEW_PAGES: usize = 4;
/// Who is named as the holder of a lock that a lock delay keeps.
pub(crate) const LOCK_DELAY_OWNER: &str = "(kept shut after a lost lease)";
/// Turns that waiting awake starts out with; see `waiting`.
const FIRST_SPINS: u32 = if cfg!(loom) { 0 } else { 256 };

/// See the module.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) table: Table,
    pub(crate) records: Arena<Record>,
    pub(crate) waiters: Waiters,
    owners: Owners,
    pub(crate) sessions: Sessions,
    pub(crate) leases: Leases,
    pub(crate) losses: RevocationListeners,
    pub(crate) tombstones: Tombstones,
    pub(crate) lock_delays: KeptShut,
    /// How many search for leases that have run out, because the table is full.
    pub(crate) searches: AtomicU32,
    locals: PerThread<Local>,
    secrets: Secrets,
    pub(crate) config: LockConfig,
    closed: AtomicBool,
    /// False once the manager is closed, while holds are timed, and with the lint.
    serves_fast: AtomicBool,
    /// Forks when it was made.
    forks: u32,
    pub(crate) cores: usize,
    began: Clock,
    pub(crate) timer: Arc<Timer>,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) ends_with_it: EndsWithIt,
    pub(crate) events: Subscribers,
    pub(crate) tally: Box<Tally>,
    /// Itself, for the timer's thread.
    pub(crate) this: OnceLock<Weak<Core>>,
    pub(crate) deadlocks: Deadlocks,
    pub(crate) adaptive: Option<Box<Adaptive>>,
    pub(crate) orders: Option<Box<LockOrders>>,
    /// With whom the keys are shared, beyond this process.
    pub(super) tiered: Option<Box<Tiered>>,
}

/// What goes on record with a grant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Granting {
    pub(crate) shard: u32,
    pub(crate) mode: Mode,
    pub(crate) priority: u8,
    /// The grant's number is enough to release it.
    pub(crate) detached: bool,
}

impl Core {
    #[cfg(all(test, loom))]
    pub(crate) fn new(config: LockConfig) -> Result<Self, LockError> {
        Self::new_with(config, None)
    }

    /// As `new`, with a tier, which is not attached yet.
    pub(crate) fn new_with(config: LockConfig, tier: Option<Arc<dyn Tier>>) -> Result<Self, LockError> {
        config.validate()?;
        watch_forks();
        // The model checker repeats executions, so everything that steers them is the same each time.
        let drawn = if cfg!(loom) { ahash::RandomState::with_seeds(1, 2, 3, 4) } else { ahash::RandomState::new() };
        let mut numbers = 0_u64..;
        let secrets = Secrets::draw(|| drawn.hash_one(numbers.next()));
        let random = drawn.hash_one(0x6b65_796c_6174_6368_u64);
        let reserve = |what: std::io::Error| {
            invalid("max_locks", format!("no address space for {} locks ({what}); set it lower", config.max_locks))
        };
        // Readers of one key each have a record, so there may be more records than locks. And each thread keeps some.
        let records = config.max_locks.saturating_mul(2).saturating_add(KEPT_BY_THREADS).min(MAX_RECORDS - 4096);
        let records = if cfg!(loom) { config.max_locks + 8 } else { records };
        let table = Table::reserve(config.shards, config.max_locks).map_err(reserve)?;
        let records = Arena::reserve(records, record::first_mark(random)).map_err(reserve)?;
        let tiered = tier.map(|tier| Tiered::new(tier, config.shards, table.arena().len()).map(Box::new));
        let tiered = tiered.transpose().map_err(reserve)?;
        let waiters = Waiters::reserve(config.max_waiters, (random >> 32) as u32).map_err(|what| {
            let limit = config.max_waiters;
            invalid("max_waiters", format!("no address space for {limit} waiting requests ({what}); set it lower"))
        })?;
        Ok(Self {
            leases: Leases::reserve(records.len(), table.arena().len()).map_err(reserve)?,
            table,
            records,
            waiters,
            owners: Owners::new(),
            sessions: Sessions::default(),
            losses: RevocationListeners::default(),
            tombstones: Tombstones::default(),
            lock_delays: KeptShut::default(),
            searches: AtomicU32::new(0),
            locals: PerThread::new(),
            secrets,
            closed: AtomicBool::new(false),
            serves_fast: AtomicBool::new(tiered.is_none()),
            forks: forks(),
            // One under the model checker: waiting awake adds executions and no behaviour.
            cores: if cfg!(loom) { 1 } else { std::thread::available_parallelism().map_or(1, std::num::NonZero::get) },
            began: Clock::start(),
            timer: Arc::default(),
            dispatcher: Dispatcher::default(),
            ends_with_it: EndsWithIt::default(),
            events: Subscribers::default(),
            tally: Box::new(Tally::new(config.health_window)),
            this: OnceLock::new(),
            deadlocks: Deadlocks::default(),
            adaptive: config.adaptive.map(|policy| Box::new(Adaptive::new(policy, config.default_timeout))),
            orders: LockOrders::if_asked_for(&config),
            tiered,
            config,
        })
    }

    /// As `new`, and able to keep the time of those who cannot.
    pub(crate) fn shared(config: LockConfig) -> Result<Arc<Self>, LockError> {
        Self::shared_with(config, None)
    }

    /// As `shared`, with a tier, which is not attached yet.
    pub(crate) fn shared_with(config: LockConfig, tier: Option<Arc<dyn Tier>>) -> Result<Arc<Self>, LockError> {
        let core = Arc::new(Self::new_with(config, tier)?);
        core.set_serves_fast(true);
        let _ = core.this.set(Arc::downgrade(&core));
        Ok(core)
    }

    /// The calling thread's own part.
    #[inline(always)]
    pub(crate) fn local(&self) -> &Local {
        self.locals.get_or(|| self.first_visit())
    }

    /// Returns the calling thread's own part, if the thread used this manager last.
    ///
    /// Never in a forked child.
    #[inline(always)]
    pub(crate) fn local_at_hand(&self) -> Option<&Local> {
        self.locals.at_hand()
    }

    #[cold]
    #[inline(never)]
    fn first_visit(&self) -> Local {
        Local::new(self.config.shards, FIRST_SPINS)
    }

    pub(crate) fn locals(&self) -> impl Iterator<Item = &Local> {
        self.locals.iter()
    }

    /// The hash of a key; one a request.
    #[inline(always)]
    pub(crate) fn hash(&self, key: &KeyRef<'_>) -> u64 {
        self.secrets.hash(key)
    }

    /// Returns whether the fast path is open.
    ///
    /// It is not once the manager is closed, nor while each request has to read the clock. [`PerThread::at_hand`] says that
    /// the process is the manager's.
    #[inline(always)]
    pub(crate) fn serves_fast(&self) -> bool {
        self.serves_fast.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn is_forked(&self) -> bool {
        forks() != self.forks
    }

    pub(crate) fn is_closed(&self) -> bool {
        // Acquire pairs with the Release of `set_closed`.
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn set_closed(&self) -> bool {
        // Steadily: a subscriber who leaves in this moment would put the closed manager back in service.
        self.events.steadily(|_| {
            self.serves_fast.store(false, Ordering::Relaxed);
            self.tiered().into_iter().for_each(|tiered| tiered.set_serves_fast(false));
            self.closed.swap(true, Ordering::AcqRel)
        })
    }

    /// Delivers an event to the subscribers.
    ///
    /// Waking them runs the user's code, so the caller holds no internal mutex. It makes the event only if
    /// [`Subscribers::has_listeners`].
    pub(crate) fn announce(&self, event: &Event) {
        self.events.announce(event);
    }

    /// Adds a subscriber.
    pub(crate) fn subscribe(&self, options: &EventOptions, outlet: Outlet) -> Arc<Inbox> {
        if self.is_forked() {
            return Subscribers::closed();
        }
        let inbox = self.events.join(options, outlet, |timed| self.set_serves_fast(!timed));
        if options.hold_above.is_some() {
            self.time_all_holds();
        }
        if self.is_closed() {
            // The end may have been announced before this one joined.
            self.events.close();
        }
        inbox
    }

    pub(crate) fn unsubscribe(&self, inbox: &Arc<Inbox>) {
        self.events.leave(inbox, |timed| self.set_serves_fast(!timed));
    }

    /// Opens the fast path, or closes it so that every request reads the clock.
    fn set_serves_fast(&self, fast: bool) {
        let serves = fast && !self.is_closed() && self.orders.is_none();
        match self.tiered() {
            // A tier has the fast path look at more than this one does.
            Some(tiered) => tiered.set_serves_fast(serves),
            None => self.serves_fast.store(serves, Ordering::Relaxed),
        }
    }

    pub(crate) fn service(&self) -> Result<(), LockError> {
        if self.is_forked() {
            return Err(LockError::Forked);
        }
        if self.is_closed() { Err(LockError::Closed) } else { Ok(()) }
    }

    pub(crate) fn check_key(&self, key: &KeyRef<'_>) -> Result<(), LockError> {
        let (bytes, limit) = (key.byte_len(), self.config.max_key_bytes);
        if bytes > limit { Err(LockError::InvalidKey { bytes, limit }) } else { Ok(()) }
    }

    /// Nanoseconds since the manager was made; never 0.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
    }

    /// Returns the moment of a time on the manager's clock; `None` for never.
    pub(crate) fn moment(&self, nanos: u64) -> Option<Instant> {
        if nanos == NEVER { None } else { self.began.moment(Duration::from_nanos(nanos)) }
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.began.elapsed()
    }

    /// How long a request may wait, if it was given a time rather than a moment.
    pub(crate) fn timeout(&self, limit: Limit) -> Option<Duration> {
        match limit {
            Limit::Never | Limit::At(_) => None,
            Limit::After(nanos) => Some(Duration::from_nanos(nanos)),
            Limit::Default => self.default_timeout(),
        }
    }

    /// How long a request waits that says nothing about it.
    pub(crate) fn default_timeout(&self) -> Option<Duration> {
        match &self.adaptive {
            None => self.config.default_timeout,
            Some(adaptive) => Some(adaptive.timeout()),
        }
    }

    /// Resolves the default timeout when the request begins; it may change later.
    pub(crate) fn decided(&self, limit: Limit) -> Limit {
        match (limit, &self.adaptive) {
            (Limit::Default, Some(adaptive)) => Limit::after(adaptive.timeout()),
            _ => limit,
        }
    }

    /// When a request that is made now has to give up; `None` for never.
    pub(crate) fn deadline(&self, limit: Limit) -> Option<Instant> {
        match limit {
            Limit::At(instant) => Some(instant),
            // A sum that no clock will reach is never.
            _ => Instant::now().checked_add(self.timeout(limit)?),
        }
    }

    /// Returns whether a request that is made now has no time to wait.
    ///
    /// A request with a time of its own always queues, however short the time is. So whether it waited does not depend on
    /// how fast this thread runs.
    pub(crate) fn has_no_time(&self, limit: Limit) -> bool {
        match limit {
            Limit::At(instant) => instant <= Instant::now(),
            _ => self.timeout(limit).is_some_and(|timeout| timeout.is_zero()),
        }
    }

    pub(crate) fn max_wait(&self) -> Option<u64> {
        match self.config.fairness {
            Fairness::Eventual { after } => Some(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX)),
            _ => None,
        }
    }

    /// The line at an entry.
    pub(crate) fn queue<'a>(&'a self, entry: &'a Entry) -> Queue<'a> {
        Queue { head: &entry.queue_head, tail: &entry.queue_tail, waiters: &self.waiters }
    }

    /// Refuses a session of another manager: its number means nothing here.
    #[inline]
    pub(crate) fn check_owner(&self, owner: OwnerRef<'_>) -> Result<(), LockError> {
        match owner {
            OwnerRef::Session(session) if session.manager != self.identity() => Err(invalid(
                "owner",
                "the session is another manager's; begin one with this manager's session()".into(),
            )),
            _ => Ok(()),
        }
    }

    /// The number of an owner, who is about to make a request on this thread.
    #[inline(always)]
    pub(crate) fn owner_number(&self, local: &Local, owner: OwnerRef<'_>) -> u32 {
        match owner {
            OwnerRef::Known(owner) => owner.0,
            OwnerRef::Session(session) if session.manager == self.identity() => session.number,
            // Refused before, by `check_owner`. Should a path forget to ask, it is a label, of which nothing is concluded.
            OwnerRef::Session(_) => UNNAMED,
            OwnerRef::Named("") => 0,
            OwnerRef::Named(name) => local.remembered(name).unwrap_or_else(|| self.owner_number_slow(local, name)),
        }
    }

    #[cold]
    #[inline(never)]
    fn owner_number_slow(&self, local: &Local, name: &str) -> u32 {
        if self.is_forked() {
            // The mutex may have been held by a thread that is not here; the request is refused anyway.
            return 0;
        }
        self.owners.number(name, || self.owners_in_use(), |number| local.remember(name, number))
    }

    pub(crate) fn keep_owner(&self, name: &str) -> u32 {
        if self.is_forked() {
            return 0;
        }
        self.owners.keep(name, || self.owners_in_use())
    }

    pub(crate) fn keep_owner_with_source(&self, name: &str, source: &'static str) -> u32 {
        if self.is_forked() {
            return 0;
        }
        self.owners.keep_with_source(name, source, || self.owners_in_use())
    }

    /// What tells this manager from others.
    #[inline(always)]
    pub(crate) fn identity(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Begins a session; `None` in a forked child, which may take no mutex.
    pub(crate) fn begin_session(&self, name: &str, source: &'static str) -> Option<Arc<SessionState>> {
        (!self.is_forked()).then(|| self.sessions.begin(name, source, |grant| self.is_held(grant)))
    }

    /// Whether a grant is held, or about to be released.
    pub(crate) fn is_held(&self, grant: Grant) -> bool {
        self.standing(grant).is_ok()
    }

    /// Notes that a session has a lock, before its request is answered.
    ///
    /// The caller may hold the shard mutex.
    #[inline]
    pub(crate) fn note_hold(&self, owner: u32, hash: u64, grant: Grant) {
        if owner & SESSION != 0
            && let Some(session) = self.sessions.get(owner)
        {
            session.note_hold(NotedHold { hash, grant }, |grant| self.is_held(grant));
        }
    }

    /// Notes that a session's request waits. Caller holds: shard mutex.
    pub(crate) fn session_waits(&self, waiter: &Waiter) {
        self.sessions.begins_to_wait(waiter.owner.load(Ordering::Relaxed), waiter.index());
    }

    /// Notes that a session's request waits no more.
    ///
    /// If it got a hold, that was noted before. Caller holds: shard mutex.
    pub(crate) fn session_waits_no_more(&self, waiter: &Waiter) {
        self.sessions.waits_no_more(waiter.owner.load(Ordering::Relaxed), waiter.index());
    }

    pub(crate) fn owner_name(&self, number: u32) -> Arc<str> {
        self.owner_label(number).name
    }

    /// Returns an owner's name and source, of a label or a session.
    pub(crate) fn owner_label(&self, number: u32) -> Label {
        if self.is_forked() {
            // The mutex of the names may have been held by a thread that is not here.
            return Label::default();
        }
        if number & SESSION == 0 {
            return self.owners.label(number);
        }
        match self.sessions.get(number) {
            Some(session) => Label { name: Arc::clone(&session.name), source: session.source },
            None => Label::default(),
        }
    }

    /// Returns the owners' numbers that threads, waiters and holders use.
    ///
    /// In this order, because a number moves from a thread to its waiter and on to its hold, before the thread takes
    /// another number.
    fn owners_in_use(&self) -> HashSet<u32> {
        let mut numbers: HashSet<u32> = self.locals.iter().map(Local::remembered_owner).collect();
        self.waiters.for_each(|_, waiter| {
            numbers.insert(waiter.owner.load(Ordering::Relaxed));
        });
        self.records.for_each(usize::MAX, |_, record| numbers.extend(record.held().map(|held| held.owner)));
        numbers
    }

    /// Sets the state of a filled-in record after the caller has taken the lock.
    ///
    /// `taken` is the word as the caller left it.
    #[inline(always)]
    pub(crate) fn begin_hold(&self, record_index: u32, entry: &Entry, granting: &Granting, taken: Word) -> Grant {
        let Granting { mode, priority, detached, shard } = *granting;
        let record = self.records.get(record_index);
        begin_hold_as((record_index, record), entry, (mode, shard, taken), FirstState::new(mode, priority, detached))
    }

    /// Returns the exclusive holder or a reader, and how many others there are.
    ///
    /// The cost does not grow with the number of holds. Caller holds: shard mutex.
    pub(crate) fn holders(&self, index: u32, entry: &Entry) -> Holders {
        self.holders_beside(index, entry, NONE)
    }

    /// As `holders`, without the reader that asks; [`NONE`] for another request.
    pub(crate) fn holders_beside(&self, index: u32, entry: &Entry, asker: u32) -> Holders {
        let word = entry.word();
        let now = self.now();
        if word.is_exclusive() {
            return Holders { named: self.writer(entry, word, now).into_iter().collect(), more: 0 };
        }
        let others = word.readers().saturating_sub(u32::from(asker != NONE));
        if others == 0 && self.tiered().is_some() {
            return self.other_process(word);
        }
        let mut named = Vec::new();
        let mut name = |record_index: u32, record: &Record| {
            let is_its = |held: &Held| held.entry == index && held.mode == Mode::Shared && record_index != asker;
            let Some(held) = record.held().filter(is_its) else { return ControlFlow::Continue(()) };
            named.push(self.named((record_index, record), held.owner, Mode::Shared, now));
            ControlFlow::Break(())
        };
        let noted = entry.reader.load(Ordering::Relaxed);
        let is_named = self.records.could_be(noted) && name(noted, self.records.get(noted)).is_break();
        if !is_named && others > 0 {
            // Of several readers only one is noted, who may have left. Most records are passed over by a glance.
            self.records.for_each_until(A_FEW_PAGES, |record_index, record| {
                if record.may_hold(index) { name(record_index, record) } else { ControlFlow::Continue(()) }
            });
        }
        let more = others.saturating_sub(named.len() as u32);
        Holders { named, more }
    }

    /// Returns the exclusive holder that a word names, or the lock delay.
    ///
    /// Caller holds: shard mutex.
    fn writer(&self, entry: &Entry, word: Word, now: u64) -> Option<Holder> {
        if word.writer() == NONE {
            return entry.is_shut().then(|| Holder {
                owner: LOCK_DELAY_OWNER.into(),
                mode: Mode::Exclusive,
                held_for: Duration::ZERO,
                grant: None,
                fence: None,
                lease: None,
            });
        }
        // Filled in before the word named it, so this is right even if the hold is not on record yet.
        let record = self.records.get(word.writer());
        Some(self.named((word.writer(), record), record.owner(), Mode::Exclusive, now))
    }

    /// Describes a holder. Its grant is unknown until the record has its state.
    fn named(&self, (index, record): (u32, &Record), owner: u32, mode: Mode, now: u64) -> Holder {
        record.stamp(now);
        let held = record.held();
        let until = |from: u64, to: u64| Duration::from_nanos(to.saturating_sub(from));
        let leased = held.as_ref().filter(|held| held.leased);
        Holder {
            owner: self.owner_name(owner),
            mode,
            held_for: until(held.as_ref().map_or(now, |held| held.since), now),
            grant: held.as_ref().map(|held| held.grant(index)),
            fence: held.as_ref().filter(|_| mode == Mode::Exclusive).map(|held| self.table.entry(held.entry).fence()),
            lease: leased.and_then(|held| self.leases.deadline(held.grant(index))).map(|end| until(now, end)),
        }
    }

    /// Returns whether the word of its entry counts a hold.
    ///
    /// A writer that has released keeps its record until that is given back, but the word names it no more. Exact for a
    /// caller that holds the shard mutex.
    pub(crate) fn is_in_word(&self, record: u32, held: &Held) -> bool {
        let shares = |held: &Held| held.mode == Mode::Shared || held.counted;
        // A downgrade changes the record first and then the word: a record read before that is read again.
        let has_changed = |now: Held| now.grant(record) == held.grant(record) && shares(&now);
        shares(held)
            || self.table.entry(held.entry).word().writer() == record
            || self.records.get(record).held().is_some_and(has_changed)
    }

    /// The exclusive hold of an entry, if it is on record. The caller owns the shard.
    pub(crate) fn exclusive_holder(&self, index: u32, entry: &Entry) -> Option<(Grant, Held)> {
        let writer = entry.word().writer();
        let held = (writer != NONE).then(|| self.records.get(writer).held()).flatten();
        let is_on_record = |held: &Held| held.entry == index && held.mode == Mode::Exclusive;
        held.filter(is_on_record).map(|held| (held.grant(writer), held))
    }

    /// Sets the begin of a hold that read no clock, now that a request waits for it.
    pub(crate) fn stamp_holder(&self, index: u32, entry: &Entry, now: u64) {
        let word = entry.word();
        let holder = if word.is_exclusive() { word.writer() } else { entry.reader.load(Ordering::Relaxed) };
        if self.records.could_be(holder) {
            let record = self.records.get(holder);
            if record.held().is_some_and(|held| held.entry == index) {
                record.stamp(now);
            }
        }
    }

    pub(crate) fn lock_shard(&self, hash: u64) -> LockedShard<'_> {
        self.table.lock(self.table.shard_of(hash))
    }
}

/// As [`Core::begin_hold`], for a caller that has the record and its first state.
#[inline(always)]
pub(crate) fn begin_hold_as(
    (record_index, record): (u32, &Record),
    entry: &Entry,
    (mode, shard, taken): (Mode, u32, Word),
    state: FirstState,
) -> Grant {
    record.set_note(taken.noted_with(shard));
    if mode == Mode::Exclusive {
        // Before the hold is on record, which says that it has its number.
        entry.raise_fence();
    } else if taken.has_one_reader() {
        // Of readers only the first is noted: on a key that is read all the time they would fight over the cache line.
        entry.reader.store(record_index, Ordering::Relaxed);
    }
    record.begin(record_index, state)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::memory::{Cache, NONE};
    use crate::{FastObjectLockManager, LockConfig};

    #[test]
    fn threads_find_records_in_a_small_table() {
        let locks =
            FastObjectLockManager::with_config(LockConfig { max_locks: 1000, ..LockConfig::default() }).unwrap();
        let records = &locks.core().records;
        // As by the first lock of each thread.
        assert!((0..6000).all(|_| records.take(&Cache::default()) != NONE));
    }
}
