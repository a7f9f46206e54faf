//! What is held, how its loss is noticed, and how it is given back.

use crate::client::{Answer, CallError, Client, Signal};
use crate::entry::{Creation, Entries, Removed, Replaced};
use crate::error::EtcdError;
use crate::space::Space;
use crate::wire::ResponseOp;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// A hold this old is watched.
///
/// Shorter ones end before anyone could say more than their lease does.
const WATCHED_AFTER: Duration = Duration::from_millis(100);

/// Entries that hold. Dropping it gives them back, without waiting.
#[derive(Debug)]
pub(crate) struct Hold {
    space: Arc<Space>,
    entries: Entries,
    creation: Creation,
    fence: u64,
    revision: i64,
    loss: Arc<Loss>,
    watching: JoinHandle<()>,
    is_released: bool,
}

/// Whether a hold was lost otherwise than with its lease.
#[derive(Debug, Default)]
struct Loss {
    is_lost: AtomicBool,
    notify: Notify,
}

impl Hold {
    pub(crate) fn new(space: Arc<Space>, entries: Entries, creation: Creation, (fence, revision): (u64, i64)) -> Self {
        let loss = Arc::new(Loss::default());
        let watching = {
            let (space, entries, loss) = (Arc::clone(&space), entries.clone(), Arc::clone(&loss));
            space.runtime.clone().spawn(async move {
                tokio::time::sleep(WATCHED_AFTER).await;
                watch(&space, &entries, revision).await;
                // Pairs with: the load in `is_valid`.
                loss.is_lost.store(true, Ordering::Release);
                loss.notify.notify_waiters();
            })
        };
        Self { space, entries, creation, fence, revision, loss, watching, is_released: false }
    }

    /// Whether it is held: by our own clock, and as far as the server has said.
    ///
    /// Never in a forked child: the hold is the parent's.
    pub(crate) fn is_valid(&self) -> bool {
        // Pairs with: the store of the watching task.
        !self.loss.is_lost.load(Ordering::Acquire) && self.entries.session.is_valid() && !self.space.is_forked()
    }

    pub(crate) fn fence(&self) -> u64 {
        self.fence
    }

    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    /// The entry of a hold of one key, for another of the process to take its place.
    pub(crate) fn entry(&self) -> Replaced {
        let name = self.entries.names().next().unwrap_or_default().to_vec();
        let slot = self.entries.slot().filter(|_| self.creation == Creation::Done);
        Replaced { name, revision: self.revision, slot }
    }

    /// Returns when it is lost.
    pub(crate) async fn lost(&self) {
        let notified = self.loss.notify.notified();
        tokio::pin!(notified);
        notified.as_mut().enable();
        if self.is_valid() {
            tokio::select! {
                () = notified => {}
                () = self.entries.session.ended() => {}
            }
        }
    }

    /// Shares an exclusive hold with those that wait to share it.
    ///
    /// Nothing if its entries are gone. The hold that is left is the new one: this one's entries exist no more.
    pub(crate) async fn downgrade(&mut self) -> Result<Option<Self>, CallError> {
        if self.creation == Creation::UnderWay {
            // The name is free after the step. A late copy of the creation would take it, for no one.
            self.space.client.txn(self.entries.floor_raise()).await?;
            self.creation = Creation::Done;
        }
        let answer = self.space.client.txn(self.entries.downgrade(self.revision)).await?;
        // A copy of the request finds no exclusive entries, and changes nothing.
        let downgraded = self.entries.downgraded(&answer.body);
        self.is_released = downgraded.is_some();
        Ok(downgraded.map(|(entries, revision)| {
            Self::new(Arc::clone(&self.space), entries, self.creation, (self.fence, revision))
        }))
    }

    /// Forgets a hold whose entry another has replaced.
    pub(crate) fn replaced(mut self) {
        // A late copy of its creation would put the entry again, for no one: a removal raises the floor.
        self.is_released = self.creation == Creation::Done;
        self.entries = self.entries.without_slot();
    }

    /// Gives back what a downgrade without a known outcome has left.
    ///
    /// Without the exclusive entries, a late copy of the downgrade puts nothing.
    pub(crate) async fn release_in_doubt(mut self) {
        self.entries = self.entries.without_slot();
        let (space, ahead) = (Arc::clone(&self.space), self.entries.ahead());
        if let Some(released) = self.release() {
            let _ = released.await;
        }
        if let Some(removed) = remove(&space, ahead, Creation::Done) {
            let _ = removed.await;
        }
    }

    /// Gives the entries back; the task ends when the server has answered.
    pub(crate) fn release(mut self) -> Option<JoinHandle<Removed>> {
        self.is_released = true;
        remove(&self.space, self.entries.clone(), self.creation)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // In a forked child the hold is the parent's, and so are the threads.
        if self.space.is_forked() {
            return;
        }
        self.watching.abort();
        if !self.is_released {
            remove(&self.space, self.entries.clone(), self.creation);
        }
    }
}

