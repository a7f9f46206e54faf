//! Upgrades that wait on the calling thread.

use crate::error::ShmError;
use crate::guard::{LockGuard, TableRef};
use crate::protocol::turn;
use crate::protocol::upgrade::Upgrade;
use crate::sleeper::Announced;
use crate::wait::recover_or_recall;
use keylatch::Mode;
use std::time::{Duration, Instant};

impl<T: TableRef> LockGuard<T> {
    /// Turns a shared hold into an exclusive one, once the other readers are gone.
    ///
    /// It goes ahead of all that wait, and no other reader comes in meanwhile. Does nothing to an exclusive hold. `None` waits
    /// for as long as it takes.
    ///
    /// ```
    /// # fn main() -> Result<(), keylatch_shm::ShmError> {
    /// use keylatch_shm::{LockRequest, SharedTable, TableConfig};
    /// use std::time::Duration;
    /// let table = SharedTable::memfd("example", &TableConfig::default().keys(64).members(2))?;
    /// let mut cat = table.lock(LockRequest::read(("photos", "cat.jpg"))).blocking()?;
    /// let dog = table.lock(LockRequest::read(("photos", "cat.jpg"))).blocking()?;
    /// assert!(cat.upgrade_blocking(Some(Duration::from_millis(1))).is_err(), "another reads");
    /// drop(dog);
    /// cat.upgrade_blocking(None)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ShmError::UpgradeConflict`] if another reader upgrades: each would wait for the other. [`ShmError::Timeout`], and the
    /// other errors of [`try_upgrade`](Self::try_upgrade). The shared hold stays as it is.
    pub fn upgrade_blocking(&mut self, timeout: Option<Duration>) -> Result<(), ShmError> {
        if self.mode() == Mode::Exclusive {
            return Ok(());
        }
        let begun_at = Instant::now();
        let deadline = timeout.and_then(|timeout| begun_at.checked_add(timeout));
        let table = std::sync::Arc::clone(self.table().core_arc());
        let bell = turn::bell_of(&table.region, table.me, self.slot());
        let (mut begun, mut announced) = (false, None);
        loop {
            let word = match self.look_at_upgrade(&mut begun)? {
                Upgrade::Done => return Ok(()),
                Upgrade::Conflict => return Err(ShmError::UpgradeConflict { key: self.key() }),
                Upgrade::Waits(word) => word,
            };
            let core = self.core();
            let recovered = recover_or_recall(core, self.slot(), word);
            let left = deadline.map_or(core.recheck(), |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() || recovered.is_err() {
                self.end_upgrade(&mut begun);
                recovered?;
                let (waited, holders) = (begun_at.elapsed(), self.table().holders_of_print(self.print()));
                return Err(ShmError::Timeout { key: self.key(), waited, holders });
            }
            if recovered? {
                continue;
            }
            match announced.take() {
                Some(asleep) => Announced::sleep(asleep, left.min(core.recheck())),
                // It looks once more before it sleeps.
                None => announced = Some(Announced::new(bell)),
            }
        }
    }
}
