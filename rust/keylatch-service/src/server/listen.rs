//! Accepting connections.

use super::auth::fingerprint;
use super::router::{Door, Peer};
use super::shared::Shared;
use super::threads::Threads;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use parking_lot::RwLock;
use rustls::ServerConfig;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

/// A client sends the head of a request, and finishes its handshake, within this.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// Connections that are open get this long to end when the server stops.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The TLS settings in use; `None` for plain text. Reloading replaces them.
pub(super) type TlsSlot = RwLock<Option<Arc<ServerConfig>>>;

pub(super) struct Acceptor {
    pub(super) listener: TcpListener,
    pub(super) door: Door,
    pub(super) shared: Arc<Shared>,
    pub(super) tls: Arc<TlsSlot>,
    pub(super) threads: Threads,
    pub(super) most_connections: usize,
    pub(super) is_open: bool,
}

impl Acceptor {
    /// Accepts connections until the server stops, and lets those that are open end.
    pub(super) async fn run(mut self) {
        let graceful = GracefulShutdown::new();
        let free = Arc::new(Semaphore::new(self.most_connections));
        loop {
            let (stream, address) = tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        // No descriptor is left, most likely; connections that end free some.
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
                () = self.shared.stopped() => break,
            };
            let Ok(permit) = Arc::clone(&free).try_acquire_owned() else {
                tracing::warn!(peer = %address, limit = self.most_connections, "too many connections");
                continue;
            };
            let (door, watcher, is_open) = (self.door.clone(), graceful.watcher(), self.is_open);
            let tls = self.tls.read().clone();
            self.threads.serve(stream, move |stream| async move {
                serve(stream, address, (tls, is_open), (door, watcher)).await;
                drop(permit);
            });
        }
        drop(self.listener);
        let _ = tokio::time::timeout(LAST_WORDS, graceful.shutdown()).await;
    }
}

async fn serve(
    stream: TcpStream,
    address: SocketAddr,
    (tls, is_open): (Option<Arc<ServerConfig>>, bool),
    to: (Door, Watcher),
) {
    let _ = stream.set_nodelay(true);
    let peer = Peer { address, certificate: "".into(), is_open };
    match tls {
        None => serve_http(stream, peer, to).await,
        // A waiter in plain text does not carry the room that this takes.
        Some(tls) => Box::pin(serve_tls(stream, tls, peer, to)).await,
    }
}

async fn serve_tls(stream: TcpStream, tls: Arc<ServerConfig>, mut peer: Peer, to: (Door, Watcher)) {
    match tokio::time::timeout(HEAD_TIME, TlsAcceptor::from(tls).accept(stream)).await {
        Ok(Ok(stream)) => {
            let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
            if let Some(certificate) = shown {
                peer.certificate = fingerprint(certificate);
            }
            serve_http(stream, peer, to).await;
        }
        // What a client sent in plain text may be a token: the error does not quote it.
        Ok(Err(error)) => tracing::warn!(peer = %peer.address, %error, "refused: no TLS handshake"),
        Err(_) => tracing::warn!(peer = %peer.address, "refused: the TLS handshake took too long"),
    }
}

async fn serve_http<S>(stream: S, peer: Peer, (door, watcher): (Door, Watcher))
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let address = peer.address;
    let peer = Arc::new(peer);
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let (door, peer) = (door.clone(), Arc::clone(&peer));
        async move { door.enter(&peer, request.map(axum::body::Body::new)).await }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        // A client that cuts its connection does so often and rightly.
        tracing::debug!(peer = %address, %error, "a connection ended");
    }
}
