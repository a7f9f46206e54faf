//! How a thread, a future or a callback waits.

pub(crate) mod arrivals;
pub(crate) mod bell;
pub(crate) mod dispatcher;
pub(crate) mod foreign;
pub(crate) mod mailbox;
pub(crate) mod queue;
pub(crate) mod timer;
pub(crate) mod waiter;

pub(crate) use arrivals::{Arrivals, Ending};
pub(crate) use bell::Bell;
pub(crate) use dispatcher::{CallbackThread, Dispatcher, EndsWithIt};
pub(crate) use foreign::{Foreign, without_panic};
pub(crate) use mailbox::Mailbox;
pub(crate) use queue::Queue;
pub(crate) use timer::{Purpose, Timer};
pub use waiter::Ticket;
pub(crate) use waiter::{Asking, Delivery, Letter, NEVER, News, Phase, Waiter, Waiters};
