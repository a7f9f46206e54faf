//! The "before": one mutex around a map of locks, each with its line, first in first out.

use super::{BoxedAcquire, ObjectLocks, one_by_one};
use crate::config::{Backend, LockConfig};
use crate::error::{Holder, Holders, LockError};
use crate::hold::{Grant, OwnerRef};
use crate::inspect::Filter;
use crate::key::{KeyRef, ObjectKey};
use crate::listed::HolderInfo;
use crate::mode::Mode;
use crate::observe::{LockMetrics, ShardMetrics};
use crate::request::{BatchLockRequest, Limit, LockRequest};
use crate::sync::thread;
use crate::wait::UserCode;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// One mutex and a map, first in first out: to compare with and to fall back on.
///
/// Owners it takes by name. It has neither priorities nor leases nor numbered requests, and takes no notice when a request
/// asks for them; timeouts of futures need a thread each.
#[derive(Debug)]
pub struct GlobalLockManager {
    state: Mutex<State>,
    config: LockConfig,
    began: Instant,
    /// For the threads that keep the time of futures.
    this: Weak<Self>,
}

#[derive(Debug, Default)]
struct State {
    locks: HashMap<ObjectKey, Line>,
    grants: HashMap<u64, ObjectKey>,
    figures: ShardMetrics,
    last_grant: u64,
    closed: bool,
}

#[derive(Debug, Default)]
struct Line {
    held: Vec<Hold>,
    waiting: VecDeque<Arc<Waiting>>,
}

#[derive(Debug)]
struct Hold {
    grant: u64,
    mode: Mode,
    owner: Arc<str>,
    since: Instant,
}

#[derive(Debug)]
struct Waiting {
    mode: Mode,
    owner: Arc<str>,
    since: Instant,
    outcome: Mutex<Outcome>,
    changed: Condvar,
}

#[derive(Debug)]
enum Outcome {
    Pending(Option<UserCode<Waker>>),
    Granted(Grant),
    TimedOut,
    Closed,
}

impl Waiting {
    /// Sets the outcome.
    ///
    /// The state's mutex is held, so that a request that gives up sees it; the wakeup is for afterwards.
    fn settle(self: Arc<Self>, outcome: Outcome) -> Wakeup {
        let before = std::mem::replace(&mut *self.outcome.lock(), outcome);
        Wakeup(self, before)
    }
}

/// A waiter to wake, once no mutex is held.
struct Wakeup(Arc<Waiting>, Outcome);

impl Wakeup {
    fn deliver(self) {
        self.0.changed.notify_one();
        if let Outcome::Pending(Some(waker)) = self.1 {
            waker.wake();
        }
    }
}

