//! One ask and the permit that it becomes, from the first request to the last.

use super::command::{Command, Commands, Fate, Lent};
use super::explain::{conflict, explained, no_more_fences};
use super::shared::Shared;

use crate::acquire::{Attempt, NotReplaced, NotUpgraded, Old, Upgraded};
use crate::client::{CallError, Signal};
use crate::entry::Wish;
use crate::error::EtcdError;
use crate::hold::{Hold, Refusals};
use crate::session::Session;
use crate::wire::{BY_CREATION, DESCENDING, RangeRequest, RequestOp, TxnRequest};
use keylatch::tier::{Answer, Ask, Effort, Fences, PermitId};
use keylatch::{Mode, ObjectKey};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

/// As many entries as a process may have in a queue of which it has a permit.
///
/// The shared one, two marks, and what is being removed of another try.
const OWN_ENTRIES: i64 = 5;

/// The task of a permit. The one after it on the same key waits until it is over.
pub(super) struct Permit {
    shared: Arc<Shared>,
    session: Arc<Session>,
    id: PermitId,
    key: ObjectKey,
    mode: Mode,
    wish: Wish,
    effort: Effort,
    /// Whether the ask gave another permit back, so that it cannot fail any more.
    has_replaced: bool,
    /// The permit that a try would replace.
    lent: Option<oneshot::Receiver<Lent>>,
    commands: Commands,
    /// The writer that upgrades of this permit passed last, and how often.
    passed: Option<(i64, u32)>,
    before: Option<watch::Receiver<()>>,
    /// Dropped at the end of the task.
    _over: watch::Sender<()>,
}

/// What an upgrade makes of a shared permit.
enum Rise {
    /// An exclusive entry took the place of the shared one.
    InPlace(Hold),
    /// The marks beside the shared entry make it exclusive.
    Marked([Hold; 2]),
    Shared,
    Lost,
    GivenBack,
}

/// What a downgrade makes of an exclusive permit.
enum Fall {
    Shared(Hold),
    Lost,
    GivenBack,
}

/// What the manager hears last of a number.
enum Last {
    Withdrawn,
    Answered(Answer),
    Lost,
}

impl Permit {
    /// Enters an ask; nothing if its term is over.
    pub(super) fn begin(shared: &Arc<Shared>, ask: &Ask<'_>, effort: Effort) -> Option<Self> {
        let session = shared.session(ask.term)?;
        let mut lent = None;
        match (ask.replaces, effort) {
            (Some(replaced), Effort::Queue) => {
                shared.command(replaced, Command::GiveBack);
            }
            (Some(replaced), Effort::AllOrNone) => {
                let (sender, receiver) = oneshot::channel();
                shared.command(replaced, Command::Lend(sender));
                lent = Some(receiver);
            }
            (None, _) => {}
        }
        let key = ask.key.to_owned();
        let (sender, over) = watch::channel(());
        let (commands, before) = shared.enter(ask.id, &key, over);
        // A permit that may stay is not one to wait for.
        let before = before.filter(|_| lent.is_none());
        Some(Self {
            shared: Arc::clone(shared),
            session,
            id: ask.id,
            wish: Wish::new(vec![(key.clone(), ask.mode)], ask.owner),
            key,
            mode: ask.mode,
            effort,
            has_replaced: ask.replaces.is_some() && effort == Effort::Queue,
            lent,
            commands: Commands::new(commands),
            passed: None,
            before,
            _over: sender,
        })
    }

    /// Runs until the permit is over.
    pub(super) async fn run(mut self) {
        let session = Arc::clone(&self.session);
        let last = tokio::select! {
            biased;
            // The end of the term says it all.
            () = session.ended() => None,
            last = self.live() => last,
        };
        // First, so that a call which the event causes finds the number unknown.
        self.shared.leave(self.id, &self.key);
        let id = self.id;
        match last {
            Some(Last::Withdrawn) => self.shared.event(|events| events.withdrawn(id)),
            Some(Last::Answered(answer)) => self.shared.event(|events| events.answered(id, answer)),
            Some(Last::Lost) => self.shared.event(|events| events.lost(id)),
            None => {}
        }
    }

