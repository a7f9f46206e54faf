//! What an entry knows of its permit, and which call to the tier is due.
//!
//! | state | the process may | legal next |
//! |---|---|---|
//! | None | nothing | Asking, when the queue has a first |
//! | Asking | nothing | Have; Withdrawing when the queue is empty; None when it is refused |
//! | Withdrawing | nothing | None; Have if the grant came first |
//! | Have(S) | share | Upgrading; Asking(X) in its place; GivingBack |
//! | Have(X) | both | Have(S) by downgrade; Lowering, if a death is to be reported first; Asking in its place; GivingBack |
//! | Lowering | share, for those who do | Have(S) by downgrade, when the tier has taken the death in |
//! | Upgrading | share, for those who do | Have(X); Have(S) if it is refused; Relenting when its waiter has gone |
//! | Relenting | share, for those who do | Have(S); Have(X) if the grant came first |
//! | GivingBack | nothing | None, when the call has returned |
//! | Lost | nothing | None, when the lock is free and, if the term is over, another has begun or the queue is empty |
//!
//! Any state becomes Lost when the term is over. While a call is out no other is made for the entry: its thread looks
//! again when it has returned. Events change the state meanwhile.
//!
//! A permit *ends soon* when another process wants it, when its fences are used up, or when the manager is closed. Then it
//! serves a bounded number of waiters, and goes back as soon as the lock is free.

use super::ask::{Answer, Effort, Fences, PermitId, Term};
use super::error::{TierError, TierErrorKind};
use crate::mode::Mode;

/// Waiters that a permit may serve after it was recalled.
const HAND_OFFS: u32 = if cfg!(loom) { 1 } else { 64 };
/// Nanoseconds for which it may serve them, but for the first.
const HAND_OFFS_FOR: u64 = 10_000_000;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    None,
    Asking(Mode),
    Withdrawing(Mode),
    Have(Mode),
    Lowering,
    Upgrading,
    Relenting,
    GivingBack,
    Lost {
        /// For another term.
        waits: bool,
    },
}

/// A permit of an entry, or the wish for one.
///
/// Guarded by the mutex of the entry's shard.
#[derive(Debug)]
pub(crate) struct Permit {
    id: PermitId,
    state: State,
    /// Of the ask or upgrade that is out.
    effort: Effort,
    term: Term,
    /// The number of renewals when it was asked for.
    renewals: u64,
    /// A call is out.
    calling: bool,
    /// How another process wants it, and since when that is known.
    recalled: Option<(Mode, u64)>,
    /// Waiters that it may still serve after it was recalled.
    left: u32,
    /// Waiters and others that it has served.
    served: u32,
    /// The last of its fences is taken.
    used_up: bool,
    /// The next holder is to be informed that a process died.
    ///
    /// If the permit ends or is downgraded before that, the tier informs another process.
    died: bool,
}

/// A call to the tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Call {
    Ask {
        id: PermitId,
        mode: Mode,
        term: Term,
        replaces: Option<Ended>,
        effort: Effort,
    },
    Withdraw(PermitId),
    GiveBack(Ended),
    /// A permit is lost or about to be shared, and no holder was informed of a death.
    Unreported(PermitId),
    Downgrade(PermitId),
    Upgrade {
        id: PermitId,
        term: Term,
        effort: Effort,
    },
}

/// A permit that ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) id: PermitId,
    /// A process had died before it, of which no holder was informed.
    pub(crate) unreported: bool,
}

/// The lock and its queue, as they are after the waiters that can be served were.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View {
    /// No thread holds it.
    pub(crate) free: bool,
    /// A thread holds it exclusively.
    pub(crate) written: bool,
    /// The first waiter.
    pub(crate) first: Option<First>,
    /// The manager is closed.
    pub(crate) closed: bool,
    pub(crate) present: Present,
}

/// What is known of the tier.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Present {
    /// The present term, if it is not over.
    pub(crate) term: Option<Term>,
    /// How often a term has begun, or the tier could be reached again.
    pub(crate) renewals: u64,
}

