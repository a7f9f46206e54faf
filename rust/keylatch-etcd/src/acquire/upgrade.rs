//! From shared to exclusive, ahead of all that wait: mark, wait for the other readers, confirm.

use super::Attempt;
use crate::client::{CallError, Signal};
use crate::entry::{Created, Creation, Entries, Mark, Marked, Replaced, Wish};
use crate::error::EtcdError;
use crate::hold::Hold;
use crate::session::Session;
use crate::space::Space;
use crate::wire::TxnRequest;
use std::sync::Arc;

/// The marks of an upgrade that is done.
///
/// With the shared hold, which stays, they are an exclusive one.
#[derive(Debug)]
pub(crate) struct Upgraded {
    pub(crate) marks: [Hold; 2],
    /// Where the oldest writer stands that waited before the mark.
    ///
    /// It has its place, and so its fence, already.
    pub(crate) writer: Option<i64>,
    pub(crate) epoch: u64,
}

/// Why an upgrade that may wait is not done.
#[derive(Debug)]
pub(crate) enum NotUpgraded {
    /// The shared entry is gone.
    NotShared,
    /// Another process upgrades the key.
    Conflict,
    Error(EtcdError),
}

impl Attempt {
    pub(crate) fn to_upgrade(space: &Arc<Space>, session: Arc<Session>, wish: &Wish) -> Self {
        Self::of(space, Entries::mark(space, session, wish))
    }

    /// Waits until no other process shares the key. Dropping the future cancels it.
    ///
    /// Nothing if the mark was lost and a new attempt has to be made.
    pub(crate) async fn upgrade(mut self, shared: &Replaced) -> Option<Result<Upgraded, NotUpgraded>> {
        let mut mark = match self.put_mark(shared).await? {
            Ok(mark) => mark,
            Err(refused) => return Some(Err(refused)),
        };
        loop {
            mark = match self.wait_for_readers(mark, shared).await? {
                Ok(mark) => mark,
                Err(refused) => return Some(Err(refused)),
            };
            let (revision, done, is_repeated) = match self.put_done(mark.revision, shared).await? {
                Ok(done) => done,
                Err(refused) => return Some(Err(refused)),
            };
            if done.reader.is_none() {
                return self.upgraded(&done, revision, is_repeated);
            }
            // A writer has left, and a reader behind it comes first. It may wait for the second mark.
            if is_repeated {
                // A late copy would put it again. Another number has none.
                return None;
            }
            match self.ask(self.entries.done_removal(revision)).await? {
                Ok(_) => mark = done,
                Err(error) => return Some(Err(NotUpgraded::Error(error))),
            }
        }
    }

    /// The holds of both marks.
    fn upgraded(mut self, mark: &Mark, revision: i64, is_repeated: bool) -> Option<Result<Upgraded, NotUpgraded>> {
        let (writer, epoch) = (mark.writer, self.epoch.number);
        let creation = if is_repeated { Creation::UnderWay } else { self.creation };
        let mut second = Self::of(&self.space, self.entries.done_mark());
        (second.epoch, second.creation, self.creation) = (self.epoch.clone(), creation, creation);
        let first = match self.hold(mark.revision)? {
            Ok(first) => first,
            Err(error) => return Some(Err(NotUpgraded::Error(error))),
        };
        let second = second.hold(revision)?.map_err(NotUpgraded::Error);
        Some(second.map(|second| Upgraded { marks: [first, second], writer, epoch }))
    }

    /// Waits until a look shows no other process that shares the key.
    ///
    /// A mark that goes meanwhile would keep no other upgrade out, and each would wait for the other.
    async fn wait_for_readers(&self, mut mark: Mark, shared: &Replaced) -> Option<Result<Mark, NotUpgraded>> {
        while let Some(reader) = mark.reader.clone() {
            let mut watch = self.space.watches.deletion(reader.clone());
            let mut own = self.space.watches.deletion(self.entries.names().next()?.to_vec());
            loop {
                let signal = tokio::select! {
                    signal = watch.next() => signal,
                    signal = own.next() => signal,
                };
                let is_over = match signal {
                    Signal::Put(..) => continue,
                    // Nothing has happened between the read and the watch.
                    Signal::Begun(revision) if revision <= mark.read_at => continue,
                    Signal::Begun(_) => false,
                    Signal::Deleted(..) | Signal::Broken => true,
                };
                mark = match self.look_at_mark(mark.revision, shared).await? {
                    Ok(mark) => mark,
                    Err(refused) => return Some(Err(refused)),
                };
                if is_over || mark.reader.as_ref() != Some(&reader) {
                    break;
                }
            }
        }
        Some(Ok(mark))
    }