    /// Returns what is left to say when the permit is over.
    async fn live(&mut self) -> Option<Last> {
        if let Some(mut before) = self.before.take() {
            // The sender never sends; it ends with its task.
            let _ = before.changed().await;
        }
        let id = self.id;
        let mut lent = match self.lent.take() {
            Some(lent) => lent.await.ok(),
            None => None,
        };
        let hold = loop {
            let attempt = Attempt::new(&self.shared.space, Arc::clone(&self.session), &self.wish);
            let outcome = match &lent {
                // Cancelled in the middle, it would not be known whether the lent permit is there.
                Some(lent) => attempt.replace(&self.wish, &lent.entry, withdrawal(&mut self.commands)).await,
                None => {
                    let wait = async {
                        match self.effort {
                            Effort::Queue => attempt.wait().await,
                            Effort::AllOrNone => attempt.take(&self.wish).await,
                        }
                    };
                    tokio::select! {
                        biased;
                        outcome = wait => outcome.map(|decided| decided.map_err(NotReplaced::kept)),
                        () = withdrawal(&mut self.commands) => return Some(Last::Withdrawn),
                    }
                }
            };
            // Without an outcome it goes on with another number, and the permit is lent still.
            if let Some(decided) = &outcome
                && let Some(lent) = lent.take()
            {
                let fate = match decided {
                    Ok(_) => Fate::Replaced,
                    Err(NotReplaced { old: Old::Kept, .. }) => Fate::Kept,
                    Err(NotReplaced { old: Old::Lost | Old::GivenUp, .. }) => Fate::Lost,
                };
                let _ = lent.fate.send(fate);
            }
            if let Some(Err(NotReplaced { old: Old::GivenUp, .. })) = outcome {
                return Some(Last::Withdrawn);
            }
            match outcome.map(|decided| decided.map_err(|refused| refused.error)) {
                Some(Ok(hold)) => break hold,
                Some(Err(EtcdError::WouldBlock { .. })) => {
                    return Some(Last::Answered(Answer::Busy));
                }
                // What was given back cannot be had again by failing; the manager's timeouts are its own.
                Some(Err(_)) if self.has_replaced => {
                    tokio::select! {
                        () = tokio::time::sleep(Duration::from_millis(500)) => {}
                        () = withdrawal(&mut self.commands) => {
                            return Some(Last::Withdrawn);
                        }
                    }
                }
                Some(Err(error)) => {
                    return Some(Last::Answered(Answer::Failed(explained(&error))));
                }
                // The entry was deleted by hand, or the lease is over: then `run` ends this.
                None => tokio::task::yield_now().await,
            }
        };
        let fences = Fences { first: hold.fence(), count: crate::fence::COUNT };
        self.shared.event(|events| events.answered(id, Answer::Granted { fences, previous_died: false }));
        self.held(hold).await
    }

    /// Keeps a permit, and recalls it when another process waits.
    async fn held(&mut self, mut hold: Hold) -> Option<Last> {
        let queue = self.shared.space.layout.queue(self.key.as_ref()).into_bytes();
        let mut seen = hold.revision();
        // With the marks of an upgrade the shared entry is an exclusive hold.
        let mut marks: Option<[Hold; 2]> = None;
        loop {
            let mut watch = self.shared.space.watches.range(queue.clone());
            // When a queue that could not be read is read again.
            let mut again: Option<Instant> = None;
            let is_changed = loop {
                let signal = tokio::select! {
                    biased;
                    command = self.commands.next() => match command {
                        Some(Command::GiveBack) | None => {
                            give_back(marks.into_iter().flatten().rev().chain([hold])).await;
                            return None;
                        }
                        Some(Command::Downgrade) => break true,
                        Some(Command::Upgrade(effort)) => {
                            // Meanwhile it would only gather what is read anew afterwards.
                            drop(watch);
                            match self.upgrade(&hold, effort).await {
                                Rise::InPlace(upgraded) => {
                                    std::mem::replace(&mut hold, upgraded).replaced();
                                    self.mode = Mode::Exclusive;
                                }
                                Rise::Marked(upgraded) => {
                                    marks = Some(upgraded);
                                    self.mode = Mode::Exclusive;
                                }
                                Rise::Shared => {}
                                // Said before another answer, which would let local readers in.
                                Rise::Lost => return Some(Last::Lost),
                                Rise::GivenBack => {
                                    give_back([hold]).await;
                                    return None;
                                }
                            }
                            // Those that came meanwhile may be in the way of another mode.
                            break false;
                        }
                        Some(Command::Lend(sender)) => {
                            let (fate, decided) = oneshot::channel();
                            let _ = sender.send(Lent { entry: hold.entry(), fate });
                            match decided.await {
                                Ok(Fate::Replaced) => {
                                    hold.replaced();
                                    return None;
                                }
                                Ok(Fate::Lost) => return Some(Last::Lost),
                                Ok(Fate::Kept) | Err(_) => continue,
                            }
                        }
                        // The grant came first.
                        Some(Command::Withdraw) => continue,
                    },
                    () = hold.lost() => return Some(Last::Lost),
                    () = lost(marks.as_ref()) => return Some(Last::Lost),
                    () = tokio::time::sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => break false,
                    signal = watch.next() => signal,
                };
                match signal {
                    Signal::Put(key, _) => {
                        let name = self.shared.space.layout.parse(&key);
                        if let Some(name) = name.filter(|name| name.lease != self.session.lease) {
                            self.recall(name.mode);
                        }
                    }
                    Signal::Begun(revision) if revision <= seen => {}
                    Signal::Begun(_) => match self.recall_for_queue(&queue).await {
                        Some(read_at) => seen = read_at,
                        // Those that wait have to be heard of.
                        None => again = Some(Instant::now() + Duration::from_millis(500)),
                    },
                    Signal::Deleted(..) => {}
                    Signal::Broken => break false,
                }
            };
            if is_changed && self.mode == Mode::Exclusive && marks.is_some() {
                give_back(marks.take().into_iter().flatten().rev()).await;
                self.mode = Mode::Shared;
            } else if is_changed && self.mode == Mode::Exclusive {
                match self.downgrade(&mut hold).await {
                    Fall::Shared(downgraded) => {
                        hold = downgraded;
                        self.mode = Mode::Shared;
                    }
                    Fall::Lost => return Some(Last::Lost),
                    Fall::GivenBack => {
                        hold.release_in_doubt().await;
                        return None;
                    }
                }
            }
            seen = self.recall_for_queue(&queue).await.unwrap_or(0);
        }
    }

