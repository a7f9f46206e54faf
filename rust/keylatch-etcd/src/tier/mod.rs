//! The locks as a tier: a slower permission below the locks of a manager, shared by the processes of all machines.
//!
//! Each permit has a task of its own, `permit`, which carries out the calls about it one after the other.

mod command;
mod explain;
mod manager;
mod permit;
mod shared;

use crate::config::EtcdConfig;
use crate::core::Core;
use crate::error::EtcdError;
use crate::listing::{self, Whose};
use command::Command;
use explain::explained;
use keylatch::KeyRef;
use keylatch::tier::{Answer, Ask, Effort, PermitId, RemoteHold, Term, Tier, TierError, TierEvents};
pub use manager::Etcd;
pub(crate) use manager::refused;
use permit::Permit;
use shared::Shared;
use std::fmt;
use std::sync::Arc;

/// A tier on an etcd cluster.
///
/// # Limits
///
/// * A call has one ask, so a try of several keys is not one step.
/// * Whether a process died that had a key exclusively is not known: `previous_died` is always `false`.
/// * [`Tier::is_current`] is a flag that a timer clears. A process that was stopped may report success late; what catches
///   that are fences.
#[derive(Clone)]
pub struct EtcdTier {
    core: Arc<Core>,
    shared: Arc<Shared>,
}

impl EtcdTier {
    /// Connects, checks the cluster, and gets a lease.
    ///
    /// # Errors
    /// As [`EtcdLocks::open`](crate::EtcdLocks::open).
    pub fn open(config: EtcdConfig) -> Result<Self, EtcdError> {
        let core = Arc::new(Core::open(config)?);
        let shared = Arc::new(Shared::new(core.space()));
        Ok(Self { core, shared })
    }

    /// Ends the tier with all its locks, and waits until the server knows.
    ///
    /// Guards that are held are lost first, and requests that wait go on waiting for a tier that never comes back: close the
    /// manager before.
    ///
    /// For programs that exit: a manager that is dropped while an event arrives ends its tier on a thread of its own, and a
    /// process that is gone before keeps its locks until its lease ends. Blocks for at most about the connect timeout.
    /// Not to be called from within an event.
    ///
    /// ```no_run
    /// # use keylatch::{FastObjectLockManager, LockConfig};
    /// # use keylatch_etcd::{EtcdConfig, tier::EtcdTier};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let tier = EtcdTier::open(EtcdConfig::new(["http://10.0.0.1:2379"]))?;
    /// let locks = FastObjectLockManager::with_tier(LockConfig::default(), std::sync::Arc::new(tier.clone()))?;
    /// // ...
    /// drop(locks);
    /// tier.close();
    /// # Ok(()) }
    /// ```
    pub fn close(&self) {
        if self.core.space().is_forked() {
            return;
        }
        // Before others may have what is held. The manager hears of a term that begins meanwhile, too, and of its end.
        self.shared.lose();
        self.core.end();
        self.shared.detach();
    }

    fn ask_one(&self, ask: &Ask<'_>, effort: Effort) -> Answer {
        if let Err(error) = self.core.check() {
            return Answer::Failed(explained(&error));
        }
        match Permit::begin(&self.shared, ask, effort) {
            Some(permit) => {
                self.core.spawn(permit.run());
                Answer::Pending
            }
            None => Answer::Failed(TierError::term_over()),
        }
    }
}

impl Tier for EtcdTier {
    fn attach(&self, events: Arc<dyn TierEvents>) -> Result<Term, TierError> {
        self.core.check().map_err(|error| explained(&error))?;
        let term = self.shared.attach(events);
        self.core.spawn(shared::watch_terms(Arc::clone(&self.shared), term));
        Ok(term)
    }

    fn ask(&self, asks: &[Ask<'_>], effort: Effort, answers: &mut [Answer]) {
        for (ask, answer) in asks.iter().zip(answers) {
            *answer = self.ask_one(ask, effort);
        }
    }

    fn withdraw(&self, id: PermitId) {
        if !self.shared.command(id, Command::Withdraw) {
            let shared = Arc::clone(&self.shared);
            // Not inside the call, so that the manager is not entered twice.
            self.core.spawn(async move { shared.event(|events| events.withdrawn(id)) });
        }
    }

    fn give_back(&self, id: PermitId) {
        self.shared.command(id, Command::GiveBack);
    }

    fn downgrade(&self, id: PermitId) {
        self.shared.command(id, Command::Downgrade);
    }

    fn upgrade(&self, id: PermitId, term: Term, effort: Effort) -> Answer {
        let is_sent = self.shared.session(term).is_some() && self.shared.command(id, Command::Upgrade(effort));
        if is_sent { Answer::Pending } else { Answer::Failed(TierError::term_over()) }
    }

    fn is_current(&self) -> bool {
        self.shared.is_current()
    }

    fn revoke(&self, key: KeyRef<'_>) -> Result<u32, TierError> {
        let (space, key) = (self.core.space(), key.to_owned());
        let work = async move { listing::revoke(&space, key.as_ref(), Whose::Others).await };
        self.core.wait_for(work).map_err(|error| explained(&error))
    }

    fn list(&self, key: Option<KeyRef<'_>>, each: &mut dyn FnMut(RemoteHold)) -> Result<(), TierError> {
        let (space, key) = (self.core.space(), key.map(|key| key.to_owned()));
        let work = async move { listing::list(&space, key.as_ref().map(|key| key.as_ref())).await };
        for entry in self.core.wait_for(work).map_err(|error| explained(&error))? {
            each(RemoteHold {
                key: entry.key,
                mode: entry.mode,
                waits: entry.waits,
                process: entry.process.into(),
                owner: entry.owner.into(),
                since: None,
                own: entry.own,
            });
        }
        Ok(())
    }

    fn max_batch(&self) -> usize {
        1
    }

    fn detach(&self) {
        self.shared.detach();
        self.core.end();
    }
}

impl fmt::Debug for EtcdTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdTier").field("core", &self.core).finish_non_exhaustive()
    }
}
