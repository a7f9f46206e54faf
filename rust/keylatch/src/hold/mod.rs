//! Who holds what since when.

pub(crate) mod lease;
pub(crate) mod owner;
pub(crate) mod record;
pub(crate) mod session;

pub(crate) use lease::Leases;
pub(crate) use owner::Label;
pub use owner::Owner;
pub use owner::OwnerRef;
pub(crate) use owner::{Owners, UNNAMED};
pub(crate) use record::{FirstState, Held, Record, Standing};
pub use record::{Grant, Lost};
pub use session::SessionRef;
pub(crate) use session::{Asked, Begun, NotedHold, SESSION, SessionState, Sessions, Taken, Turn};