/// The first waiter of a queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct First {
    pub(crate) mode: Mode,
    /// It does not wait for other processes.
    pub(crate) tries: bool,
    /// It shares the lock, and is to hold it exclusively.
    pub(crate) upgrades: bool,
    /// No other shares it.
    pub(crate) alone: bool,
}

impl First {
    fn effort(self) -> Effort {
        if self.tries { Effort::AllOrNone } else { Effort::Queue }
    }
}

/// What the shard's owner may grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Allowed {
    pub(crate) shared: bool,
    pub(crate) exclusive: bool,
    /// A sole reader may become the writer.
    pub(crate) upgrade: bool,
    /// How many waiters.
    pub(crate) left: u32,
    /// Waiters get the lock handed over, rather than come for it.
    pub(crate) by_hand: bool,
}

impl Allowed {
    /// Without a tier.
    pub(crate) const ALL: Self = Self { shared: true, exclusive: true, upgrade: true, left: u32::MAX, by_hand: false };
    pub(crate) const NOTHING: Self = Self { shared: false, exclusive: false, upgrade: false, left: 0, by_hand: false };

    pub(crate) fn admits(self, mode: Mode) -> bool {
        match mode {
            Mode::Shared => self.shared,
            Mode::Exclusive => self.exclusive,
        }
    }
}

/// Whom an answer concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub(crate) enum Outcome {
    /// It was out of date, or the queue goes on waiting.
    Nothing,
    /// The permit is there, with these fences.
    ///
    /// `anew` if it was asked for, not upgraded.
    Granted { fences: Fences, anew: bool },
    /// Requests that do not wait are refused.
    Busy,
    /// The first waiter, which upgrades, is refused.
    Conflict,
    /// Requests that do not wait fail.
    FailsTries(TierError),
    /// The first waiter, which upgrades, fails.
    FailsUpgrade(TierError),
    /// All waiters fail.
    FailsAll(TierError),
}

impl Permit {
    /// Returns the wish for a permit, which is not asked for yet.
    pub(crate) fn wish(id: PermitId) -> Self {
        Self {
            id,
            state: State::None,
            effort: Effort::Queue,
            term: Term(0),
            renewals: 0,
            calling: false,
            recalled: None,
            left: 0,
            served: 0,
            used_up: false,
            died: false,
        }
    }

    pub(crate) fn id(&self) -> PermitId {
        self.id
    }

    /// Returns whether it is of no use to the entry any more.
    pub(crate) fn is_over(&self) -> bool {
        self.state == State::None && !self.calling
    }

    /// Returns whether holds of this mode are the process's own.
    pub(crate) fn covers(&self, mode: Mode) -> bool {
        match self.state {
            State::Have(has) => has >= mode,
            State::Lowering | State::Upgrading | State::Relenting => mode == Mode::Shared,
            _ => false,
        }
    }