impl GlobalLockManager {
    /// Makes a manager with the default settings.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Self::make(LockConfig::default())
    }

    /// A manager with these settings; it heeds the limits and the default timeout.
    ///
    /// # Errors
    /// [`LockError::InvalidConfig`].
    pub fn with_config(config: LockConfig) -> Result<Arc<Self>, LockError> {
        config.validate()?;
        Ok(Self::make(config))
    }

    fn make(config: LockConfig) -> Arc<Self> {
        Arc::new_cyclic(|this| Self { state: Mutex::default(), config, began: Instant::now(), this: this.clone() })
    }

    /// Takes the lock now, or joins its line if `waits`.
    fn request(&self, request: &LockRequest<'_>, waits: bool) -> Result<Result<Grant, Arc<Waiting>>, LockError> {
        let (bytes, limit) = (request.key.byte_len(), self.config.max_key_bytes);
        if bytes > limit {
            return Err(LockError::InvalidKey { bytes, limit });
        }
        let key = request.key.to_owned();
        let owner: Arc<str> = match request.owner {
            OwnerRef::Named(name) => name.into(),
            OwnerRef::Known(_) | OwnerRef::Session(_) => "".into(),
        };
        let mut state = self.state.lock();
        if state.closed {
            return Err(LockError::Closed);
        }
        if !state.locks.contains_key(&key) && state.locks.len() >= self.config.max_locks as usize {
            return Err(LockError::TableFull { limit: self.config.max_locks });
        }
        let state = &mut *state;
        let line = state.locks.entry(key.clone()).or_default();
        if line.waiting.is_empty() && line.allows(request.mode) {
            state.figures.fast += 1;
            return Ok(Ok(state.grant(&key, request.mode, owner)));
        }
        if !waits {
            let holders = line.holders();
            state.figures.refused += 1;
            return Err(LockError::WouldBlock { key, holders });
        }
        if state.figures.waiters >= u64::from(self.config.max_waiters) {
            return Err(LockError::TooManyWaiters { limit: self.config.max_waiters });
        }
        let waiting = Arc::new(Waiting {
            mode: request.mode,
            owner,
            since: Instant::now(),
            outcome: Mutex::new(Outcome::Pending(None)),
            changed: Condvar::new(),
        });
        line.waiting.push_back(Arc::clone(&waiting));
        state.figures.waits += 1;
        state.figures.waiters += 1;
        Ok(Err(waiting))
    }

    fn deadline(&self, limit: Limit) -> Option<Instant> {
        match limit {
            Limit::Never => None,
            Limit::At(at) => Some(at),
            Limit::After(nanos) => Instant::now().checked_add(Duration::from_nanos(nanos)),
            Limit::Default => Instant::now().checked_add(self.config.default_timeout?),
        }
    }

    /// Takes a request out of its line, unless it has its outcome already.
    ///
    /// Those it was in the way of go on.
    fn give_up(&self, key: &KeyRef<'_>, waiting: &Arc<Waiting>, outcome: Outcome) {
        let key = key.to_owned();
        let mut state = self.state.lock();
        let Some(line) = state.locks.get_mut(&key) else { return };
        let before = line.waiting.len();
        line.waiting.retain(|other| !Arc::ptr_eq(other, waiting));
        if line.waiting.len() == before {
            return;
        }
        state.figures.waiters -= 1;
        match outcome {
            Outcome::TimedOut => state.figures.timeouts += 1,
            _ => state.figures.cancelled += 1,
        }
        let mut wakeups = state.serve(&key);
        wakeups.push(Arc::clone(waiting).settle(outcome));
        drop(state);
        wakeups.into_iter().for_each(Wakeup::deliver);
    }

    fn result(&self, key: &KeyRef<'_>, waiting: &Waiting) -> Option<Result<Grant, LockError>> {
        let timed_out = match &*waiting.outcome.lock() {
            Outcome::Pending(_) => return None,
            Outcome::Granted(grant) => return Some(Ok(*grant)),
            Outcome::Closed => return Some(Err(LockError::Closed)),
            Outcome::TimedOut => waiting.since.elapsed(),
        };
        let key = key.to_owned();
        let holders = self.state.lock().locks.get(&key).map(Line::holders).unwrap_or_default();
        Some(Err(LockError::Timeout { key, waited: timed_out, holders }))
    }
}

impl State {
    /// Returns what a grant holds.
    fn hold(&mut self, grant: Grant) -> Result<(ObjectKey, &mut Hold), LockError> {
        let number = grant.to_raw();
        let not_held = LockError::NotHeld { grant: number };
        let Some(key) = self.grants.get(&number).cloned() else { return Err(not_held) };
        let line = self.locks.get_mut(&key).map(|line| line.held.iter_mut());
        let hold = line.and_then(|mut held| held.find(|hold| hold.grant == number));
        hold.map(|hold| (key, hold)).ok_or(not_held)
    }

    fn grant(&mut self, key: &ObjectKey, mode: Mode, owner: Arc<str>) -> Grant {
        self.last_grant += 1;
        let grant = self.last_grant;
        self.grants.insert(grant, key.clone());
        let line = self.locks.entry(key.clone()).or_default();
        line.held.push(Hold { grant, mode, owner, since: Instant::now() });
        self.figures.holders += 1;
        Grant::from_raw(grant).expect("counted from 1")
    }

