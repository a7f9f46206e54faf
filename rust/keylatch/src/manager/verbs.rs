//! The calls that lock: acquiring, trying, batches, sessions, and subscriptions.

use super::FastObjectLockManager;
use crate::engine::batch;
use crate::engine::lease::nanos_of;
use crate::error::LockError;
use crate::guard::{FastLockGuard, LockBatch, LockGuard, UnfinishedBatch};
use crate::hold::{Grant, OwnerRef};
use crate::key::KeyRef;
use crate::observe::EventOptions;
use crate::pending::{Acquire, CompletionQueue, Lock};
use crate::request::{BatchLockRequest, BatchMode, LockRequest};
use crate::session::Session;
use crate::subscription::Events;
use crate::sync::runtime::{Step, check_may_sleep};
use std::future::poll_fn;
use std::task::Poll;

impl FastObjectLockManager {
    /// Begins a session: an owner that is one thread of control, as a transaction is.
    ///
    /// Deadlocks among sessions are found, and a session that asks again for what it holds is recognised; see [`Session`].
    #[must_use]
    pub fn session(&self, name: &str) -> Session {
        Session::begin(self, name, "")
    }

    /// Begins a session with its place in the program for listings.
    #[must_use]
    pub fn session_with_source(&self, name: &str, source: &'static str) -> Session {
        Session::begin(self, name, source)
    }

