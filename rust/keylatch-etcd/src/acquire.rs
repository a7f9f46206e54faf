//! From a wish to a hold: create, wait for what is older, confirm.
//!
//! Each acquisition has names of its own for its entries, so a request that is sent again, or arrives late, can only
//! concern this acquisition. Whatever way it ends, what it may have created is removed: [`Attempt`] does that when it is
//! dropped, which is how a wait is cancelled.

mod upgrade;

use crate::client::{Answer, CallError, Sent, Signal};
use crate::entry::{Created, Creation, Entries, KEYS_PER_TRANSACTION, Place, Replaced, Settled, Wish};
use crate::error::EtcdError;
use crate::hold::{Hold, Refusals, remove};
use crate::session::Session;
use crate::space::{Epoch, Space};
use crate::wire::{TxnRequest, TxnResponse};
use std::sync::Arc;

pub(crate) use upgrade::{NotUpgraded, Upgraded};

/// Waits until the locks are held. Dropping the future cancels it.
pub(crate) async fn acquire(space: Arc<Space>, wish: Wish) -> Result<Hold, EtcdError> {
    loop {
        let session = space.session().await?;
        let attempt = Attempt::new(&space, Arc::clone(&session), &wish);
        let outcome = tokio::select! {
            biased;
            // What this lease had is gone; the wait goes on under the next.
            () = session.ended() => None,
            outcome = attempt.wait() => outcome,
        };
        if let Some(outcome) = outcome {
            return outcome;
        }
    }
}

/// Acquires the locks if all are free; leaves nothing behind otherwise.
pub(crate) async fn acquire_now(space: Arc<Space>, wish: Wish) -> Result<Hold, EtcdError> {
    loop {
        let session = space.session().await?;
        let attempt = Attempt::new(&space, Arc::clone(&session), &wish);
        let outcome = tokio::select! {
            biased;
            () = session.ended() => None,
            outcome = attempt.take(&wish) => outcome,
        };
        if let Some(outcome) = outcome {
            return outcome;
        }
    }
}

/// Entries that may exist in etcd; dropping it removes them.
pub(crate) struct Attempt {
    space: Arc<Space>,
    entries: Entries,
    /// The second mark of an upgrade, once it may exist.
    second: Option<Entries>,
    creation: Creation,
    /// Whether a creation was sent more than once.
    is_repeated: bool,
    /// The epoch that the creation compared.
    epoch: Epoch,
    /// Whether a hold has taken the entries over.
    is_over: bool,
}

/// Why an entry did not take another's place, and whether that one is still there.
#[derive(Debug)]
pub(crate) struct NotReplaced {
    pub(crate) error: EtcdError,
    pub(crate) old: Old,
}

impl NotReplaced {
    pub(crate) fn kept(error: EtcdError) -> Self {
        Self { error, old: Old::Kept }
    }
}

/// What became of an entry whose place another did not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Old {
    Kept,
    Lost,
    /// It is not known, and not wanted any more. The new entry is being removed.
    GivenUp,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.is_over {
            for entries in self.second.take().into_iter().chain([self.entries.clone()]) {
                remove(&self.space, entries, self.creation);
            }
        }
    }
}

impl Attempt {
    pub(crate) fn new(space: &Arc<Space>, session: Arc<Session>, wish: &Wish) -> Self {
        Self::of(space, Entries::new(space, session, wish))
    }

    fn of(space: &Arc<Space>, entries: Entries) -> Self {
        let creation = Creation::UnderWay;
        Self {
            space: Arc::clone(space),
            entries,
            second: None,
            creation,
            epoch: space.epoch(),
            is_repeated: false,
            is_over: false,
        }
    }

    /// The hold; nothing if the entries were lost and a new attempt has to be made.
    pub(crate) async fn wait(mut self) -> Option<Result<Hold, EtcdError>> {
        let mut place = match self.create().await? {
            Ok(place) => place,
            Err(error) => return Some(Err(error)),
        };
        while let Some(predecessor) = place.predecessors.first().cloned() {
            let mut watch = self.space.watches.deletion(predecessor.clone());
            loop {
                let is_over = match watch.next().await {
                    Signal::Put(..) => continue,
                    // Nothing has happened between the read and the watch.
                    Signal::Begun(revision) if revision <= place.read_at => continue,
                    // The predecessor may have gone before the watch began.
                    Signal::Begun(_) => false,
                    Signal::Deleted(..) | Signal::Broken => true,
                };
                // Is our own entry there, and what is older?
                place = match self.look(place.revision).await? {
                    Ok(place) => place,
                    Err(error) => return Some(Err(error)),
                };
                if is_over || place.predecessors.first() != Some(&predecessor) {
                    break;
                }
            }
        }
        self.hold(place.revision)
    }

