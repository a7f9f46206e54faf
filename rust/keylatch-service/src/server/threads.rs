//! The threads that serve connections.
//!
//! Each has an event loop of its own, and a connection stays with the one that it was given to. Threads that steal tasks
//! from each other wake a second one for every body that is read, which costs more than the call itself.

use std::future::Future;
use std::io;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// Threads that serve connections. Dropping it ends those that it started.
#[derive(Debug)]
pub(super) struct Threads {
    /// The runtime that accepts serves, too.
    here: Handle,
    others: Vec<Other>,
    next: usize,
}

#[derive(Debug)]
struct Other {
    handle: Handle,
    /// The thread ends when this is dropped.
    _end: oneshot::Sender<()>,
}

impl Threads {
    /// Starts threads beside the present runtime: `count` in all.
    pub(super) fn start(count: usize) -> io::Result<Self> {
        let others = (1..count).map(Other::start).collect::<io::Result<_>>()?;
        Ok(Self { here: Handle::current(), others, next: 0 })
    }

    /// Has the next thread in turn serve a connection.
    pub(super) fn serve<F>(&mut self, stream: TcpStream, serve: impl FnOnce(TcpStream) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send,
    {
        let at = self.next;
        self.next = (at + 1) % (self.others.len() + 1);
        let Some(other) = at.checked_sub(1).and_then(|at| self.others.get(at)) else {
            self.here.spawn(async move { serve(stream).await });
            return;
        };
        // A socket belongs to the event loop that it was made in until it is taken out of it.
        let taken_out = stream.into_std();
        other.handle.spawn(async move {
            match taken_out.and_then(TcpStream::from_std) {
                Ok(stream) => serve(stream).await,
                Err(error) => tracing::warn!(%error, "a connection could not be served"),
            }
        });
    }
}

impl Other {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        std::thread::Builder::new().name(format!("keylatch-{number}")).spawn(move || {
            // An error says that the sender is gone, which is the end, too.
            let _ = runtime.block_on(ended);
        })?;
        Ok(Self { handle, _end: end })
    }
}