    /// Grants to the front of a line what can be granted; forgets an unused lock.
    fn serve(&mut self, key: &ObjectKey) -> Vec<Wakeup> {
        let mut served = Vec::new();
        while let Some(line) = self.locks.get_mut(key) {
            let Some(waiting) = line.waiting.pop_front() else {
                if line.held.is_empty() {
                    self.locks.remove(key);
                }
                break;
            };
            if !line.allows(waiting.mode) {
                line.waiting.push_front(waiting);
                break;
            }
            self.figures.slow += 1;
            self.figures.waiters -= 1;
            self.figures.wait_time += waiting.since.elapsed();
            self.figures.max_wait_time = self.figures.max_wait_time.max(waiting.since.elapsed());
            let grant = self.grant(key, waiting.mode, waiting.owner.clone());
            served.push(waiting.settle(Outcome::Granted(grant)));
        }
        served
    }
}

impl Line {
    fn allows(&self, mode: Mode) -> bool {
        self.held.iter().all(|hold| hold.mode.goes_with(mode))
    }

    fn holders(&self) -> Holders {
        let named = self.held.iter().take(64).map(|hold| Holder {
            owner: hold.owner.clone(),
            mode: hold.mode,
            held_for: hold.since.elapsed(),
            grant: Grant::from_raw(hold.grant),
            fence: None,
            lease: None,
        });
        let named: Vec<_> = named.collect();
        let more = (self.held.len() - named.len()) as u32;
        Holders { named, more }
    }
}

impl ObjectLocks for GlobalLockManager {
    fn backend(&self) -> Backend {
        Backend::Global
    }

    fn acquire_blocking(&self, request: &LockRequest<'_>) -> Result<Grant, LockError> {
        let waiting = match self.request(request, true)? {
            Ok(grant) => return Ok(grant),
            Err(waiting) => waiting,
        };
        let deadline = self.deadline(request.limit);
        loop {
            if let Some(result) = self.result(&request.key, &waiting) {
                return result;
            }
            let mut outcome: MutexGuard<'_, Outcome> = waiting.outcome.lock();
            if !matches!(*outcome, Outcome::Pending(_)) {
                continue;
            }
            let late = match deadline {
                None => {
                    waiting.changed.wait(&mut outcome);
                    false
                }
                Some(at) => waiting.changed.wait_until(&mut outcome, at).timed_out(),
            };
            drop(outcome);
            if late {
                self.give_up(&request.key, &waiting, Outcome::TimedOut);
            }
        }
    }

    fn try_acquire(&self, request: &LockRequest<'_>) -> Result<Grant, LockError> {
        self.request(request, false)?.map_err(|_| LockError::Closed)
    }

    fn acquire<'a>(&'a self, request: LockRequest<'a>) -> BoxedAcquire<'a> {
        Box::pin(Acquiring { locks: self, request, waiting: None })
    }

    fn release(&self, grant: Grant) -> Result<(), LockError> {
        let mut state = self.state.lock();
        let Some(key) = state.grants.remove(&grant.to_raw()) else {
            return Err(LockError::NotHeld { grant: grant.to_raw() });
        };
        if let Some(line) = state.locks.get_mut(&key) {
            line.held.retain(|hold| hold.grant != grant.to_raw());
        }
        state.figures.releases += 1;
        state.figures.holders -= 1;
        let wakeups = state.serve(&key);
        drop(state);
        wakeups.into_iter().for_each(Wakeup::deliver);
        Ok(())
    }

    fn acquire_batch_blocking(&self, batch: &BatchLockRequest<'_>) -> Result<Vec<(ObjectKey, Grant)>, LockError> {
        one_by_one(self, batch, self.deadline(batch.limit))
    }

    fn downgrade(&self, grant: Grant) -> Result<(), LockError> {
        let mut state = self.state.lock();
        let (key, held) = state.hold(grant)?;
        held.mode = Mode::Shared;
        let wakeups = state.serve(&key);
        drop(state);
        wakeups.into_iter().for_each(Wakeup::deliver);
        Ok(())
    }

    fn try_upgrade(&self, grant: Grant) -> Result<(), LockError> {
        let mut state = self.state.lock();
        let (key, _) = state.hold(grant)?;
        if let Some(line) = state.locks.get(&key).filter(|line| line.held.len() > 1) {
            return Err(LockError::WouldBlock { holders: line.holders(), key });
        }
        state.hold(grant)?.1.mode = Mode::Exclusive;
        Ok(())
    }