    /// Returns whether holds that are there have lost their permit.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self.state, State::Lost { .. })
    }

    /// Returns whether a request that does not wait may ask the tier.
    pub(crate) fn can_try(&self) -> bool {
        let idle = matches!(self.state, State::None | State::Have(_));
        idle && !self.calling && self.recalled.is_none()
    }

    /// Returns whether it is asked for in a way that does not wait.
    pub(crate) fn tries(&self) -> bool {
        matches!(self.state, State::Asking(_) | State::Upgrading) && self.effort == Effort::AllOrNone
    }

    /// Returns whether an idle permit is kept, for one that there is no room for.
    pub(crate) fn is_kept(&self) -> bool {
        matches!(self.state, State::Have(_)) && self.recalled.is_none()
    }

    /// Returns what the shard's owner may grant to those in line.
    pub(crate) fn allowed(&self, now: u64) -> Allowed {
        let State::Have(mode) = self.state else { return Allowed::NOTHING };
        let left = match self.recalled {
            _ if self.used_up => 0,
            None => u32::MAX,
            // At least one for each permit, or two processes could pass it to and fro and never use it.
            Some(_) if self.served == 0 => self.left.max(1),
            Some((_, since)) if now.saturating_sub(since) > HAND_OFFS_FOR => 0,
            Some(_) => self.left,
        };
        let exclusive = mode == Mode::Exclusive;
        // Who shares the lock and upgrades keeps the permit from going back, so that it is not counted.
        let upgrade = exclusive && !self.used_up;
        Allowed { shared: true, exclusive, upgrade, left, by_hand: self.recalled.is_some() }
    }

    /// Returns what a newcomer may take past an empty queue.
    pub(crate) fn allowed_to_newcomers(&self) -> Allowed {
        if self.recalled.is_some() { Allowed::NOTHING } else { self.allowed(0) }
    }

    /// Returns the strongest mode that the fast path may grant.
    ///
    /// None, wherever a call may be due that ends the permit or changes its mode. So the lock is looked at after it was
    /// barred.
    pub(crate) fn opens_to(&self, first: Option<First>, closed: bool) -> Option<Mode> {
        match self.state {
            // The first hold after a death comes to the shard, to be informed.
            State::Have(_) if self.ends_soon(closed) || self.died => None,
            State::Have(Mode::Exclusive) => Some(Mode::Exclusive),
            State::Have(Mode::Shared) if first.is_none_or(|first| first.mode == Mode::Shared) => Some(Mode::Shared),
            _ => None,
        }
    }

    fn ends_soon(&self, closed: bool) -> bool {
        self.recalled.is_some() || self.used_up || closed
    }

    /// Notes that it serves a hold, whose fence is the last if `used_up`.
    ///
    /// Returns whether to inform it of a death.
    #[must_use]
    pub(crate) fn serve(&mut self, used_up: bool) -> bool {
        self.served = self.served.saturating_add(1);
        if self.recalled.is_some() {
            self.left = self.left.saturating_sub(1);
        }
        self.used_up |= used_up;
        std::mem::take(&mut self.died)
    }

    /// Notes that the next hold is to be informed of a death.
    pub(crate) fn follows_death(&mut self) {
        self.died = true;
    }

    /// Notes whether no exclusive hold may come after the one that was last.
    pub(crate) fn note_fence(&mut self, is_last: bool) {
        self.used_up |= is_last && self.state == State::Have(Mode::Exclusive);
    }

    /// Returns the call that is due, and marks it as out.
    pub(crate) fn next_call(&mut self, view: &View, fresh: impl FnOnce() -> PermitId) -> Option<Call> {
        if self.calling {
            return None;
        }
        let call = self.due(view, fresh);
        self.calling = call.is_some();
        call
    }

    fn due(&mut self, view: &View, fresh: impl FnOnce() -> PermitId) -> Option<Call> {
        // Before it asks again: the answer may say it then.
        if self.is_lost() && std::mem::take(&mut self.died) {
            return Some(Call::Unreported(self.id));
        }
        // What is free and has no waiter need not wait for a term, and leaves the table.
        if let State::Lost { waits } = self.state
            && view.free
            && !(waits && view.first.is_some())
        {
            self.state = State::None;
        }
        match self.state {
            State::None => {
                let first = view.first.filter(|_| !view.closed)?;
                let call = self.ask(first, view.present, None, fresh);
                if call.is_none() {
                    self.state = State::Lost { waits: true };
                }
                call
            }
            State::Asking(mode) if view.first.is_none() => {
                self.state = State::Withdrawing(mode);
                Some(Call::Withdraw(self.id))
            }
            State::Upgrading if !view.first.is_some_and(|first| first.upgrades || first.tries) => {
                self.state = State::Relenting;
                Some(Call::Withdraw(self.id))
            }
            State::Lowering => Some(self.downgrade()),
            State::Have(mode) => self.due_of_permit(mode, view, fresh),
            _ => None,
        }
    }

    fn due_of_permit(&mut self, mode: Mode, view: &View, fresh: impl FnOnce() -> PermitId) -> Option<Call> {
        let (exclusive, ends_soon) = (mode == Mode::Exclusive, self.ends_soon(view.closed));
        let wanted_shared = exclusive && self.recalled.is_some_and(|(wanted, _)| wanted == Mode::Shared);
        match view.first {
            Some(first) if first.alone && !exclusive => Some(self.upgrade(first, view.present)),
            // For other fences: down, and up again ahead of the queue.
            Some(first) if first.alone && self.used_up => Some(self.downgrade()),
            // Where it cannot wait in line for another one, its shared permit may become exclusive.
            Some(first) if view.free && !exclusive && first.mode == Mode::Exclusive && first.tries => {
                Some(self.upgrade(first, view.present))
            }
            Some(first) if view.free && (ends_soon || (!exclusive && first.mode == Mode::Exclusive)) => {
                let ended = Ended { id: self.id, unreported: self.died };
                let again = if view.closed { None } else { self.ask(first, view.present, Some(ended), fresh) };
                again.or_else(|| Some(self.give_back()))
            }
            None if view.free && wanted_shared && !self.used_up && !view.closed => Some(self.downgrade()),
            None if view.free && ends_soon => Some(self.give_back()),
            _ if !view.free && !view.written && wanted_shared && !view.closed => Some(self.downgrade()),
            _ => None,
        }
    }

    /// Asks for the first waiter, unless the term is over.
    fn ask(
        &mut self,
        first: First,
        present: Present,
        replaces: Option<Ended>,
        fresh: impl FnOnce() -> PermitId,
    ) -> Option<Call> {
        let term = present.term?;
        let (id, effort) = (fresh(), if replaces.is_some() { Effort::Queue } else { first.effort() });
        let state = State::Asking(first.mode);
        *self = Self { state, effort, term, renewals: present.renewals, ..Self::wish(id) };
        Some(Call::Ask { id, mode: first.mode, term, replaces, effort })
    }

    fn upgrade(&mut self, first: First, present: Present) -> Call {
        (self.state, self.effort, self.renewals) = (State::Upgrading, first.effort(), present.renewals);
        Call::Upgrade { id: self.id, term: self.term, effort: self.effort }
    }

    fn downgrade(&mut self) -> Call {
        if std::mem::take(&mut self.died) {
            // The next to share the key may be another process's. Until then no one comes in here who would not be informed.
            self.state = State::Lowering;
            return Call::Unreported(self.id);
        }
        self.used_up = false;
        self.shares();
        Call::Downgrade(self.id)
    }

    /// Has a shared permit. What wants to share it is served.
    fn shares(&mut self) {
        self.state = State::Have(Mode::Shared);
        self.recalled = self.recalled.filter(|(wanted, _)| *wanted == Mode::Exclusive);
    }

    fn give_back(&mut self) -> Call {
        self.state = State::GivingBack;
        Call::GiveBack(Ended { id: self.id, unreported: std::mem::take(&mut self.died) })
    }

    /// Notes that the call that was out has returned.
    pub(crate) fn called(&mut self) {
        self.calling = false;
        if self.state == State::GivingBack {
            self.state = State::None;
        }
    }

    /// Takes in the answer to the ask or upgrade of this number.
    pub(crate) fn answered(&mut self, id: PermitId, answer: Answer, now: u64, renewals: u64) -> Outcome {
        if id != self.id {
            return Outcome::Nothing;
        }
        match (self.state, answer) {
            (State::Asking(mode) | State::Withdrawing(mode), Answer::Granted { fences, previous_died }) => {
                self.granted(mode, previous_died, now);
                Outcome::Granted { fences, anew: true }
            }
            (State::Upgrading | State::Relenting, Answer::Granted { fences, previous_died }) => {
                self.granted(Mode::Exclusive, previous_died, now);
                Outcome::Granted { fences, anew: false }
            }
            (State::Asking(_) | State::Withdrawing(_), Answer::Busy | Answer::UpgradeConflict) => {
                self.state = State::None;
                Outcome::Busy
            }
            (State::Upgrading | State::Relenting, Answer::Busy) => {
                self.shares();
                Outcome::Busy
            }
            (State::Upgrading | State::Relenting, Answer::UpgradeConflict) => {
                self.shares();
                Outcome::Conflict
            }
            (State::Asking(_) | State::Withdrawing(_), Answer::Failed(error)) => self.failed(error, renewals),
            (State::Upgrading | State::Relenting, Answer::Failed(error)) => {
                self.shares();
                Outcome::FailsUpgrade(error)
            }
            (State::Lost { .. }, Answer::Granted { previous_died, .. }) => {
                // The loss came first. What it said of a death is yet to be passed on.
                self.died |= previous_died;
                Outcome::Nothing
            }
            (_, _) => Outcome::Nothing,
        }
    }

    fn granted(&mut self, mode: Mode, previous_died: bool, now: u64) {
        match mode {
            Mode::Shared => self.shares(),
            Mode::Exclusive => self.state = State::Have(mode),
        }
        self.served = 0;
        self.left = HAND_OFFS;
        self.used_up = false;
        self.died |= previous_died;
        // One that came before the grant counts from now.
        self.recalled = self.recalled.map(|(wanted, _)| (wanted, now));
    }

    fn failed(&mut self, error: TierError, renewals: u64) -> Outcome {
        match error.kind() {
            TierErrorKind::TermOver | TierErrorKind::Unavailable => {
                // What it would wait for may have come before this answer.
                self.state = State::Lost { waits: self.renewals == renewals };
                Outcome::FailsTries(error)
            }
            _ => {
                self.state = State::None;
                Outcome::FailsAll(error)
            }
        }
    }

    /// Takes in that the ask or upgrade of this number was withdrawn.
    pub(crate) fn withdrawn(&mut self, id: PermitId) {
        match self.state {
            State::Asking(_) | State::Withdrawing(_) if id == self.id => self.state = State::None,
            State::Upgrading | State::Relenting if id == self.id => self.shares(),
            _ => {}
        }
    }

    /// Takes in that another process wants the permit of this number.
    pub(crate) fn recall(&mut self, id: PermitId, wanted: Mode, now: u64) {
        let is_enough = self.state == State::Have(Mode::Shared) && wanted == Mode::Shared;
        if id != self.id || is_enough {
            return;
        }
        match self.recalled {
            None => (self.recalled, self.left) = (Some((wanted, now)), HAND_OFFS),
            Some((before, since)) => self.recalled = Some((before.max(wanted), since)),
        }
    }

    /// Has an idle permit go back, for want of room.
    pub(crate) fn dismiss(&mut self, now: u64) {
        self.recall(self.id, Mode::Exclusive, now);
        self.left = 0;
    }

    /// Takes in that the permit of this number has ended by force.
    ///
    /// That may come before the grant. Returns whether it ended anything.
    pub(crate) fn lose(&mut self, id: PermitId) -> bool {
        let is_it = id == self.id && !self.is_gone();
        if is_it {
            self.end(false);
        }
        is_it
    }

    /// Takes in that this term and all before it are over.
    ///
    /// Returns whether that ended anything.
    pub(crate) fn lose_term(&mut self, over: Term) -> bool {
        let is_it = self.term <= over && !self.is_gone();
        if is_it {
            self.end(true);
        }
        is_it
    }

    fn is_gone(&self) -> bool {
        matches!(self.state, State::None | State::GivingBack | State::Lost { .. })
    }

    fn end(&mut self, waits: bool) {
        self.state = State::Lost { waits };
        (self.recalled, self.used_up) = (None, false);
    }

    /// Takes in that a term has begun.
    pub(crate) fn renewed(&mut self) {
        if self.is_lost() {
            self.state = State::Lost { waits: false };
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