    /// Makes the permit exclusive, ahead of those that wait.
    ///
    /// Alone in the queue, an exclusive entry takes the shared one's place in one step.
    async fn upgrade(&mut self, hold: &Hold, effort: Effort) -> Rise {
        let wish = Wish { keys: vec![(self.key.clone(), Mode::Exclusive)], owner: self.wish.owner.clone() };
        let outcome = loop {
            let attempt = Attempt::new(&self.shared.space, Arc::clone(&self.session), &wish);
            match attempt.replace(&wish, &hold.entry(), self.commands.given_back()).await {
                Some(outcome) => break outcome,
                // The number was spent, or the lease is over: then `run` ends this.
                None => tokio::task::yield_now().await,
            }
        };
        let (rise, answer) = match outcome {
            Ok(upgraded) => {
                let fences = Fences { first: upgraded.fence(), count: crate::fence::COUNT };
                (Rise::InPlace(upgraded), Answer::Granted { fences, previous_died: false })
            }
            Err(NotReplaced { old: Old::Lost, .. }) => return Rise::Lost,
            Err(NotReplaced { old: Old::GivenUp, .. }) => return Rise::GivenBack,
            Err(NotReplaced { error: EtcdError::WouldBlock { .. }, .. }) => match effort {
                Effort::AllOrNone => (Rise::Shared, Answer::Busy),
                Effort::Queue => return self.upgrade_by_mark(hold, &wish).await,
            },
            Err(NotReplaced { error, .. }) => (Rise::Shared, Answer::Failed(explained(&error))),
        };
        let id = self.id;
        self.shared.event(|events| events.answered(id, answer));
        rise
    }

    /// Waits until no other process shares the key.
    async fn upgrade_by_mark(&mut self, hold: &Hold, wish: &Wish) -> Rise {
        let id = self.id;
        let outcome = loop {
            let attempt = Attempt::to_upgrade(&self.shared.space, Arc::clone(&self.session), wish);
            let shared = hold.entry();
            let outcome = tokio::select! {
                biased;
                () = hold.lost() => return Rise::Lost,
                outcome = attempt.upgrade(&shared) => outcome,
                command = given_up(&mut self.commands) => match command {
                    GivenUp::Withdrawn => {
                        self.shared.event(|events| events.withdrawn(id));
                        return Rise::Shared;
                    }
                    GivenUp::GivenBack => return Rise::GivenBack,
                },
            };
            match outcome {
                Some(outcome) => break outcome,
                // The mark was deleted by hand, or the lease is over: then `run` ends this.
                None => tokio::task::yield_now().await,
            }
        };
        let (rise, answer) = match outcome {
            Ok(upgraded) => match self.fences_of(&upgraded) {
                Some(fences) => (Rise::Marked(upgraded.marks), Answer::Granted { fences, previous_died: false }),
                None => (Rise::Shared, Answer::Failed(no_more_fences())),
            },
            Err(NotUpgraded::NotShared) => return Rise::Lost,
            Err(NotUpgraded::Conflict) => (Rise::Shared, Answer::UpgradeConflict),
            Err(NotUpgraded::Error(error)) => (Rise::Shared, Answer::Failed(explained(&error))),
        };
        self.shared.event(|events| events.answered(id, answer));
        rise
    }

