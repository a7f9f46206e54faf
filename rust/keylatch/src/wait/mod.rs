//! How a thread, a future or a callback waits.

pub(crate) mod completion_queue;
pub(crate) mod dispatcher;
pub(crate) mod event_fd;
pub(crate) mod foreign;
pub(crate) mod mailbox;
pub(crate) mod queue;
pub(crate) mod timer;
pub(crate) mod waiter;

pub(crate) use completion_queue::{CompletionQueueState, Ending};
pub(crate) use dispatcher::{CallbackThread, Dispatcher, EndsWithIt};
pub(crate) use event_fd::EventFd;
pub(crate) use foreign::{Foreign, without_panic};
pub(crate) use mailbox::Mailbox;
pub(crate) use queue::Queue;
pub(crate) use timer::{Purpose, Timer};
pub use waiter::Ticket;
pub(crate) use waiter::{Asking, Delivery, Letter, NEVER, News, Phase, Waiter, Waiters};
