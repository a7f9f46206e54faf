//! The two sides of a tier: what a transport implements, and what it calls.

use super::ask::{Answer, Ask, Effort, PermitId, RemoteHold, Term};
use super::error::TierError;
use crate::key::KeyRef;
use crate::mode::Mode;
use std::fmt;
use std::sync::Arc;

/// Grants permits to this process; implemented by a transport.
///
/// # What the manager promises
///
/// * It calls from any thread, and from within an event. It holds no mutex during a call.
/// * Of a key it has at most one ask or permit at a time. An ask with [`Ask::replaces`] takes the place of the permit that
///   it replaces.
/// * Calls that name one key are made one after the other: the next begins when the last has returned.
/// * It gives a permit back only when none of its threads holds the lock, and none can take it.
/// * In a forked child it calls nothing.
///
/// # What a tier promises
///
/// * **Exclusion**: while a process has an exclusive permit of a key, no other has any; until `all_lost` or `lost`.
/// * **No call blocks**, for the network or for another process. What takes time is answered
///   [`Pending`](Answer::Pending), and `give_back`, `downgrade` and `withdraw` take effect later, and repeat by themselves
///   until they have. A mutex that the tier holds while it calls an event must not be one that a call needs.
/// * **No call panics.** An ask or an upgrade that does has failed with an error; of the other calls a panic ends nothing but
///   the call.
/// * **Order**: calls that name one key take effect in the order in which they were made, asks with a queue are granted in
///   the order in which they took effect, and neighbouring shared ones together. A tier that grants in another order says
///   how long an ask may be overtaken.
/// * **Progress**: a permit that keeps an ask waiting is recalled, each permit at least once for each time it is granted,
///   upgraded or downgraded while an ask waits behind it.
///
/// Events of one permit may arrive in any order, and a call may overtake an event: the permit that is recalled may have
/// been given back already. Neither side treats that as an error.
pub trait Tier: fmt::Debug + Send + Sync {
    /// Starts events, and returns the first term; called once, before all other calls.
    ///
    /// Events may begin before this returns. They may come on any thread, and also inside a call.
    ///
    /// # Errors
    /// What keeps the tier from working, such as a missing file or a refused login. An outage is no error: the tier may
    /// begin with a term in which it answers [`Pending`](Answer::Pending).
    fn attach(&self, events: Arc<dyn TierEvents>) -> Result<Term, TierError>;

