//! Grants, and the numbers that the server may give out.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// A grant: an epoch and a fence, as `epoch.fence`. No two grants of a server are alike, across restarts too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Grant {
    /// The start of the server that it is of.
    pub epoch: u64,
    /// Greater than that of every grant before.
    pub fence: u64,
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.fence)
    }
}

impl FromStr for Grant {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (epoch, fence) = parse_pair(text).ok_or(())?;
        Ok(Self { epoch, fence })
    }
}

/// Reads `number.number`, with digits only.
pub(super) fn parse_pair(text: &str) -> Option<(u64, u64)> {
    let (left, right) = text.split_once('.')?;
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    (digits(left) && digits(right)).then(|| Some((left.parse().ok()?, right.parse().ok()?)))?
}

/// Ranges of fences that are safe on disk, lowest first.
#[derive(Debug, Clone)]
pub(super) struct Fences {
    ranges: VecDeque<Range<u64>>,
    left: u64,
    /// More are wanted when fewer than this are left.
    low: u64,
}

impl Fences {
    pub(super) fn new(first: Range<u64>) -> Self {
        let mut fences = Self { ranges: VecDeque::new(), left: 0, low: 0 };
        fences.allot(first);
        fences
    }

    pub(super) fn allot(&mut self, range: Range<u64>) {
        let size = range.end.saturating_sub(range.start);
        debug_assert!(self.ranges.back().is_none_or(|last| last.end <= range.start), "fences only grow");
        self.left += size;
        self.low = size / 2;
        self.ranges.push_back(range);
    }

    pub(super) fn next(&mut self) -> Option<u64> {
        loop {
            let range = self.ranges.front_mut()?;
            if let Some(fence) = range.next() {
                self.left -= 1;
                return Some(fence);
            }
            self.ranges.pop_front();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.left == 0
    }

    pub(super) fn is_low(&self) -> bool {
        self.left <= self.low
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
        assert_eq!([fences.next(), fences.next()], [Some(10), None]);
    }
}