    /// Puts the second mark.
    ///
    /// Returns its revision, what there was then, and whether a copy may come late.
    async fn put_done(&mut self, revision: i64, shared: &Replaced) -> Option<Result<(i64, Mark, bool), NotUpgraded>> {
        self.second = Some(self.entries.done_mark());
        // Until it is answered, it may be carried out after the removal.
        let before = std::mem::replace(&mut self.creation, Creation::UnderWay);
        let request = self.entries.mark_done(&self.space, &self.epoch, revision, shared);
        let answer = match self.space.client.txn(request).await {
            Ok(answer) => answer,
            Err(CallError::NoLease) => return self.lease_over(),
            Err(refused @ (CallError::Refused(_) | CallError::Full)) => {
                self.creation = before;
                return Some(Err(NotUpgraded::Error(refused.into())));
            }
            Err(CallError::Failed(error)) => return Some(Err(NotUpgraded::Error(error))),
        };
        if !answer.is_repeated {
            self.creation = before;
        }
        match Entries::mark_looked(&answer.body, revision, shared) {
            Some(Marked::At(mark)) => Some(Ok((Entries::done_at(&answer.body), mark, answer.is_repeated))),
            Some(_) => Some(Err(NotUpgraded::NotShared)),
            None => self.space.read_epoch().await.err().map(|error| Err(NotUpgraded::Error(error))),
        }
    }

    async fn put_mark(&mut self, shared: &Replaced) -> Option<Result<Mark, NotUpgraded>> {
        // The mark of an upgrade before, which this process is removing, is not another's.
        self.space.removals.ended(&self.entries.queues()).await;
        loop {
            self.epoch = self.space.epoch();
            self.creation = Creation::UnderWay;
            let request = self.entries.mark_creation(&self.space, &self.epoch, shared);
            let answer = match self.space.client.txn(request).await {
                Ok(answer) => answer,
                Err(CallError::NoLease) => return self.lease_over(),
                Err(CallError::Refused(error)) => {
                    self.is_over = !self.is_repeated;
                    return Some(Err(NotUpgraded::Error(error)));
                }
                Err(CallError::Full) => {
                    // The mark may be there.
                    if !self.is_repeated {
                        self.creation = Creation::Done;
                    }
                    return Some(Err(NotUpgraded::Error(EtcdError::NoSpace)));
                }
                Err(CallError::Failed(error)) => return Some(Err(NotUpgraded::Error(error))),
            };
            self.is_repeated |= answer.is_repeated;
            if !self.is_repeated {
                self.creation = Creation::Done;
            }
            match self.entries.marked(&answer.body, &self.epoch, shared) {
                Marked::At(mark) => return Some(Ok(mark)),
                Marked::NotShared => return Some(Err(NotUpgraded::NotShared)),
                Marked::Conflict => return Some(Err(NotUpgraded::Conflict)),
                // An answer was lost. The mark knows its revision; who shares the key is read by it.
                Marked::Other(Created::Before(revision)) => return self.look_at_mark(revision, shared).await,
                Marked::Other(other) => {
                    if let Err(error) = self.after(&other).await? {
                        return Some(Err(NotUpgraded::Error(error)));
                    }
                }
            }
        }
    }

    async fn look_at_mark(&self, revision: i64, shared: &Replaced) -> Option<Result<Mark, NotUpgraded>> {
        let request: TxnRequest = self.entries.mark_look(&self.space, &self.epoch, revision, shared);
        let answer = match self.ask(request).await? {
            Ok(answer) => answer.body,
            Err(error) => return Some(Err(NotUpgraded::Error(error))),
        };
        match Entries::mark_looked(&answer, revision, shared) {
            Some(Marked::At(mark)) => Some(Ok(mark)),
            Some(_) => Some(Err(NotUpgraded::NotShared)),
            // It goes on with a new mark, and the epoch as it is then.
            None => self.space.read_epoch().await.err().map(|error| Err(NotUpgraded::Error(error))),
        }
    }
}
