//! The client, the lease and the runtime behind a handle.

use crate::client::{Client, Watches};
use crate::config::EtcdConfig;
use crate::error::EtcdError;
use crate::layout::Layout;
use crate::session::Keeper;
use crate::space::Space;
use keylatch::BlockedSignals;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle as Task;

/// What a handle, its requests and its guards share; the last of them ends it.
pub(crate) struct Core {
    space: Arc<Space>,
    config: EtcdConfig,
    closed: watch::Sender<bool>,
    keeping: Mutex<Option<Task<()>>>,
    runtime: Mutex<Option<Runtime>>,
}

impl Core {
    /// Connects, checks the cluster, and gets a lease.
    pub(crate) fn open(config: EtcdConfig) -> Result<Self, EtcdError> {
        config.check()?;
        let blocked = BlockedSignals::all_but_faults();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("keylatch-etcd")
            .enable_all()
            .build()
            .map_err(|error| EtcdError::Server { problem: format!("no thread for the network: {error}") })?;
        drop(blocked);
        let (sender, receiver) = mpsc::sync_channel(1);
        let (closed, is_closed) = watch::channel(false);
        let settings = config.clone();
        runtime.spawn(async move {
            let _ = sender.send(begin(&settings, is_closed).await);
        });
        // Beyond the time that the members have, some for the requests that follow.
        let patience = config.connect_timeout + Duration::from_secs(5);
        let begun = receiver.recv_timeout(patience).unwrap_or_else(|_| {
            let silent = |name: &String| (name.clone(), "it answers, but carries nothing out; has it a quorum?".into());
            Err(EtcdError::Unreachable { endpoints: config.endpoints.iter().map(silent).collect() })
        });
        match begun {
            Ok((space, keeping)) => Ok(Self {
                space,
                config,
                closed,
                keeping: Mutex::new(Some(keeping)),
                runtime: Mutex::new(Some(runtime)),
            }),
            Err(error) => {
                runtime.shutdown_background();
                Err(error)
            }
        }
    }

    /// Ends the session, and waits until the server knows.
    pub(crate) fn close(&self) {
        if self.space.is_forked() {
            // A thread of the parent may have had the mutex, and the session is the parent's.
            return;
        }
        self.closed.send_replace(true);
        // Locked meanwhile, so that a second call returns no earlier than the first.
        let mut kept = self.keeping.lock();
        let Some(keeping) = kept.take() else { return };
        let (sender, receiver) = mpsc::sync_channel(1);
        self.spawn(async move {
            let _ = keeping.await;
            let _ = sender.send(());
        });
        let _ = receiver.recv_timeout(self.patience());
    }

    /// Ends the session, and then the threads of the network.
    ///
    /// Their code may be unloaded then, whichever of several calls returns. Requests that are still under way are given up.
    pub(crate) fn end(&self) {
        if self.space.is_forked() {
            // The threads of the runtime are the parent's; there is nothing here to stop.
            return;
        }
        // Locked until the threads have ended: another call would return before, or end them under this one.
        let mut running = self.runtime.lock();
        self.close();
        let Some(runtime) = running.take() else { return };
        // A thread of a runtime may not wait for another runtime, so a thread that is of none does.
        let end = move || runtime.shutdown_timeout(Duration::from_secs(2));
        let ending = std::thread::Builder::new().name("keylatch-close".into()).spawn(end);
        let _ = ending.map(std::thread::JoinHandle::join);
    }

    /// Runs a request on the runtime, and waits for it.
    pub(crate) fn wait_for<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, EtcdError>> + Send + 'static,
    ) -> Result<T, EtcdError> {
        self.check()?;
        let (sender, receiver) = mpsc::sync_channel(1);
        let task = self.spawn(async move {
            let _ = sender.send(work.await);
        });
        receiver.recv_timeout(self.patience()).unwrap_or_else(|_| {
            task.abort();
            Err(self.unreachable())
        })
    }

    /// Whether the handle can be used.
    pub(crate) fn check(&self) -> Result<(), EtcdError> {
        if self.space.is_forked() {
            return Err(EtcdError::Forked);
        }
        if *self.closed.borrow() { Err(EtcdError::Closed) } else { Ok(()) }
    }

    pub(crate) fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Task<T> {
        self.space.runtime.spawn(work)
    }

    pub(crate) fn config(&self) -> &EtcdConfig {
        &self.config
    }

    pub(crate) fn space(&self) -> Arc<Space> {
        Arc::clone(&self.space)
    }

    /// How long calls wait that do not wait for a lock.
    pub(crate) fn patience(&self) -> Duration {
        self.config.connect_timeout
    }

    pub(crate) fn unreachable(&self) -> EtcdError {
        let silent = |name: &String| (name.clone(), format!("no answer within {:?}", self.patience()));
        EtcdError::Unreachable { endpoints: self.config.endpoints.iter().map(silent).collect() }
    }
}

async fn begin(config: &EtcdConfig, closed: watch::Receiver<bool>) -> Result<(Arc<Space>, Task<()>), EtcdError> {
    let client = Arc::new(Client::new(config)?);
    client.find_member(config.connect_timeout).await?;
    let layout = Layout::new(&config.namespace);
    let (keeper, present) = Keeper::new(Arc::clone(&client), layout.clone(), config);
    let session = keeper.begin().await?;
    let watches = Watches::start(Arc::clone(&client));
    let space = Arc::new(Space::new(client, layout, watches, present));
    space.read_epoch().await?;
    let keeping = tokio::spawn(async move { keeper.keep(session, closed).await });
    Ok((space, keeping))
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.get_mut().take() else { return };
        if self.space.is_forked() {
            // The threads of the runtime are the parent's; there is nothing here to stop.
            std::mem::forget(runtime);
            return;
        }
        self.closed.send_replace(true);
        let Some(keeping) = self.keeping.get_mut().take() else { return runtime.shutdown_background() };
        // The lease ends by itself if this does not get through; the thread that drops the handle does not wait.
        let end = move || {
            runtime.block_on(async {
                let _ = tokio::time::timeout(Duration::from_secs(2), keeping).await;
            });
            runtime.shutdown_background();
        };
        let _ = std::thread::Builder::new().name("keylatch-close".into()).spawn(end);
    }
}