    fn holders(&self, filter: &Filter) -> Vec<HolderInfo> {
        let state = self.state.lock();
        let mut listed = Vec::new();
        for (key, line) in state.locks.iter().filter(|(key, _)| filter.is_for_key(&key.as_ref())) {
            for hold in &line.held {
                let held_for = hold.since.elapsed();
                if !filter.lets_pass(hold.mode, 0, held_for) || !filter.is_for_owner(&hold.owner, "") {
                    continue;
                }
                listed.push(HolderInfo {
                    key: key.clone(),
                    mode: hold.mode,
                    owner: Arc::clone(&hold.owner),
                    source: "",
                    session: false,
                    priority: 0,
                    held_for,
                    lease: None,
                    fence: None,
                    in_lock_delay: false,
                    grant: Grant::from_raw(hold.grant).expect("counted from 1"),
                });
            }
        }
        listed
    }

    fn is_locked(&self, key: KeyRef<'_>) -> Result<bool, LockError> {
        Ok(self.state.lock().locks.get(&key.to_owned()).is_some_and(|line| !line.held.is_empty()))
    }

    fn get_metrics(&self) -> LockMetrics {
        let state = self.state.lock();
        let figures = ShardMetrics { entries: state.locks.len() as u64, ..state.figures.clone() };
        drop(state);
        LockMetrics::from_shards(vec![figures], self.began.elapsed(), 0)
    }

    fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let waiting: Vec<_> = state.locks.values_mut().flat_map(|line| line.waiting.drain(..)).collect();
        state.figures.waiters = 0;
        state.figures.cancelled += waiting.len() as u64;
        state.locks.retain(|_, line| !line.held.is_empty());
        let wakeups: Vec<_> = waiting.into_iter().map(|waiting| waiting.settle(Outcome::Closed)).collect();
        drop(state);
        wakeups.into_iter().for_each(Wakeup::deliver);
    }
}

struct Acquiring<'a> {
    locks: &'a GlobalLockManager,
    request: LockRequest<'a>,
    waiting: Option<Arc<Waiting>>,
}

impl Acquiring<'_> {
    /// Has the request given up on at its deadline.
    fn keep_time(&self, waiting: &Arc<Waiting>) {
        let Some(deadline) = self.locks.deadline(self.request.limit) else { return };
        let (locks, waits) = (self.locks.this.clone(), Arc::downgrade(waiting));
        let key = self.request.key.to_owned();
        let keep = move || {
            std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
            if let (Some(locks), Some(waits)) = (locks.upgrade(), waits.upgrade()) {
                locks.give_up(&key.as_ref(), &waits, Outcome::TimedOut);
            }
        };
        if thread::spawn("keylatch-global", keep).is_err() {
            // Better early than never.
            self.locks.give_up(&self.request.key, waiting, Outcome::TimedOut);
        }
    }
}

impl Future for Acquiring<'_> {
    type Output = Result<Grant, LockError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.waiting.is_none() {
            match this.locks.request(&this.request, true) {
                Err(error) => return Poll::Ready(Err(error)),
                Ok(Ok(grant)) => return Poll::Ready(Ok(grant)),
                Ok(Err(waiting)) => {
                    // Its own first: whatever comes now, dropping this takes it out of the line.
                    this.waiting = Some(Arc::clone(&waiting));
                    this.keep_time(&waiting);
                }
            }
        }
        let Some(waiting) = &this.waiting else { return Poll::Pending };
        // Cloned and dropped off the mutex: either runs user code.
        let fresh = UserCode::new(context.waker().clone());
        let mut outcome = waiting.outcome.lock();
        if let Outcome::Pending(waker) = &mut *outcome {
            let old = waker.replace(fresh);
            drop(outcome);
            drop(old);
            return Poll::Pending;
        }
        drop(outcome);
        let result = this.locks.result(&this.request.key, waiting);
        this.waiting = None;
        result.map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Acquiring<'_> {
    fn drop(&mut self) {
        let Some(waiting) = self.waiting.take() else { return };
        self.locks.give_up(&self.request.key, &waiting, Outcome::Closed);
        let granted = match *waiting.outcome.lock() {
            Outcome::Granted(grant) => Some(grant),
            _ => None,
        };
        if let Some(grant) = granted {
            let _ = self.locks.release(grant);
        }
    }
}