    /// Puts asks in line, in one step.
    ///
    /// Sets an answer for each, [`Answer::Pending`] for those that come later. `answers` has the length of `asks`, at most
    /// [`max_batch`](Self::max_batch), and is filled with `Pending`. Within a call the keys differ. With
    /// [`Effort::AllOrNone`] either all are granted, or all answers are `Busy` or `Failed`.
    ///
    /// An ask is answered once, in `answers` or by an event. If the event comes inside the call, the answer here is
    /// `Pending`.
    fn ask(&self, asks: &[Ask<'_>], effort: Effort, answers: &mut [Answer]);

    /// Ends an ask that waits, or an upgrade that waits, unless the grant comes first.
    ///
    /// The tier calls [`TierEvents::withdrawn`] or [`TierEvents::answered`], exactly one of them. A withdrawn ask is gone; after
    /// a withdrawn upgrade the shared permit is as before. A number that the tier does not know, as of an earlier term, is
    /// withdrawn.
    ///
    /// This serves promptness only: a tier may leave an ask in line until it is granted.
    fn withdraw(&self, id: PermitId);

    /// Ends a permit.
    ///
    /// Cannot fail: the tier repeats until it has taken effect or the term is over. A number that it does not know is ignored.
    fn give_back(&self, id: PermitId);

    /// Notes that a permit ended before a hold under it was informed of a death.
    ///
    /// Its grant said [`previous_died`](Answer::Granted). The tier says it again with the next grant of the key, to
    /// whichever process. Called before the call that ends or downgrades the permit, or after the event that ended it, then
    /// also with a number of an earlier term.
    ///
    /// Does nothing by default: that is right for a tier that notices no deaths.
    fn death_unreported(&self, id: PermitId) {
        let _ = id;
    }

    /// Turns an exclusive permit into a shared one, which keeps its number.
    ///
    /// Shared asks behind it can be granted then. Cannot fail, as `give_back`.
    fn downgrade(&self, id: PermitId);

    /// Asks for a shared permit to become exclusive, ahead of the queue.
    ///
    /// The permit keeps its number, and gets other fences. At most one upgrade of a key waits; another, of whichever
    /// process, is answered [`Answer::UpgradeConflict`]. Until the answer is `Granted` the permit is shared, and it is
    /// shared as before after any other answer. With [`Effort::AllOrNone`] the answer is `Granted` or `Busy`, at the latest
    /// by an event, however many processes share the key.
    fn upgrade(&self, id: PermitId, term: Term, effort: Effort) -> Answer;

    /// Returns whether the permits of this term still count, by the clock.
    ///
    /// A tier whose permits end with a lease clears a flag when, by its own clock, the lease is over; this returns the flag
    /// and costs nothing. The tier calls [`TierEvents::all_lost`] afterwards. The manager asks each time it is about to report
    /// an acquisition or an upgrade, and reports none after `false`. A process that is stopped between this question and
    /// the report may report one late: what catches that are fences. The tier sets the flag again before it calls
    /// [`TierEvents::renewed`].
    fn is_current(&self) -> bool {
        true
    }

    /// Takes other processes' permits for this key by force; returns how many.
    ///
    /// Their managers get [`TierEvents::lost`] as soon as that is possible, which may be later than the next grant: what
    /// their holders write in between is for fences to refuse.
    ///
    /// # Errors
    /// [`TierErrorKind::Unsupported`](super::TierErrorKind::Unsupported) where a tier cannot do that, which is the default.
    fn revoke(&self, key: KeyRef<'_>) -> Result<u32, TierError> {
        let _ = key;
        Err(TierError::unsupported("revoke"))
    }

    /// Calls `each` with the permits and asks of all processes, of one key or of all.
    ///
    /// May block.
    ///
    /// # Errors
    /// As [`revoke`](Self::revoke), and what keeps the tier from answering.
    fn list(&self, key: Option<KeyRef<'_>>, each: &mut dyn FnMut(RemoteHold)) -> Result<(), TierError> {
        let _ = (key, each);
        Err(TierError::unsupported("list"))
    }

    /// Returns how many asks a call may have, at least 1.
    fn max_batch(&self) -> usize {
        usize::MAX
    }

    /// Gives all permits back, ends all asks, and ends the tier's threads.
    ///
    /// No event comes after it has returned. Called once, last, and not from within an event; after an `attach` that failed,
    /// too. May block.
    fn detach(&self);
}

/// The manager's side: what a tier calls.
///
/// Each method may be called on any thread, for any number, at any time. The manager ignores what is no longer the case: a
/// permit that it has given back, an ask that it has withdrawn, a term that is over. It may call the tier from within an
/// event, and does not block in one.
pub trait TierEvents: fmt::Debug + Send + Sync {
    /// An ask or an upgrade that was answered [`Answer::Pending`] has its answer now.
    fn answered(&self, id: PermitId, answer: Answer);

    /// An ask or an upgrade was withdrawn.
    fn withdrawn(&self, id: PermitId);

    /// Another process waits for what this permit keeps from it.
    ///
    /// `wanted` is how it wants the key. May come before the grant that it is about, and more than once. Of two the stronger
    /// counts.
    fn recalled(&self, id: PermitId, wanted: Mode);

    /// A permit has ended by force: another process called [`Tier::revoke`].
    fn lost(&self, id: PermitId);

    /// All permits and asks of this term and of those before it have ended.
    ///
    /// Their numbers are not used again. The manager marks what is held under them as lost, and asks for nothing until
    /// [`renewed`](Self::renewed).
    fn all_lost(&self, over: Term);

    /// A new term has begun, and all of the one before is over.
    ///
    /// Also called with the present term, when a tier that answered `Unavailable` can be reached again.
    ///
    /// Every process that could have a permit of the last term must have lost it before, or exclude itself by its own clock.
    fn renewed(&self, term: Term);
}
