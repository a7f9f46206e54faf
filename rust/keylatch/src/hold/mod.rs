//! Who holds what since when.

pub(crate) mod lease;
pub(crate) mod owner;
pub(crate) mod record;
pub(crate) mod session;

pub(crate) use crate::grant::Grant;
pub(crate) use lease::Leases;
pub(crate) use owner::Label;
pub use owner::Owner;
pub use owner::OwnerRef;
pub(crate) use owner::{Owners, UNNAMED};
pub use record::Lost;
pub(crate) use record::{FirstState, Held, Record, Standing};
pub use session::SessionRef;
pub(crate) use session::{Asked, Begun, NotedHold, SESSION, SessionState, Sessions, Taken, Turn};
