//! Grants, and the numbers that the server may give out.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// A grant: an epoch and a fence, as `epoch.fence`.
///
/// No two grants of a server are alike, across restarts too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Grant {
    /// The start of the server that it is of.
    pub epoch: u64,
    /// Greater than that of every grant before.
    pub fence: u64,
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&pair_text(self.epoch, self.fence))
    }
}

impl FromStr for Grant {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (epoch, fence) = parse_pair(text).ok_or(())?;
        Ok(Self { epoch, fence })
    }
}

/// Writes `number.number`, in a quarter of the time that format arguments take.
pub(super) fn pair_text(left: u64, right: u64) -> String {
    let mut text = left.to_string();
    text.push('.');
    text.push_str(&right.to_string());
    text
}

/// Reads `number.number`, with digits only.
pub(super) fn parse_pair(text: &str) -> Option<(u64, u64)> {
    let (left, right) = text.split_once('.')?;
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    (digits(left) && digits(right)).then(|| Some((left.parse().ok()?, right.parse().ok()?)))?
}

/// Fences that are safe on disk and not given out.
#[derive(Debug, Clone)]
pub(super) struct Fences {
    left: Range<u64>,
    /// More are wanted when fewer than this are left.
    low: u64,
}

impl Fences {
    pub(super) fn new(first: Range<u64>) -> Self {
        let mut fences = Self { left: first.start..first.start, low: 0 };
        fences.allot(first);
        fences
    }

    /// Takes in more.
    ///
    /// Those that are left are skipped if the new ones do not follow them.
    pub(super) fn allot(&mut self, range: Range<u64>) {
        debug_assert!(self.left.end <= range.start, "fences only grow");
        self.low = range.end.saturating_sub(range.start) / 2;
        self.left = if self.left.end == range.start { self.left.start..range.end } else { range };
    }

    pub(super) fn next(&mut self) -> Option<u64> {
        self.left.next()
    }

    /// Lends out all that are left, until [`give_back`](Self::give_back).
    pub(super) fn lend(&mut self) -> Range<u64> {
        let end = self.left.end;
        std::mem::replace(&mut self.left, end..end)
    }

    /// Takes back what was not used of those lent.
    pub(super) fn give_back(&mut self, rest: Range<u64>) {
        debug_assert!(rest.end == self.left.end, "the rest of what was lent");
        self.left = rest;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    pub(super) fn is_low(&self) -> bool {
        self.left.end.saturating_sub(self.left.start) <= self.low
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fences_over_ranges_grow_and_end() {
        let mut fences = Fences::new(1..4);
        assert!(!fences.is_low());
        assert_eq!([fences.next(), fences.next()], [Some(1), Some(2)]);
        assert!(fences.is_low());
        fences.allot(4..6);
        assert_eq!([fences.next(), fences.next(), fences.next(), fences.next()], [Some(3), Some(4), Some(5), None]);
        assert!(fences.is_empty() && fences.is_low());
        fences.allot(10..11);
        let lent = fences.lend();
        assert_eq!((lent.clone(), fences.next()), (10..11, None));
        fences.give_back(lent);
        assert_eq!([fences.next(), fences.next()], [Some(10), None]);
    }
}
