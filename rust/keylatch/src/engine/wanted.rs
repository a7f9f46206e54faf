//! A request on its way through the engine.

use super::core::{Core, Granting};
use crate::key::KeyRef;
use crate::mode::Mode;

/// A request whose owner and hash are known.
///
/// The fast path takes it by value and hands copies to the slow ones, so that it stays in registers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'k> {
    pub(crate) key: KeyRef<'k>,
    pub(crate) hash: u64,
    pub(crate) mode: Mode,
    pub(crate) owner: u32,
    pub(crate) priority: u8,
    /// The grant is to be a number from the beginning.
    pub(crate) detached: bool,
    /// Nanoseconds of the lease, for a request that waits; 0 for none.
    pub(crate) lease: u64,
}

impl Core {
    /// What goes on record if the request is granted.
    #[inline(always)]
    pub(crate) fn granting(&self, wanted: &Wanted<'_>) -> Granting {
        let Wanted { mode, priority, hash, detached, .. } = *wanted;
        Granting { shard: self.table.shard_of(hash), mode, priority, detached }
    }
}
