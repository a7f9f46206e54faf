//! What the parts share: a manager, keys, and ways of timing.

use std::time::{Duration, Instant};

use keylatch::{FastObjectLockManager, LockConfig};

use crate::slices::Pace;

/// How long each of the lanes of one process may take together.
pub(super) const PACE: Pace = Pace { subject: Duration::from_millis(700), ..Pace::QUICK };

/// Returns a manager with room for every size.
pub(super) fn manager() -> FastObjectLockManager {
    let config = LockConfig { max_locks: 16_000_000, max_waiters: 2_000_000, ..LockConfig::default() };
    FastObjectLockManager::with_config(config).expect("the limits are within bounds")
}

/// Keys of one length: the bucket is one byte, and the rest is the object.
pub(super) struct Keys {
    text: String,
    length: usize,
}

pub(super) const BUCKET: &str = "b";

impl Keys {
    pub(super) fn new(count: usize, bytes: usize) -> Self {
        let length = bytes - BUCKET.len();
        let mut text = String::with_capacity(count * length);
        for number in 0..count {
            text.push_str(&format!("{number:0>length$}"));
        }
        Self { text, length }
    }

    #[inline(always)]
    pub(super) fn object(&self, number: usize) -> &str {
        &self.text[number * self.length..(number + 1) * self.length]
    }
}

/// Nanoseconds of each of a number of operations.
pub(super) fn nanos_each(count: u64, run: impl FnOnce()) -> f64 {
    let began = Instant::now();
    run();
    began.elapsed().as_nanos() as f64 / count as f64
}

/// Returns the median of the microseconds that an operation takes.
pub(super) fn median_micros(times: usize, mut run: impl FnMut()) -> f64 {
    let mut micros: Vec<f64> = (0..times).map(|_| nanos_each(1, &mut run) / 1000.0).collect();
    micros.sort_unstable_by(f64::total_cmp);
    micros[times / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_and_have_their_length() {
        let keys = Keys::new(1000, 16);
        let all: std::collections::HashSet<_> = (0..1000).map(|number| keys.object(number)).collect();
        assert_eq!((all.len(), keys.object(7)), (1000, "000000000000007"));
    }
}
