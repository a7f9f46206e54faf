//! Starting, reloading and stopping a server.

use super::auth::{Access, AccessError, Tokens};
use super::etcd_settings::EtcdSettings;
use super::listen::{Acceptor, TlsSlot};
use super::marks::{Marks, MarksError};
use super::router::Door;
use super::shared::Shared;
use super::space::{MOST_ITEMS, Space};
use super::threads::Threads;
use super::tier_link::Tier;
use super::tls::{TlsError, TlsFiles, server_config};
use crate::machine::Limits;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What a server is started with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The file that outlives it; `None` keeps nothing.
    pub state: Option<PathBuf>,
    /// The tokens file; `None` wants no token.
    pub tokens: Option<PathBuf>,
    /// Certificates; `None` for plain text.
    pub tls: Option<TlsFiles>,
    /// What it accepts before it refuses.
    pub limits: Limits,
    /// Open connections.
    pub connections: usize,
    /// Threads that serve them, the present runtime's among them.
    pub threads: usize,
    /// How long it waits for holders when it stops.
    pub drain: Duration,
    /// The cluster whose locks it shares; `None` for locks of its own.
    pub etcd: Option<EtcdSettings>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7373)),
            state: None,
            tokens: None,
            tls: None,
            limits: Limits::default(),
            connections: 25_000,
            threads: 1,
            drain: Duration::from_secs(10),
            etcd: None,
        }
    }
}

impl Settings {
    fn wants_certificates(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.client_roots.is_some())
    }

    fn access(&self) -> Result<Access, AccessError> {
        self.tokens.as_deref().map_or(Ok(Access::Open), |path| Tokens::read(path).map(Access::Tokens))
    }
}

/// Why a server does not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServeError {
    /// It would be open to a network.
    Unprotected(SocketAddr),
    /// A thread is not to be had.
    Threads(io::Error),
    /// The address is not to be had.
    Listen(SocketAddr, io::Error),
    /// The state file.
    Marks(MarksError),
    /// The tokens file.
    Access(AccessError),
    /// The certificates.
    Tls(TlsError),
    /// The cluster whose locks it shares.
    Tier(String),
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unprotected(address) => write!(
                f,
                "{address} can be reached from other machines and nothing is asked of clients; give --tokens or \
                 --tls-client-roots, or listen on 127.0.0.1"
            ),
            Self::Threads(error) => write!(f, "{error}; ask for fewer with --threads"),
            Self::Listen(address, error) => write!(f, "{address}: {error}; choose another address with --listen"),
            Self::Marks(error) => error.fmt(f),
            Self::Access(error) => error.fmt(f),
            Self::Tls(error) => error.fmt(f),
            Self::Tier(error) => write!(f, "etcd: {error}"),
        }
    }
}

impl std::error::Error for ServeError {}

/// How a server stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Every lock was free; the next start grants from its first moment.
    Clean,
    /// Some were held; the next start waits for the longest promise.
    WithHolders,
}

/// A server that runs.
#[derive(Debug)]
pub struct Running {
    settings: Settings,
    shared: Arc<Shared>,
    tls: Arc<TlsSlot>,
    address: SocketAddr,
    tasks: Vec<JoinHandle<()>>,
    /// Gives the keys back at the end.
    tier: Option<JoinHandle<()>>,
}

/// Starts a server on the present tokio runtime.
///
/// # Errors
/// [`ServeError`] says what to change.
pub async fn start(settings: Settings) -> Result<Running, ServeError> {
    let is_open = settings.tokens.is_none() && !settings.wants_certificates();
    if is_open && !settings.listen.ip().is_loopback() {
        return Err(ServeError::Unprotected(settings.listen));
    }
    let access = settings.access().map_err(ServeError::Access)?;
    let tls = settings.tls.as_ref().map(server_config).transpose().map_err(ServeError::Tls)?;
    let listen_error = |error| ServeError::Listen(settings.listen, error);
    let listener = TcpListener::bind(settings.listen).await.map_err(listen_error)?;
    let address = listener.local_addr().map_err(listen_error)?;
    let marks = match &settings.state {
        Some(path) => Marks::open(path).map_err(ServeError::Marks)?,
        None => Marks::in_memory(),
    };
    let quiet = marks.1.quiet;
    let space = open_space(&settings, address).await?;
    let (tier, notes) = space.clone().map(Tier::new).unzip();
    let mut limits = settings.limits.clone();
    if tier.is_some() {
        limits.items = limits.items.min(MOST_ITEMS);
    }
    let shared = Shared::new(limits, marks, access, tier);
    let tls = Arc::new(TlsSlot::new(tls));
    let acceptor = Acceptor {
        listener,
        door: Door::new(Arc::clone(&shared)),
        shared: Arc::clone(&shared),
        tls: Arc::clone(&tls),
        threads: Threads::start(settings.threads).map_err(ServeError::Threads)?,
        most_connections: settings.connections,
        is_open,
    };
    let tasks = vec![
        tokio::spawn(Arc::clone(&shared).run_timer()),
        tokio::spawn(Arc::clone(&shared).run_fences()),
        tokio::spawn(acceptor.run()),
    ];
    let run_tier = |(space, notes)| tokio::spawn(super::tier::run(Arc::clone(&shared), space, notes));
    let tier = space.zip(notes).map(run_tier);
    tracing::info!(%address, epoch = shared.epoch(), quiet_ms = quiet.as_millis() as u64, "listening");
    Ok(Running { settings, shared, tls, address, tasks, tier })
}

async fn open_space(settings: &Settings, address: SocketAddr) -> Result<Option<Space>, ServeError> {
    let Some(etcd) = settings.etcd.clone() else { return Ok(None) };
    let opened = tokio::task::spawn_blocking(move || Space::open(&etcd, &address.to_string())).await;
    opened.unwrap_or_else(|error| Err(error.to_string())).map(Some).map_err(ServeError::Tier)
}

impl Running {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the epoch of this start.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.shared.epoch()
    }

    /// Reads tokens and certificates anew. Connections and sessions that exist go on.
    ///
    /// # Errors
    /// What is wrong in them; the server goes on with those that it has.
    pub fn reload(&self) -> Result<(), ServeError> {
        let access = self.settings.access().map_err(ServeError::Access)?;
        let tls = self.settings.tls.as_ref().map(server_config).transpose().map_err(ServeError::Tls)?;
        self.shared.set_access(access);
        *self.tls.write() = tls;
        Ok(())
    }

    /// Stops granting, waits for holders, then ends streams and connections.
    pub async fn stop(self) -> Stopped {
        let is_clean = self.shared.drain(self.settings.drain).await;
        self.shared.stop();
        for task in self.tasks.into_iter().chain(self.tier) {
            let _ = task.await;
        }
        if is_clean { Stopped::Clean } else { Stopped::WithHolders }
    }

    /// Ends everything in the middle, as a crash would.
    ///
    /// What it has at a tier stays there, until the clients know that they have lost it.
    pub fn abort(self) {
        self.shared.stop();
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}
