//! The table as a tier: a manager whose keys are shared with the other processes of the machine.
//!
//! A permit is a hold of the key in the table, which the process keeps until another one waits for it. While it is kept, the
//! manager's locks cost what they cost without other processes.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use keylatch::LockConfig;
//! use keylatch_shm::tier::SharedMemory;
//! # let path = std::env::temp_dir().join(format!("keylatch-doc-{}", std::process::id()));
//! let locks = LockConfig::default().shared_memory(&path)?;
//! let guard = locks.acquire_write_lock_blocking("photos", "cat.jpg", "thumbnailer")?;
//! # drop(guard); drop(locks); std::fs::remove_file(path)?; Ok(()) }
//! ```

mod explain;
mod keeper;
mod permit;

use crate::config::TableConfig;
use crate::core::Core;
use crate::error::ShmError;
use crate::handle::SharedTable;
use explain::explained;
use keeper::Keeper;
use keylatch::tier::{Answer, Ask, Effort, PermitId, RemoteHold, Term, Tier, TierError, TierEvents};
use keylatch::{FastObjectLockManager, KeyRef, LockConfig, LockError};
use permit::TERM;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Makes managers that share their keys through a file that processes map.
pub trait SharedMemory: sealed::Sealed {
    /// Makes a manager that shares its keys with other processes.
    ///
    /// All that name the same file share one table, which is made if it is missing. The verbs are the manager's:
    /// [`keylatch::tier`] says what differs, and [`SharedMemoryTier`] what this tier does not have. To choose sizes, open a [`SharedMemoryTier`] and pass it to
    /// [`FastObjectLockManager::with_tier`].
    ///
    /// # Errors
    /// As [`FastObjectLockManager::with_config`], and [`LockError::Tier`] if the table cannot be opened.
    fn shared_memory(self, path: impl AsRef<Path>) -> Result<FastObjectLockManager, LockError>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for keylatch::LockConfig {}
}

impl SharedMemory for LockConfig {
    fn shared_memory(self, path: impl AsRef<Path>) -> Result<FastObjectLockManager, LockError> {
        let tier = SharedMemoryTier::open(path, &TableConfig::default());
        let tier = tier.map_err(|error| LockError::Tier { error: explained(&error) })?;
        FastObjectLockManager::with_tier(self, Arc::new(tier))
    }
}

/// A tier in a table that processes of one machine share.
///
/// # Limits
///
/// * A process that is killed while it keeps a permit for a key that none of its threads holds counts as one that died with
///   the lock: `previous_died` is set once too often, never once too seldom.
/// * A call may wait for the length of another process's insertion of a key. A request that does not wait, and an upgrade that
///   does not, give other processes up to 2 milliseconds to give back a permit.
/// * A process that is stopped keeps its permits, also of up to 1,024 keys that none of its threads holds. [`Tier::revoke`]
///   takes them.
/// * A process that ends without dropping or closing its manager, as with `process::exit` or a manager in a `static`, counts
///   as killed for each key that it keeps exclusively. Close the manager before.
/// * At most 1,024 permits are kept, and at most one for each four keys of the table. Beyond that the oldest are recalled. A
///   table that the processes fill with permits refuses further keys.
pub struct SharedMemoryTier {
    keeper: Arc<Keeper>,
    /// The keeper's table, at hand for the question that each acquisition asks.
    core: Arc<Core>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl SharedMemoryTier {
    /// Opens the table, which is made if it is missing, for one manager.
    ///
    /// # Errors
    /// As [`SharedTable::open`].
    pub fn open(path: impl AsRef<Path>, config: &TableConfig) -> Result<Self, ShmError> {
        Ok(Self::of(SharedTable::open(path, config)?))
    }

    /// A tier of a table, which nothing else of this process may use.
    fn of(table: SharedTable) -> Self {
        let core = Arc::clone(table.core_arc());
        Self { keeper: Arc::new(Keeper::new(table)), core, thread: Mutex::new(None) }
    }
}

impl Tier for SharedMemoryTier {
    fn attach(&self, events: Arc<dyn TierEvents>) -> Result<Term, TierError> {
        let thread = self.keeper.start(events)?;
        *crate::mutex::lock(&self.thread) = Some(thread);
        Ok(TERM)
    }

    fn ask(&self, asks: &[Ask<'_>], effort: Effort, answers: &mut [Answer]) {
        match effort {
            Effort::Queue => {
                for (ask, answer) in asks.iter().zip(answers) {
                    *answer = self.keeper.queue(ask);
                }
            }
            Effort::AllOrNone => self.keeper.take_all(asks, answers),
        }
    }

    fn withdraw(&self, id: PermitId) {
        self.keeper.withdraw(id);
    }

    fn give_back(&self, id: PermitId) {
        self.keeper.give_back(id);
    }

    fn death_unreported(&self, id: PermitId) {
        self.keeper.death_unreported(id);
    }

    fn downgrade(&self, id: PermitId) {
        self.keeper.downgrade(id);
    }

    fn upgrade(&self, id: PermitId, term: Term, effort: Effort) -> Answer {
        match effort {
            Effort::Queue => self.keeper.upgrade(id, term),
            Effort::AllOrNone => self.keeper.try_upgrade(id, term),
        }
    }

    fn is_current(&self) -> bool {
        self.core.is_sound()
    }

    fn revoke(&self, key: KeyRef<'_>) -> Result<u32, TierError> {
        let (table, mut revoked) = (self.keeper.table(), 0);
        for holder in table.holders(Some(key)).map_err(|error| explained(&error))? {
            let is_own = holder.hold.member == table.core().me.number();
            if !is_own && table.revoke(holder.hold).map_err(|error| explained(&error))? {
                revoked += 1;
            }
        }
        Ok(revoked)
    }

    fn list(&self, key: Option<KeyRef<'_>>, each: &mut dyn FnMut(RemoteHold)) -> Result<(), TierError> {
        let table = self.keeper.table();
        for holder in table.holders(key).map_err(|error| explained(&error))? {
            let own = holder.hold.member == table.core().me.number();
            let process = format!("process {} ({})", holder.pid, holder.program);
            each(RemoteHold {
                key: holder.key,
                mode: holder.mode,
                waits: false,
                process: process.into(),
                owner: holder.owner.into(),
                since: Some(holder.age),
                own,
            });
        }
        Ok(())
    }

    fn detach(&self) {
        self.keeper.close();
        let thread = crate::mutex::lock(&self.thread).take();
        // An event may have let go of the manager last: the thread does not wait for itself.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
        self.keeper.end_all();
    }
}

impl fmt::Debug for SharedMemoryTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedMemoryTier").field("keeper", &self.keeper).finish_non_exhaustive()
    }
}

impl Drop for SharedMemoryTier {
    fn drop(&mut self) {
        // The thread of a parent is not there in its child.
        if !self.keeper.table().core().is_forked() {
            self.detach();
        }
    }
}
