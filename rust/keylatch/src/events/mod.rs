//! Events: what happened, the subscribers that get it, and what is remembered of deadlocks.

mod deadlocks;
mod event;
mod lock_orders;
mod order_graph;
mod subscribers;
#[cfg(feature = "tracing")]
mod tracing;

pub(crate) use deadlocks::{Deadlocks, Detection};
pub use event::Event;
pub(crate) use lock_orders::LockOrders;
pub(crate) use order_graph::Seen;
pub use subscribers::EventOptions;
pub(crate) use subscribers::{Inbox, Outlet, Subscribers};
