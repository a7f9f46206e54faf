//! Questions to a manager: listings, blocking chains, the hottest keys; and revoking locks.

use super::FastObjectLockManager;
use crate::error::LockError;
use crate::hold::Lost;
use crate::inspect::{BlockingChain, ChainStart, Filter, LockOrderReports, TopBy, TopKey};
use crate::key::KeyRef;
use crate::listed::{HolderInfo, WaiterInfo};
use crate::tier::{RemoteHold, TierError, TierErrorKind};

impl FastObjectLockManager {
    /// Returns all holds that the filter lets pass, in no particular order.
    ///
    /// It stops no other call. A hold that lasts from before the call to after it is listed exactly once, and each listed
    /// hold existed at some moment of the call.
    ///
    /// ```
    /// # fn main() -> Result<(), keylatch::LockError> {
    /// use keylatch::{FastObjectLockManager, Filter};
    /// let locks = FastObjectLockManager::new();
    /// let node = locks.owner_with_source("node-7", "replicator");
    /// let guard = locks.acquire_write_lock_blocking("photos", "cat.jpg", node)?;
    /// let holders = locks.holders(&Filter::new().owner("node-7"));
    /// assert_eq!((holders[0].key.object(), holders[0].source), (&b"cat.jpg"[..], "replicator"));
    /// assert_eq!(holders[0].fence, Some(guard.fence()));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn holders(&self, filter: &Filter) -> Vec<HolderInfo> {
        self.core().list_holders(filter)
    }

    /// Returns all waiters that the filter lets pass.
    ///
    /// Queue by queue, each from its front.
    ///
    /// ```
    /// # fn main() -> Result<(), keylatch::LockError> {
    /// use keylatch::{FastObjectLockManager, Filter, LockRequest};
    /// let locks = FastObjectLockManager::new();
    /// let guard = locks.acquire_write_lock_blocking("photos", "cat.jpg", "indexer")?;
    /// let queue = locks.completion_queue().expect("a descriptor");
    /// let waiting = locks.lock(LockRequest::read(("photos", "cat.jpg")).owner("viewer")).with_queue(&queue, 1)?;
    /// let waiters = locks.waiters(&Filter::new().bucket("photos"));
    /// assert_eq!((&*waiters[0].owner, waiters[0].position), ("viewer", 1));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn waiters(&self, filter: &Filter) -> Vec<WaiterInfo> {
        self.core().list_waiters(filter)
    }

    /// Returns what all processes hold and wait for through the [tier](crate::tier).
    ///
    /// Of one key, or of all.
    /// [`holders`](Self::holders) and [`waiters`](Self::waiters) know this process alone. A process that keeps a permit is
    /// listed, whether one of its threads has the lock or not. Asks the tier, and may block.
    ///
    /// # Errors
    /// [`LockError::Tier`] without a tier, and where the tier does not answer or does not list; [`LockError::InvalidKey`],
    /// [`LockError::Closed`] and [`LockError::Forked`].
    ///
    /// ```
    /// # use keylatch::FastObjectLockManager;
    /// let alone = FastObjectLockManager::new().tier_holds(None).expect_err("it has no tier");
    /// assert!(alone.to_string().contains("no other process"), "{alone}");
    /// ```
    pub fn tier_holds(&self, key: Option<KeyRef<'_>>) -> Result<Vec<RemoteHold>, LockError> {
        self.core().service()?;
        if let Some(key) = &key {
            self.core().check_key(key)?;
        }
        let mut found = Vec::new();
        let listed = match self.core().tiered() {
            Some(tiered) => tiered.tier().list(key, &mut |hold| found.push(hold)),
            None => Err(TierError::new(
                TierErrorKind::Unsupported,
                "the manager shares its keys with no other process",
                "make it with a tier, or list what it has itself",
            )),
        };
        listed.map(|()| found).map_err(|error| LockError::Tier { error })
    }

    /// Returns which owners wait for which, from a start to the owners that run.
    ///
    /// It goes from a key, or from what an owner waits for, to the holders, and to what those wait for. A holder is
    /// followed if it is a session, which is one thread of control. Many requests may have one label, so a chain ends with
    /// a label that holds.
    ///
    /// ```
    /// # fn main() -> Result<(), keylatch::LockError> {
    /// use keylatch::{FastObjectLockManager, LockRequest};
    /// let locks = FastObjectLockManager::new();
    /// let (first, second) = (locks.session("txn-1"), locks.session("txn-2"));
    /// let queue = locks.completion_queue().expect("a descriptor");
    /// let write = |key, session| LockRequest::write(("accounts", key)).owner(session);
    /// let _alice = locks.lock(write("alice", &first)).blocking()?;
    /// let _bob = locks.lock(write("bob", &second)).blocking()?;
    /// let waiting = locks.lock(write("alice", &second)).with_queue(&queue, 1)?;
    ///
    /// let chain = locks.blocking_chain(("accounts", "bob"));
    /// assert_eq!(chain.links[1].key.object(), b"alice"); // which the holder of bob waits for
    /// assert_eq!(&*chain.running[0].owner, "txn-1");
    /// assert_eq!(locks.blocking_chain(&second).links.len(), 1);
    /// println!("{chain}");
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn blocking_chain<'a>(&self, start: impl Into<ChainStart<'a>>) -> BlockingChain {
        self.core().blocking_chain(start.into())
    }

    /// Returns the oldest holds, or the keys with the most waiters.
    ///
    /// At most `count` of them.
    ///
    /// ```
    /// # fn main() -> Result<(), keylatch::LockError> {
    /// use keylatch::{FastObjectLockManager, LockRequest, TopBy};
    /// let locks = FastObjectLockManager::new();
    /// let _cat = locks.acquire_write_lock_blocking("photos", "cat.jpg", "indexer")?;
    /// let _dog = locks.acquire_write_lock_blocking("photos", "dog.jpg", "indexer")?;
    /// let queue = locks.completion_queue().expect("a descriptor");
    /// let waiting = locks.lock(LockRequest::read(("photos", "dog.jpg")).owner("viewer")).with_queue(&queue, 1)?;
    /// let hot = locks.top(10, TopBy::Waiters);
    /// assert_eq!((hot.len(), hot[0].key.object(), hot[0].waiters), (1, &b"dog.jpg"[..], 1));
    /// assert_eq!(&*hot[0].holder.as_ref().unwrap().owner, "indexer");
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn top(&self, count: usize, by: TopBy) -> Vec<TopKey> {
        match by {
            TopBy::Age => self.core().oldest(count),
            TopBy::Waiters => self.core().most_waited_for(count),
        }
    }

    /// Revokes the locks that the filter lets pass, and returns their holders.
    ///
    /// An [unspecified](Filter::is_unspecified) filter revokes none. Waiters are served. The old holders' guards and grants
    /// are void, and releasing them harms no other hold. It works in a full table, too. A shared hold that is being
    /// released in this moment may be missing in the answer.
    ///
    /// An old holder may still be at work: its [`fence`](crate::LockGuard::fence) keeps that work from doing harm.
    ///
    /// ```
    /// # fn main() -> Result<(), keylatch::LockError> {
    /// use keylatch::{FastObjectLockManager, Filter};
    /// let locks = FastObjectLockManager::new();
    /// let stuck = locks.acquire_write_lock_blocking("photos", "cat.jpg", "node-7")?;
    /// let taken = locks.force_release(&Filter::new().owner("node-7"));
    /// assert_eq!(taken.len(), 1);
    /// let next = locks.try_acquire_write_lock("photos", "cat.jpg", "node-8")?;
    /// assert!(stuck.try_release().is_err());
    /// assert!(next.is_valid());
    /// # Ok(()) }
    /// ```
    pub fn force_release(&self, filter: &Filter) -> Vec<HolderInfo> {
        if filter.is_unspecified() {
            return Vec::new();
        }
        self.core().revoke_listed(self.core().list_holders(filter), Lost::Forced)
    }

    /// Revokes locks whose leases have run out, also where no request waits for them.
    ///
    /// The filter says which; an [unspecified](Filter::is_unspecified) one revokes none. Returns their holders.
    pub fn expire(&self, filter: &Filter) -> Vec<HolderInfo> {
        if filter.is_unspecified() {
            return Vec::new();
        }
        let mut holders = self.core().list_holders(filter);
        holders.retain(|holder| holder.lease.is_some_and(|left| left.is_zero()));
        self.core().revoke_listed(holders, Lost::Expired)
    }

    /// Returns what the lock-order lint has found.
    ///
    /// That is nothing, unless [`lock_order_lint`](crate::LockConfig::lock_order_lint) is set.
    ///
    /// ```
    /// use keylatch::{FastObjectLockManager, LockConfig, LockRequest};
    /// # fn main() -> Result<(), keylatch::LockError> {
    /// let locks = FastObjectLockManager::with_config(LockConfig { lock_order_lint: true, ..LockConfig::default() })?;
    /// let (mover, indexer) = (locks.session("mover"), locks.session("indexer"));
    /// let write = |object, session| locks.lock(LockRequest::write(("photos", object)).owner(session)).blocking();
    /// {
    ///     let _cat = write("cat.jpg", &mover)?;
    ///     let _dog = write("dog.jpg", &mover)?;
    /// }
    /// {
    ///     // Later, the other way round. Neither waits for the other, this time.
    ///     let _dog = write("dog.jpg", &indexer)?;
    ///     let _cat = write("cat.jpg", &indexer)?;
    /// }
    /// let found = locks.lock_order_reports();
    /// assert_eq!(
    ///     found.reports[0].to_string(),
    ///     r#"orders that go round: indexer held "photos"/"dog.jpg" (exclusive) and asked for "photos"/"cat.jpg" (exclusive); "#
    ///         .to_owned() + r#"mover held "photos"/"cat.jpg" (exclusive) and asked for "photos"/"dog.jpg" (exclusive)"#,
    /// );
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn lock_order_reports(&self) -> LockOrderReports {
        self.core().lock_order_reports()
    }
}
