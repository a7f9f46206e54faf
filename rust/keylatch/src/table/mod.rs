//! Keys in use, found without a lock; see the README in this folder.

mod backoff;
mod bias;
pub(crate) mod entry;
pub(crate) mod hash;
mod key_words;
mod pin;
pub(crate) mod shard;
pub(crate) mod slots;
pub(crate) mod state;
mod warm;

pub(crate) use entry::Entry;
pub(crate) use hash::Secrets;
pub(crate) use key_words::PackedKey;
pub(crate) use pin::Pin;
pub(crate) use shard::{Full, LockedShard, ShardCounts, Table, WAIT_BUCKETS};
pub(crate) use slots::{Entered, Left};
pub(crate) use state::Word;