    /// The hold; an error if another is in the way.
    pub(crate) async fn take(mut self, wish: &Wish) -> Option<Result<Hold, EtcdError>> {
        if wish.keys.len() > KEYS_PER_TRANSACTION {
            return self.take_by_queue(wish).await;
        }
        match self.create_alone(wish, None).await? {
            Ok(revision) => self.hold(revision),
            Err(error) => Some(Err(error)),
        }
    }

    /// The same for more keys than a transaction can compare.
    ///
    /// It joins the queues, and leaves them unless it is first.
    async fn take_by_queue(mut self, wish: &Wish) -> Option<Result<Hold, EtcdError>> {
        self.space.removals.ended(&self.entries.queues()).await;
        match self.create().await? {
            Ok(place) if place.predecessors.is_empty() => self.hold(place.revision),
            Ok(_) => {
                self.is_over = true;
                if let Some(removal) = remove(&self.space, self.entries.clone(), self.creation) {
                    let _ = removal.await;
                }
                Some(Err(EtcdError::WouldBlock { key: wish.key() }))
            }
            Err(error) => Some(Err(error)),
        }
    }

    /// The hold that takes the place of an entry of this process.
    ///
    /// It does so in one step; an error if another is in the way.
    ///
    /// A copy of the creation that has no answer may have removed the old entry, or may yet do so. Its holders would count
    /// on an entry that is gone. So no error is returned before that is known for good, and until then the new entry keeps
    /// others out. A server with a full database may say so for long: what ends then is given up by `given_up`.
    pub(crate) async fn replace(
        mut self,
        wish: &Wish,
        replaced: &Replaced,
        given_up: impl Future<Output = ()>,
    ) -> Option<Result<Hold, NotReplaced>> {
        let error = match self.create_alone(wish, Some(replaced)).await? {
            Ok(revision) => {
                // A late copy of the exchange would not find an entry of that age.
                if let (false, Some(slot)) = (self.is_repeated, replaced.slot) {
                    self.entries.session.slots.put_back(slot);
                }
                return Some(self.hold(revision)?.map_err(|error| NotReplaced { error, old: Old::Lost }));
            }
            // Nothing was created or will be.
            Err(error) if self.is_over => return Some(Err(NotReplaced::kept(error))),
            Err(error) => error,
        };
        let settled = match self.settle(replaced, given_up).await? {
            Some(settled) => settled,
            None => return Some(Err(NotReplaced { error, old: Old::GivenUp })),
        };
        let old = match settled {
            Settled::New(revision) => {
                return Some(self.hold(revision)?.map_err(|error| NotReplaced { error, old: Old::Lost }));
            }
            Settled::Old => Old::Kept,
            Settled::Neither => Old::Lost,
        };
        // There is nothing to remove, and nothing will come.
        self.is_over = true;
        Some(Err(NotReplaced { error, old }))
    }

