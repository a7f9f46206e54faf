//! Typed locks with timeouts and statistics, and snapshots that readers never wait for.

#![deny(unsafe_op_in_unsafe_fn)]

mod snapshot;
mod sync;

pub use snapshot::{
    Changed, Freshness, PublishConflict, Snapshot, SnapshotClosed, SnapshotReader, Update, UpdateError,
};