    /// Makes a request of the manager; the result offers the ways to wait for it.
    #[inline(always)]
    pub fn lock<'k>(&self, request: LockRequest<'k>) -> Lock<'_, 'k> {
        Lock::new(self, request)
    }

    /// Acquires an object exclusively.
    ///
    /// # Errors
    /// As [`Lock::blocking`].
    #[inline(always)]
    pub fn acquire_write_lock<'k>(
        &self,
        bucket: &'k (impl AsRef<[u8]> + ?Sized),
        object: &'k (impl AsRef<[u8]> + ?Sized),
        owner: impl Into<OwnerRef<'k>>,
    ) -> Acquire<'_, 'k> {
        Acquire::new(self, LockRequest::write(KeyRef::new(bucket, object)).owner(owner))
    }

    /// Acquires an object shared.
    ///
    /// # Errors
    /// As [`Lock::blocking`].
    #[inline(always)]
    pub fn acquire_read_lock<'k>(
        &self,
        bucket: &'k (impl AsRef<[u8]> + ?Sized),
        object: &'k (impl AsRef<[u8]> + ?Sized),
        owner: impl Into<OwnerRef<'k>>,
    ) -> Acquire<'_, 'k> {
        Acquire::new(self, LockRequest::read(KeyRef::new(bucket, object)).owner(owner))
    }

    /// Acquires one version of an object exclusively.
    ///
    /// # Errors
    /// As [`Lock::blocking`].
    #[inline(always)]
    pub fn acquire_write_lock_versioned<'k>(
        &self,
        bucket: &'k (impl AsRef<[u8]> + ?Sized),
        object: &'k (impl AsRef<[u8]> + ?Sized),
        version: &'k (impl AsRef<[u8]> + ?Sized),
        owner: impl Into<OwnerRef<'k>>,
    ) -> Acquire<'_, 'k> {
        Acquire::new(self, LockRequest::write((bucket, object, version)).owner(owner))
    }

    /// Acquires one version of an object shared.
    ///
    /// # Errors
    /// As [`Lock::blocking`].
    #[inline(always)]
    pub fn acquire_read_lock_versioned<'k>(
        &self,
        bucket: &'k (impl AsRef<[u8]> + ?Sized),
        object: &'k (impl AsRef<[u8]> + ?Sized),
        version: &'k (impl AsRef<[u8]> + ?Sized),
        owner: impl Into<OwnerRef<'k>>,
    ) -> Acquire<'_, 'k> {
        Acquire::new(self, LockRequest::read((bucket, object, version)).owner(owner))
    }

    /// [`acquire_write_lock`](Self::acquire_write_lock) for threads.
    ///
    /// # Errors
    /// As [`Lock::blocking`].
    #[inline(always)]
    pub fn acquire_write_lock_blocking<'k>(
        &self,
        bucket: &'k (impl AsRef<[u8]> + ?Sized),
        object: &'k (impl AsRef<[u8]> + ?Sized),
        owner: impl Into<OwnerRef<'k>>,
    ) -> Result<FastLockGuard<'_>, LockError> {
        self.lock(LockRequest::write(KeyRef::new(bucket, object)).owner(owner)).blocking()
    }

    /// [`acquire_read_lock`](Self::acquire_read_lock) for threads.
    ///
    /// # Errors
    /// As [`Lock::blocking`].
    #[inline(always)]
    pub fn acquire_read_lock_blocking<'k>(
        &self,
        bucket: &'k (impl AsRef<[u8]> + ?Sized),
        object: &'k (impl AsRef<[u8]> + ?Sized),
        owner: impl Into<OwnerRef<'k>>,
    ) -> Result<FastLockGuard<'_>, LockError> {
        self.lock(LockRequest::read(KeyRef::new(bucket, object)).owner(owner)).blocking()
    }

    /// Waits in the calling thread, as
    /// [`acquire_write_lock_versioned`](Self::acquire_write_lock_versioned) does in a task.
    ///
    /// # Errors
    /// As [`Lock::blocking`].
    #[inline(always)]
    pub fn acquire_write_lock_versioned_blocking<'k>(
        &self,
        bucket: &'k (impl AsRef<[u8]> + ?Sized),
        object: &'k (impl AsRef<[u8]> + ?Sized),
        version: &'k (impl AsRef<[u8]> + ?Sized),
        owner: impl Into<OwnerRef<'k>>,
    ) -> Result<FastLockGuard<'_>, LockError> {
        self.lock(LockRequest::write((bucket, object, version)).owner(owner)).blocking()
    }

    /// [`acquire_read_lock_versioned`](Self::acquire_read_lock_versioned) for threads.
    ///
    /// # Errors
    /// As [`Lock::blocking`].
    #[inline(always)]
    pub fn acquire_read_lock_versioned_blocking<'k>(
        &self,
        bucket: &'k (impl AsRef<[u8]> + ?Sized),
        object: &'k (impl AsRef<[u8]> + ?Sized),
        version: &'k (impl AsRef<[u8]> + ?Sized),
        owner: impl Into<OwnerRef<'k>>,
    ) -> Result<FastLockGuard<'_>, LockError> {
        self.lock(LockRequest::read((bucket, object, version)).owner(owner)).blocking()
    }

    /// Acquires an object exclusively, if it is free.
    ///
    /// # Errors
    /// As [`Lock::try_now`].
    #[inline(always)]
    pub fn try_acquire_write_lock<'k>(
        &self,
        bucket: &'k (impl AsRef<[u8]> + ?Sized),
        object: &'k (impl AsRef<[u8]> + ?Sized),
        owner: impl Into<OwnerRef<'k>>,
    ) -> Result<FastLockGuard<'_>, LockError> {
        self.lock(LockRequest::write(KeyRef::new(bucket, object)).owner(owner)).try_now()
    }

    /// Acquires an object shared, if no writer holds it or goes first.
    ///
    /// # Errors
    /// As [`Lock::try_now`].
    #[inline(always)]
    pub fn try_acquire_read_lock<'k>(
        &self,
        bucket: &'k (impl AsRef<[u8]> + ?Sized),
        object: &'k (impl AsRef<[u8]> + ?Sized),
        owner: impl Into<OwnerRef<'k>>,
    ) -> Result<FastLockGuard<'_>, LockError> {
        self.lock(LockRequest::read(KeyRef::new(bucket, object)).owner(owner)).try_now()
    }

    /// [`try_acquire_write_lock`](Self::try_acquire_write_lock) for one version.
    ///
    /// # Errors
    /// As [`Lock::try_now`].
    #[inline(always)]
    pub fn try_acquire_write_lock_versioned<'k>(
        &self,
        bucket: &'k (impl AsRef<[u8]> + ?Sized),
        object: &'k (impl AsRef<[u8]> + ?Sized),
        version: &'k (impl AsRef<[u8]> + ?Sized),
        owner: impl Into<OwnerRef<'k>>,
    ) -> Result<FastLockGuard<'_>, LockError> {
        self.lock(LockRequest::write((bucket, object, version)).owner(owner)).try_now()
    }

    /// [`try_acquire_read_lock`](Self::try_acquire_read_lock) for one version.
    ///
    /// # Errors
    /// As [`Lock::try_now`].
    #[inline(always)]
    pub fn try_acquire_read_lock_versioned<'k>(
        &self,
        bucket: &'k (impl AsRef<[u8]> + ?Sized),
        object: &'k (impl AsRef<[u8]> + ?Sized),
        version: &'k (impl AsRef<[u8]> + ?Sized),
        owner: impl Into<OwnerRef<'k>>,
    ) -> Result<FastLockGuard<'_>, LockError> {
        self.lock(LockRequest::read((bucket, object, version)).owner(owner)).try_now()
    }

    /// Acquires many locks, with one deadline for all of them.
    ///
    /// After an error, or when the future is dropped, nothing stays held.
    ///
    /// # Errors
    /// [`LockError::Batch`] names the key that failed and why. A best-effort batch reports what it did not get in
    /// [`LockBatch::missing`] instead, and fails only when the manager cannot go on.
    pub async fn acquire_locks_batch<'a>(&'a self, batch: BatchLockRequest<'_>) -> Result<LockBatch<'a>, LockError> {
        // A batch that is all free awaits nothing else.
        poll_fn(|context| Step::begin(context).map(|step| step.end(Poll::Ready(())))).await.is_ready();
        if let Some(grants) = self.batch_fast(&batch)? {
            return Ok(grants);
        }
        let deadline = self.core.deadline(batch.limit);
        let mut gathered = UnfinishedBatch::new(self);
        for (key, mode) in batch::in_order(&batch) {
            let answer = self.lock(batch.one(key, mode, deadline)).await.map(LockGuard::into_bare_grant);
            add_to(&mut gathered, key, answer, batch.batch_mode)?;
        }
        self.begin_leases(&batch, gathered.grants());
        Ok(gathered.finish())
    }

    /// [`acquire_locks_batch`](Self::acquire_locks_batch) for threads.
    ///
    /// # Errors
    /// As there.
    pub fn acquire_locks_batch_blocking<'a>(&'a self, batch: BatchLockRequest<'_>) -> Result<LockBatch<'a>, LockError> {
        check_may_sleep();
        if let Some(grants) = self.batch_fast(&batch)? {
            return Ok(grants);
        }
        let deadline = self.core.deadline(batch.limit);
        let mut gathered = UnfinishedBatch::new(self);
        for (key, mode) in batch::in_order(&batch) {
            let answer = self.core.blocking(batch.one(key, mode, deadline), false);
            add_to(&mut gathered, key, answer, batch.batch_mode)?;
        }
        self.begin_leases(&batch, gathered.grants());
        Ok(gathered.finish())
    }

    fn batch_fast<'a>(&'a self, batch: &BatchLockRequest<'_>) -> Result<Option<LockBatch<'a>>, LockError> {
        self.core.check_owner(batch.owner)?;
        batch.ttl.map_or(Ok(0), nanos_of)?;
        self.core.note_batch_order(batch);
        let grants = self.core.batch_fast(self.core.local(), batch);
        self.begin_leases(batch, grants.as_deref().unwrap_or_default());
        Ok(grants.map(|grants| LockBatch::new(self, grants)))
    }

    /// Begins the leases of a batch, once it has all its locks.
    ///
    /// A lease that began earlier could end while the batch waits for the rest.
    fn begin_leases(&self, batch: &BatchLockRequest<'_>, grants: &[Grant]) {
        grants.iter().for_each(|grant| self.core.start_lease(*grant, batch.ttl));
    }

    /// Makes a queue for results of requests that wait; see [`Lock::with_queue`].
    ///
    /// # Errors
    /// The error of the system when it has no descriptor left.
    pub fn completion_queue(&self) -> std::io::Result<CompletionQueue> {
        CompletionQueue::new(self.clone())
    }

    /// Subscribes to events from now on; see [`Events`].
    ///
    /// Events are long waits and holds, timeouts with the holders at that moment, deadlocks, and revoked locks.
    #[must_use = "events arrive for as long as the subscription is kept"]
    pub fn subscribe(&self, options: EventOptions) -> Events {
        Events::new(&self.core, &options)
    }

    /// Passes events to [`tracing`](https://docs.rs/tracing), as target `keylatch`.
    ///
    /// Long waits and holds, timeouts, expiries and forced releases are warnings, deadlocks are errors. They are made on
    /// the thread on which they happen.
    #[cfg(feature = "tracing")]
    #[must_use = "events are handed on for as long as the subscription is kept"]
    pub fn trace_events(&self, options: EventOptions) -> crate::TracedEvents {
        crate::TracedEvents::new(&self.core, &options)
    }
}

/// Takes in the answer for one key of a batch; an error is the whole batch's.
fn add_to(
    gathered: &mut UnfinishedBatch<'_>,
    key: KeyRef<'_>,
    answer: Result<Grant, LockError>,
    batch_mode: BatchMode,
) -> Result<(), LockError> {
    match answer {
        Ok(grant) => gathered.push(grant),
        Err(cause @ (LockError::Closed | LockError::Forked)) => return Err(cause),
        Err(cause) if batch_mode == BatchMode::BestEffort => gathered.miss(key.to_owned(), cause),
        Err(cause) => return Err(LockError::Batch { key: key.to_owned(), cause: Box::new(cause) }),
    }
    Ok(())
}
