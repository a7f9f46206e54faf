//! Where keys live: the word, the entry, the shard.

pub(crate) mod entry;
pub(crate) mod shard;
pub(crate) mod state;

pub(crate) use entry::{Entry, MAX_KEY_BYTES};
pub(crate) use shard::{Full, LockedShard, ShardCounts, Table, WAIT_BUCKETS};
pub(crate) use state::Word;
