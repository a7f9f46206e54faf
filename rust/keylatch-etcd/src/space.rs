//! What all requests of a handle share.

use crate::client::{Client, Watches};
use crate::error::EtcdError;
use crate::layout::Layout;
use crate::removals::Removals;
use crate::session::{Present, Session, read_epoch, same_epoch};
use crate::wire::Compare;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::runtime::Handle;
use tokio::sync::watch;

/// A namespace of one cluster, as this process uses it.
#[derive(Debug)]
pub(crate) struct Space {
    pub(crate) client: Arc<Client>,
    pub(crate) layout: Layout,
    pub(crate) watches: Watches,
    pub(crate) runtime: Handle,
    pub(crate) removals: Arc<Removals>,
    present: watch::Receiver<Present>,
    /// The next acquisition's number; with the lease it is used once.
    next: AtomicU64,
    epoch: Mutex<Epoch>,
    pid: u32,
}

/// The epoch as it was last read: its value in etcd, and what that says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Epoch {
    value: Option<Vec<u8>>,
    pub(crate) number: u64,
}

impl Epoch {
    /// Whether the value in etcd says this epoch.
    pub(crate) fn is(&self, value: Option<&[u8]>) -> bool {
        self.value.as_deref() == value
    }
}

impl Space {
    pub(crate) fn new(
        client: Arc<Client>,
        layout: Layout,
        watches: Watches,
        present: watch::Receiver<Present>,
    ) -> Self {
        let runtime = Handle::current();
        let epoch = Mutex::new(Epoch::default());
        let (removals, next) = (Arc::default(), AtomicU64::new(1));
        Self { client, layout, watches, runtime, removals, present, next, epoch, pid: std::process::id() }
    }

    /// Whether this is a child of the process that has the threads.
    pub(crate) fn is_forked(&self) -> bool {
        std::process::id() != self.pid
    }

    pub(crate) fn next_number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// The session, once there is one; an error if the server refuses one.
    pub(crate) async fn session(&self) -> Result<Arc<Session>, EtcdError> {
        let mut present = self.present.clone();
        let found = present.wait_for(|present| match present {
            Present::Live(session) => session.is_live(),
            Present::Between(refused) => refused.is_some(),
            Present::Closed => true,
        });
        match found.await.as_deref() {
            Ok(Present::Live(session)) => Ok(Arc::clone(session)),
            Ok(Present::Between(Some(refused))) => Err(refused.clone()),
            _ => Err(EtcdError::Closed),
        }
    }

    /// The session, if there is one now.
    pub(crate) fn session_now(&self) -> Option<Arc<Session>> {
        match &*self.present.borrow() {
            Present::Live(session) if session.is_live() => Some(Arc::clone(session)),
            _ => None,
        }
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch.lock().clone()
    }

    /// The comparison that holds while the epoch is this one.
    pub(crate) fn same_epoch(&self, epoch: &Epoch) -> Compare {
        same_epoch(&self.layout, epoch.value.as_deref())
    }

    /// Reads the epoch anew.
    pub(crate) async fn read_epoch(&self) -> Result<(), EtcdError> {
        let value = read_epoch(&self.client, &self.layout).await?;
        let number = match &value {
            None => 0,
            Some(value) => {
                let number = std::str::from_utf8(value).ok().and_then(|text| text.trim().parse().ok());
                number.filter(|&number| number <= crate::fence::LAST_EPOCH).ok_or_else(|| EtcdError::Server {
                    problem: format!(
                        "the epoch {:?} is no number from 0 to {}; put one",
                        String::from_utf8_lossy(value),
                        crate::fence::LAST_EPOCH
                    ),
                })?
            }
        };
        *self.epoch.lock() = Epoch { value, number };
        Ok(())
    }
}