    /// Creates the entries if none stands before any; their revision.
    async fn create_alone(&mut self, wish: &Wish, replaced: Option<&Replaced>) -> Option<Result<i64, EtcdError>> {
        // What this process has given back is not in its own way.
        self.space.removals.ended(&self.entries.queues()).await;
        loop {
            self.epoch = self.space.epoch();
            let request = self.entries.creation_alone(&self.space, &self.epoch, replaced);
            match self.ask_to_create(|_| request.clone()).await? {
                Ok(Created::At(place)) => return Some(Ok(place.revision)),
                Ok(Created::Before(revision)) => return Some(Ok(revision)),
                Ok(Created::Busy) => {
                    if self.creation == Creation::Done {
                        self.nothing_created();
                    }
                    return Some(Err(EtcdError::WouldBlock { key: wish.key() }));
                }
                Ok(other) => {
                    if let Err(error) = self.after(&other).await? {
                        return Some(Err(error));
                    }
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Reads what the copies of the creation have done.
    ///
    /// None is carried out afterwards. While the server refuses that, it can be given up; then it is not known.
    async fn settle(&mut self, replaced: &Replaced, given_up: impl Future<Output = ()>) -> Option<Option<Settled>> {
        let mut refusals = Refusals::default();
        tokio::pin!(given_up);
        loop {
            let refused = match self.space.client.txn(self.entries.settlement(replaced, self.creation)).await {
                Ok(answer) => {
                    let Some(settled) = Entries::settled(&answer.body, replaced) else { return self.lease_over() };
                    self.creation = Creation::Done;
                    return Some(Some(settled));
                }
                Err(error) => error.problem(),
            };
            // What is not known is given up with the lease.
            if refused.is_none_or(|error| refusals.note(&error).is_break()) {
                return self.lease_over();
            }
            tokio::select! {
                () = refusals.pause() => {}
                () = &mut given_up => return Some(None),
            }
        }
    }

    async fn create(&mut self) -> Option<Result<Place, EtcdError>> {
        loop {
            self.epoch = self.space.epoch();
            let (entries, space, epoch) = (self.entries.clone(), Arc::clone(&self.space), self.epoch.clone());
            match self.ask_to_create(|sent| entries.creation(&space, &epoch, sent)).await? {
                Ok(Created::At(place)) => return Some(Ok(place)),
                // An answer was lost. The entries know their revision; what is older is read by it.
                Ok(Created::Before(revision)) => return self.look(revision).await,
                Ok(other) => {
                    if let Err(error) = self.after(&other).await? {
                        return Some(Err(error));
                    }
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Sends a creation.
    async fn ask_to_create(&mut self, request: impl Fn(Sent) -> TxnRequest) -> Option<Result<Created, EtcdError>> {
        // Until it is answered, it may be carried out after the removal. That goes for each that is sent.
        self.creation = Creation::UnderWay;
        match self.space.client.txn_of(request).await {
            Ok(answer) => {
                self.is_repeated |= answer.is_repeated;
                if !self.is_repeated {
                    self.creation = Creation::Done;
                }
                let mut body = answer.body;
                if !body.succeeded && body.responses.is_empty() {
                    body = match self.ask(self.entries.explanation(&self.space)).await? {
                        Ok(explained) => TxnResponse { succeeded: false, ..explained.body },
                        Err(error) => return Some(Err(error)),
                    };
                }
                Some(Ok(self.entries.created(&body, &self.epoch)))
            }
            Err(CallError::NoLease) => self.lease_over(),
            Err(CallError::Refused(error)) => {
                if !self.is_repeated {
                    self.nothing_created();
                }
                Some(Err(error))
            }
            Err(CallError::Full) => {
                // The entries may be there. No copy comes late, so a deletion is all that they need.
                if !self.is_repeated {
                    self.creation = Creation::Done;
                }
                Some(Err(EtcdError::NoSpace))
            }
            Err(CallError::Failed(error)) => Some(Err(error)),
        }
    }

    /// There is nothing to remove, and nothing will come.
    fn nothing_created(&mut self) {
        self.is_over = true;
        self.entries.put_slot_back();
    }

    /// Prepares for another creation after one that did not happen.
    ///
    /// Nothing if it takes a new attempt.
    async fn after(&self, created: &Created) -> Option<Result<(), EtcdError>> {
        match created {
            Created::OtherEpoch => Some(self.space.read_epoch().await),
            Created::NoFloor => self.lease_over(),
            _ => None,
        }
    }

    fn lease_over<T>(&self) -> Option<T> {
        self.entries.session.end();
        None
    }

    /// The place of the entries.
    ///
    /// Nothing if one of them is gone, or the epoch has changed.
    async fn look(&self, revision: i64) -> Option<Result<Place, EtcdError>> {
        match self.ask(self.entries.look(&self.space, &self.epoch, revision)).await? {
            Ok(answer) if !answer.body.succeeded => self.space.read_epoch().await.err().map(Err),
            Ok(answer) => Entries::looked(&answer.body, revision).map(Ok),
            Err(error) => Some(Err(error)),
        }
    }

    /// Sends a transaction; nothing if the lease does not exist any more.
    async fn ask(&self, request: TxnRequest) -> Option<Result<Answer<TxnResponse>, EtcdError>> {
        match self.space.client.txn(request).await {
            Ok(answer) => Some(Ok(answer)),
            Err(CallError::NoLease) => self.lease_over(),
            Err(CallError::Full) => Some(Err(EtcdError::NoSpace)),
            Err(CallError::Refused(error) | CallError::Failed(error)) => Some(Err(error)),
        }
    }

    /// Turns the entries into a hold, unless the lease is over by our own clock.
    fn hold(mut self, revision: i64) -> Option<Result<Hold, EtcdError>> {
        if !self.entries.session.is_valid() {
            return None;
        }
        let Some(fence) = crate::fence::first(self.epoch.number, revision) else {
            let problem =
                format!("revision {revision} is beyond what fences can hold; raise the epoch in a new cluster");
            return Some(Err(EtcdError::Server { problem }));
        };
        self.is_over = true;
        Some(Ok(Hold::new(Arc::clone(&self.space), self.entries.clone(), self.creation, (fence, revision))))
    }
}
