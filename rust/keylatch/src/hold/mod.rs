//! Who holds what since when.

mod delayed;
mod filter;
pub(crate) mod lease;
pub(crate) mod owner;
pub(crate) mod record;
pub(crate) mod session;
mod tombstones;

pub(crate) use crate::grant::Grant;
pub(crate) use crate::owner::{Owner, OwnerRef};
pub(crate) use delayed::{Kept, KeptShut};
pub use filter::Filter;
pub(crate) use lease::Leases;
pub(crate) use owner::Label;
pub(crate) use owner::{Owners, UNNAMED};
pub use record::Lost;
pub(crate) use record::{FirstState, Held, Record, Standing};
pub(crate) use session::{Asked, Begun, NotedHold, SESSION, SessionState, Sessions, Taken, Turn};
pub(crate) use tombstones::Tombstones;
