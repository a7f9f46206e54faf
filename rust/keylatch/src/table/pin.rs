//! A pinned key, as the engine knows it.

/// An entry that keeps its key, and the hash of that.
#[derive(Debug)]
pub(crate) struct Pin {
    pub(crate) hash: u64,
    pub(crate) entry: u32,
}