/// As often as a server may refuse what has to be done.
///
/// After that the lease is given up.
/// With the pauses between, that is some seconds.
const REFUSALS: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Counts how often a server refused a request that cannot be left out.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    count: u32,
    pauses: u32,
}

impl Refusals {
    /// Notes one; breaks after the last.
    ///
    /// A full database is one that an operator makes room in.
    pub(crate) fn note(&mut self, error: &EtcdError) -> ControlFlow<()> {
        self.count += u32::from(*error != EtcdError::NoSpace);
        if self.count < REFUSALS { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    /// Waits, each time longer.
    pub(crate) async fn pause(&mut self) {
        tokio::time::sleep((FIRST_PAUSE * (1 << self.pauses.min(5))).min(LONGEST_PAUSE)).await;
        self.pauses += 1;
    }
}

/// Removes entries; repeats until the server has answered or the lease is over.
///
/// Nothing in a forked child: the entries are the parent's.
pub(crate) fn remove(space: &Arc<Space>, entries: Entries, creation: Creation) -> Option<JoinHandle<Removed>> {
    if space.is_forked() {
        return None;
    }
    let client = Arc::clone(&space.client);
    let under_way = space.removals.begin(entries.queues());
    Some(space.runtime.spawn(async move {
        let _under_way = under_way;
        tokio::select! {
            removed = removal(&client, &entries, creation) => removed,
            // What is attached to the lease goes with it.
            () = entries.session.ended() => Removed::LeaseOver,
        }
    }))
}

async fn removal(client: &Client, entries: &Entries, creation: Creation) -> Removed {
    let mut refusals = Refusals::default();
    // Whether a copy that may have found the entries has no answer.
    let mut is_repeated = false;
    loop {
        let error = match sent(client, entries, creation).await {
            Ok(answer) => {
                let is_repeated = is_repeated || answer.is_repeated;
                if !is_repeated {
                    entries.put_slot_back();
                }
                return entries.removed(answer.body, is_repeated);
            }
            Err(CallError::NoLease) => return Removed::LeaseOver,
            Err(CallError::Refused(error)) => error,
            // The floor may be raised, and the entries gone.
            Err(CallError::Full) => {
                is_repeated = true;
                EtcdError::NoSpace
            }
            Err(CallError::Failed(error)) => {
                is_repeated = true;
                error
            }
        };
        // A full database does not take the floor, but each deletion. The floor has to wait.
        if error == EtcdError::NoSpace && creation == Creation::UnderWay {
            let _ = client.txn(entries.removal(Creation::Done)).await;
        }
        if refusals.note(&error).is_break() {
            // Entries that nothing else removes would keep others out for as long as the process lives.
            entries.session.end();
            return Removed::Refused(error);
        }
        refusals.pause().await;
    }
}

/// Sends a removal; how many entries it found.
async fn sent(client: &Client, entries: &Entries, creation: Creation) -> Result<Answer<i64>, CallError> {
    let mut names = entries.names();
    match (names.next(), names.next(), creation) {
        (Some(only), None, Creation::Done) => {
            let answer = client.delete(only.to_vec()).await?;
            Ok(answer.map(|found| found.deleted))
        }
        _ => {
            let answer = client.txn(entries.removal(creation)).await?;
            Ok(answer.map(|found| found.leaves().filter_map(ResponseOp::deleted).sum()))
        }
    }
}

/// Returns when one of the entries is gone that were created at this revision.
async fn watch(space: &Space, entries: &Entries, revision: i64) {
    let keys = entries.names().count();
    let mut read_at = revision;
    loop {
        let mut watch = space.watches.deletions(entries.names().map(<[u8]>::to_vec));
        let (mut begun, mut is_late) = (0, false);
        loop {
            let is_over = match watch.next().await {
                // A member that is behind tells of those that had the name before.
                Signal::Deleted(_, at) if at < revision => continue,
                Signal::Deleted(..) => return,
                Signal::Put(..) => continue,
                Signal::Begun(at) => {
                    begun += 1;
                    is_late |= at > read_at;
                    // Nothing has happened between the read and the watches.
                    if begun < keys || !is_late {
                        continue;
                    }
                    false
                }
                Signal::Broken => true,
            };
            match space.client.txn(entries.presence(revision)).await {
                Ok(answer) if !answer.body.all_succeeded() => return,
                Ok(answer) => read_at = answer.body.header.map_or(read_at, |header| header.revision),
                // The next watch, or the end of the lease, settles it.
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    break;
                }
            }
            if is_over {
                break;
            }
        }
    }
}
