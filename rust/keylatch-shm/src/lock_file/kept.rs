//! The word of a lock file that is open: whether its `flock` is kept, and which hold is inside.
//!
//! Shared by the threads of one process. The kernel's lock is the process's too, so what one thread locks another unlocks.
//!
//! | bit | meaning | set by | cleared by |
//! |---|---|---|---|
//! | KEPT | the lock stays when the holder leaves | the holder | the holder that was asked, or the watcher |
//! | INSIDE | a hold of this process is inside | the holder, who has the key in the table | the same holder |
//! | WANTED | the lock is to go when the holder leaves | the watcher, beside KEPT and INSIDE | the holder that leaves |
//! | the others | the number of the hold that is inside | as INSIDE | as INSIDE |
//!
//! So there are five words: none, KEPT, and, with a number, KEPT INSIDE, KEPT INSIDE WANTED, and INSIDE. The lock is held in
//! all but the first. A thread that locks or unlocks the file has the file's mutex, and only there does a word begin or
//! cease to be none. The two changes between KEPT and KEPT INSIDE need no mutex.
//!
//! A hold that was revoked may still be inside when the next one comes, which then takes its place: the number says whose
//! the word is. Numbers grow from hold to hold, so one that was revoked before it came does not take a place.

const KEPT: u64 = 1;
const INSIDE: u64 = 2;
const WANTED: u64 = 4;
const NUMBER: u32 = 3;

/// The word's value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Kept(pub(crate) u64);

impl Kept {
    pub(crate) const NOTHING: Self = Self(0);
    /// What a holder can enter with a swap alone, and what it leaves behind with one.
    pub(crate) const IDLE: Self = Self(KEPT);

    /// The word while a hold is inside that leaves the lock behind.
    #[inline(always)]
    pub(crate) const fn held(hold: u64) -> Self {
        Self(hold << NUMBER | KEPT | INSIDE)
    }

    /// The word of a holder that has just locked the file.
    pub(crate) fn locked(hold: u64, keep: bool) -> Self {
        if keep { Self::held(hold) } else { Self(hold << NUMBER | INSIDE) }
    }

    /// The word when this hold enters a file that is locked.
    ///
    /// That is kept, or a hold is inside that was revoked. Unchanged if this one was: then a later hold is inside. `None` if the file is not locked.
    pub(crate) fn taken(self, hold: u64) -> Option<Self> {
        let flags = self.0 & (KEPT | WANTED);
        let is_later = (hold << NUMBER).wrapping_sub(self.0 >> NUMBER << NUMBER).cast_signed() > 0;
        let taken = if is_later || self.0 & INSIDE == 0 { Self(hold << NUMBER | INSIDE | flags) } else { self };
        (self != Self::NOTHING).then_some(taken)
    }

    /// Whether the hold is inside and has to unlock when it leaves.
    pub(crate) fn is_unlocked_by(self, hold: u64) -> bool {
        self == Self::locked(hold, false) || self.0 == Self::held(hold).0 | WANTED
    }

    /// The word after the lock was asked for, or a term is over.
    ///
    /// `None` if there is nothing to give up.
    pub(crate) fn asked(self) -> Option<Self> {
        if self == Self::IDLE {
            return Some(Self::NOTHING);
        }
        (self.0 & (KEPT | INSIDE) == KEPT | INSIDE).then_some(Self(self.0 | WANTED))
    }
}