    /// The fences of an upgrade: below those of a writer that it passed.
    fn fences_of(&mut self, upgraded: &Upgraded) -> Option<Fences> {
        let Some(writer) = upgraded.writer else {
            return Some(Fences { first: upgraded.marks[0].fence(), count: crate::fence::COUNT });
        };
        let nth = match self.passed {
            Some((passed, count)) if passed == writer => count,
            _ => 0,
        };
        self.passed = Some((writer, nth + 1));
        let first = crate::fence::first_before(upgraded.epoch, writer, nth)?;
        Some(Fences { first, count: crate::fence::UPGRADE_COUNT })
    }

    /// Shares an exclusive permit; others wait for that, so it is not left out.
    async fn downgrade(&mut self, hold: &mut Hold) -> Fall {
        let mut refusals = Refusals::default();
        loop {
            let error = match hold.downgrade().await.map_err(CallError::problem) {
                Ok(downgraded) => return downgraded.map_or(Fall::Lost, Fall::Shared),
                // The end of the session ends this, too.
                Err(None) => return Fall::Lost,
                Err(Some(error)) => error,
            };
            if refusals.note(&error).is_break() {
                self.session.end();
                return Fall::Lost;
            }
            tokio::select! {
                () = refusals.pause() => {}
                () = self.commands.given_back() => return Fall::GivenBack,
            }
        }
    }

    fn recall(&self, wanted: Mode) {
        let id = self.id;
        if conflict(self.mode, wanted) {
            self.shared.event(|events| events.recalled(id, wanted));
        }
    }

    /// Recalls for those that are in the queue; the revision at which it was read.
    async fn recall_for_queue(&self, queue: &[u8]) -> Option<i64> {
        let newest = |letters: &[u8]| {
            let prefix = [queue, letters].concat();
            RequestOp::range(RangeRequest {
                limit: OWN_ENTRIES + 1,
                sort_order: DESCENDING,
                sort_target: BY_CREATION,
                keys_only: true,
                ..RangeRequest::prefix(prefix)
            })
        };
        // However long the queue is, there is another among them if there is any.
        let request = TxnRequest { success: vec![newest(b""), newest(b"w")], ..TxnRequest::default() };
        let found = self.shared.space.client.txn(request).await.ok()?.body;
        let kvs = found.responses.iter().flat_map(|response| response.kvs());
        let names = kvs.filter_map(|kv| self.shared.space.layout.parse(&kv.key));
        let mut others = names.filter(|name| name.lease != self.session.lease).map(|name| name.mode).peekable();
        if others.peek().is_some() {
            let is_exclusive = others.any(|mode| mode == Mode::Exclusive);
            self.recall(if is_exclusive { Mode::Exclusive } else { Mode::Shared });
        }
        found.header.map(|header| header.revision)
    }
}

/// Gives holds back, one after the other, and waits for the server's answers.
async fn give_back(holds: impl IntoIterator<Item = Hold>) {
    for hold in holds {
        if let Some(released) = hold.release() {
            let _ = released.await;
        }
    }
}

/// Returns when one of two holds is lost; never without them.
async fn lost(holds: Option<&[Hold; 2]>) {
    match holds {
        Some([first, second]) => tokio::select! {
            () = first.lost() => {}
            () = second.lost() => {}
        },
        None => std::future::pending().await,
    }
}

/// How a manager gives an upgrade up.
enum GivenUp {
    Withdrawn,
    /// With the permit.
    GivenBack,
}

/// Returns when an upgrade is not wanted any more.
async fn given_up(commands: &mut Commands) -> GivenUp {
    loop {
        match commands.next().await {
            Some(Command::Downgrade | Command::Upgrade(_) | Command::Lend(_)) => {}
            Some(Command::Withdraw) => return GivenUp::Withdrawn,
            Some(Command::GiveBack) | None => return GivenUp::GivenBack,
        }
    }
}

/// Returns when the ask is withdrawn, or given back before it was granted.
async fn withdrawal(commands: &mut Commands) {
    loop {
        match commands.next().await {
            Some(Command::Downgrade | Command::Upgrade(_) | Command::Lend(_)) => {}
            Some(Command::Withdraw | Command::GiveBack) | None => return,
        }
    }
}
