//! Events: what happened, and the subscribers that get it.

mod event;
mod subscribers;
#[cfg(feature = "tracing")]
mod tracing;

pub use event::Event;
pub use subscribers::EventOptions;
pub(crate) use subscribers::{Audience, Inbox, Outlet};
