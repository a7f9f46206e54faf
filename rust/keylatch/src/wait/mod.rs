//! How a thread, a future or a callback waits.

pub(crate) mod completion;
pub(crate) mod completion_queue;
pub(crate) mod dispatcher;
pub(crate) mod event_fd;
pub(crate) mod queue;
pub(crate) mod timer;
pub(crate) mod user_code;
pub(crate) mod waiter;

pub(crate) use completion::CompletionList;
pub(crate) use completion_queue::{CompletionQueueState, Ending};
pub(crate) use dispatcher::{CallbackThread, Dispatcher, EndsWithIt};
pub(crate) use event_fd::EventFd;
pub(crate) use queue::Queue;
pub(crate) use timer::{Purpose, Timer};
pub(crate) use user_code::{UserCode, without_panic};
pub use waiter::Ticket;
pub(crate) use waiter::{Asking, CompletionFn, Delivery, NEVER, Phase, Waiter, Waiters, Wakeup};
