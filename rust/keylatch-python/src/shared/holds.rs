//! The holds that one lock object has in this process, with the threads that acquired them.
//!
//! Mostly there is one. There are more where threads share, and after a revocation: the hold that was revoked stays until
//! its thread releases it, beside the hold of the next thread.

use crate::shared::thread::this_thread;

/// Which holds a caller may end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// Those that the calling thread acquired.
    Mine,
    /// Those of any thread; its own come first.
    Any,
}

/// The latest is the last.
pub(crate) struct Holds<T>(Vec<Held<T>>);

/// One of them.
pub(crate) struct Held<T> {
    pub(crate) hold: T,
    thread: usize,
    pub(crate) depth: usize,
}

/// How a release went.
#[must_use]
pub(crate) enum Ended<T> {
    /// It was acquired more often than released.
    StillHeld,
    /// It is not held any more, and to be released.
    Last(T),
    NotHeld,
}

impl<T> Holds<T> {
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    #[inline]
    pub(crate) fn push(&mut self, hold: T) {
        self.0.push(Held { hold, thread: this_thread(), depth: 1 });
    }

    #[inline]
    fn place(&self, whose: Whose) -> Option<usize> {
        let latest = self.0.len().checked_sub(1)?;
        let here = this_thread();
        let mine = self.0.iter().rposition(|held| held.thread == here);
        if whose == Whose::Mine { mine } else { mine.or(Some(latest)) }
    }

    /// The hold that a release would end.
    #[inline]
    pub(crate) fn of(&self, whose: Whose) -> Option<&Held<T>> {
        self.place(whose).map(|place| &self.0[place])
    }

    /// Counts another acquisition of it, if it is held still.
    #[inline]
    pub(crate) fn again(&mut self, whose: Whose, is_held: impl FnOnce(&T) -> bool) -> bool {
        let Some(place) = self.place(whose) else { return false };
        let held = &mut self.0[place];
        let again = is_held(&held.hold);
        held.depth += usize::from(again);
        again
    }

    /// Counts one release.
    #[inline]
    pub(crate) fn end(&mut self, whose: Whose) -> Ended<T> {
        let Some(place) = self.place(whose) else { return Ended::NotHeld };
        let held = &mut self.0[place];
        held.depth -= 1;
        if held.depth > 0 { Ended::StillHeld } else { Ended::Last(self.0.remove(place).hold) }
    }

    /// Takes the next out, however often it was acquired.
    pub(crate) fn take(&mut self, whose: Whose) -> Option<T> {
        self.place(whose).map(|place| self.0.remove(place).hold)
    }

    /// How often these holds were acquired and not released.
    pub(crate) fn count(&self, whose: Whose) -> usize {
        let here = this_thread();
        let counted = self.0.iter().filter(|held| whose == Whose::Any || held.thread == here);
        counted.map(|held| held.depth).sum()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}
