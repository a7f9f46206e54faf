//! The word of a lock file that is open: whether its `flock` is kept, and who may give it up.
//!
//! Shared by the threads of one process. The kernel's lock is the process's too, so what one thread locks another unlocks.
//!
//! | bit | meaning | set by | cleared by |
//! |---|---|---|---|
//! | KEPT | the lock stays when the holder leaves | the holder | the holder that was asked, or the watcher |
//! | INSIDE | a thread of this process is the holder | the holder, who has the key in the table | the holder |
//! | WANTED | another program has opened the file | the watcher, beside KEPT and INSIDE | the holder that leaves |
//! | BUSY | the watcher unlocks the file | the watcher, in place of KEPT | the watcher, after that |
//!
//! So there are six words: none, KEPT, KEPT INSIDE, KEPT INSIDE WANTED, INSIDE, and BUSY. The lock is held in all but the
//! first; in BUSY it is about to go, and a holder that locks must wait until it has.

const KEPT: u32 = 1;
const INSIDE: u32 = 2;
const WANTED: u32 = 4;
const BUSY: u32 = 8;

/// The word's value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Kept(pub(crate) u32);

impl Kept {
    pub(crate) const NOTHING: Self = Self(0);
    /// What a holder can enter with a swap alone, and what it leaves behind with one.
    pub(crate) const IDLE: Self = Self(KEPT);
    pub(crate) const HELD: Self = Self(KEPT | INSIDE);

    /// Whether the file is being unlocked.
    pub(crate) fn is_busy(self) -> bool {
        self.0 & BUSY != 0
    }

    /// The word of a holder that has just locked the file.
    pub(crate) fn locked(keep: bool) -> Self {
        if keep { Self::HELD } else { Self(INSIDE) }
    }

    /// The word after another program has opened the file.
    ///
    /// `None` if there is nothing to give up.
    pub(crate) fn asked(self) -> Option<Self> {
        if self == Self::IDLE {
            return Some(Self(BUSY));
        }
        (self.0 & Self::HELD.0 == Self::HELD.0).then_some(Self(self.0 | WANTED))
    }
}
