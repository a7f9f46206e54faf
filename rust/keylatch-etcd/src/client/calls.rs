//! Requests with one answer each: sent again until there is one.

use super::auth::Auth;
use super::channels::{Channels, Connection};
use super::reason;
use crate::config::EtcdConfig;
use crate::error::EtcdError;
use crate::wire::{
    AuthenticateRequest, AuthenticateResponse, DeleteRangeRequest, DeleteRangeResponse, LeaseGrantRequest,
    LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseRevokeRequest, LeaseRevokeResponse,
    RangeRequest, RangeResponse, ResponseHeader, StatusRequest, StatusResponse, TxnRequest, TxnResponse, WatchRequest,
    WatchResponse,
};
use http::uri::PathAndQuery;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio_stream::Stream;
use tonic::client::Grpc;
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

/// The first pause after an attempt that failed.
///
/// The next is twice as long, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// As often as one request asks for another login.
const LOGINS: u32 = 5;

/// A client of one cluster.
#[derive(Debug)]
pub(crate) struct Client {
    pub(super) channels: Channels,
    pub(super) auth: Auth,
    /// How long one attempt may take.
    attempt: Duration,
    prefix: String,
    /// The cluster of the session; 0 before its first answer.
    cluster: AtomicU64,
}

/// Which copy of a request is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// Each copy before it was answered.
    First,
    /// A copy before it may still arrive.
    Again,
}

/// An answer, and whether an earlier copy of its request may still arrive.
#[derive(Debug)]
pub(crate) struct Answer<R> {
    pub(crate) body: R,
    pub(crate) is_repeated: bool,
}

impl<R> Answer<R> {
    pub(crate) fn map<T>(self, read: impl FnOnce(R) -> T) -> Answer<T> {
        Answer { body: read(self.body), is_repeated: self.is_repeated }
    }
}

/// A request that has no answer, for good.
#[derive(Debug, Clone)]
pub(crate) enum CallError {
    /// The lease that it names does not exist.
    NoLease,
    /// The server refused the only copy: nothing was or will be done.
    Refused(EtcdError),
    /// The server answered the only copy that its database is full.
    ///
    /// It may have carried the request out, and has seen afterwards that it is.
    Full,
    /// Another error.
    Failed(EtcdError),
}

impl CallError {
    /// The error, unless the lease is what is missing.
    pub(crate) fn problem(self) -> Option<EtcdError> {
        match self {
            Self::NoLease => None,
            Self::Full => Some(EtcdError::NoSpace),
            Self::Refused(error) | Self::Failed(error) => Some(error),
        }
    }
}

/// Whether a server that says so has not carried the request out.
fn is_refusal(error: &EtcdError) -> bool {
    matches!(
        error,
        EtcdError::NotPermitted { .. }
            | EtcdError::Login { .. }
            | EtcdError::RequestTooLarge
            | EtcdError::TooManyOperations
    )
}

impl From<CallError> for EtcdError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NoLease => Self::Server { problem: "the lease does not exist".into() },
            CallError::Full => Self::NoSpace,
            CallError::Refused(error) | CallError::Failed(error) => error,
        }
    }
}

impl Client {
    /// Needs a runtime around it, and connects to nothing yet.
    pub(crate) fn new(config: &EtcdConfig) -> Result<Self, EtcdError> {
        // A renewal that fails leaves time for two more before the lease is over.
        let attempt = (config.ttl / 6).clamp(Duration::from_millis(300), Duration::from_secs(2));
        let channels = Channels::new(config, attempt)?;
        let prefix = format!("keylatch/1/{}/", config.namespace);
        Ok(Self { channels, auth: Auth::new(config.user.clone()), attempt, prefix, cluster: AtomicU64::new(0) })
    }

    /// Sends a transaction.
    ///
    /// An answer of another cluster, such as one restored from a backup, means that our lease does not exist.
    pub(crate) async fn txn(&self, request: TxnRequest) -> Result<Answer<TxnResponse>, CallError> {
        self.txn_of(|_| request.clone()).await
    }

    /// Sends a transaction whose first copy is another than those after it.
    pub(crate) async fn txn_of(&self, request: impl Fn(Sent) -> TxnRequest) -> Result<Answer<TxnResponse>, CallError> {
        let answer: Answer<TxnResponse> = self.call("/etcdserverpb.KV/Txn", request).await?;
        if self.is_of_cluster(answer.body.header) { Ok(answer) } else { Err(CallError::NoLease) }
    }

    /// Remembers the cluster of the first answer, and compares the later ones with it.
    fn is_of_cluster(&self, header: Option<ResponseHeader>) -> bool {
        let id = header.map_or(0, |header| header.cluster_id);
        match self.cluster.compare_exchange(0, id, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => true,
            Err(known) => known == id,
        }
    }

    /// Takes the cluster of the next answer as the one to keep to.
    pub(crate) fn forget_cluster(&self) {
        self.cluster.store(0, Ordering::Relaxed);
    }

    pub(crate) async fn range(&self, request: RangeRequest) -> Result<RangeResponse, CallError> {
        Ok(self.call("/etcdserverpb.KV/Range", |_| request.clone()).await?.body)
    }

    pub(crate) async fn delete(&self, key: Vec<u8>) -> Result<Answer<DeleteRangeResponse>, CallError> {
        let request = |_| DeleteRangeRequest { key: key.clone(), ..DeleteRangeRequest::default() };
        self.call("/etcdserverpb.KV/DeleteRange", request).await
    }

    /// Asks for a lease: one attempt, because the time counts from its beginning.
    ///
    /// Nothing without an answer.
    pub(crate) async fn grant_lease(&self, ttl: i64) -> Result<Option<LeaseGrantResponse>, CallError> {
        let (connection, login) = (self.channels.current(), self.auth.number());
        let request = LeaseGrantRequest { ttl, id: 0 };
        match self.attempt(&connection, "/etcdserverpb.Lease/LeaseGrant", request).await {
            Ok(answer) => Ok(Some(answer)),
            Err(status) if self.has_stale_login(&status) => {
                self.auth.forget(login);
                Ok(None)
            }
            Err(status) if reason::is_transient(&status) => {
                self.channels.move_on(&connection);
                Ok(None)
            }
            Err(status) => Err(self.explain(&status)),
        }
    }

    pub(crate) async fn revoke_lease(&self, id: i64) -> Result<LeaseRevokeResponse, CallError> {
        Ok(self.call("/etcdserverpb.Lease/LeaseRevoke", |_| LeaseRevokeRequest { id }).await?.body)
    }

    /// Renews a lease: one attempt, because the time counts from its beginning.
    ///
    /// Returns the seconds that it lasts, 0 if it does not exist, or nothing if there is no answer.
    pub(crate) async fn keep_alive(&self, id: i64) -> Option<i64> {
        let (connection, login) = (self.channels.current(), self.auth.number());
        let answer = tokio::time::timeout(self.attempt, async {
            self.login(&connection).await?;
            let request = tokio_stream::once(LeaseKeepAliveRequest { id });
            let path = PathAndQuery::from_static("/etcdserverpb.Lease/LeaseKeepAlive");
            let mut grpc = Grpc::new(connection.channel.clone());
            grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
            let codec = ProstCodec::<LeaseKeepAliveRequest, LeaseKeepAliveResponse>::new();
            let mut answers = grpc.streaming(self.request(request), path, codec).await?.into_inner();
            answers.message().await?.ok_or_else(|| Status::unavailable("the stream ended"))
        })
        .await
        .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")));
        match answer {
            Ok(answer) if !self.is_of_cluster(answer.header) => Some(0),
            Ok(answer) => Some(answer.ttl),
            Err(status) if status.code() == Code::NotFound => Some(0),
            Err(status) => {
                if self.has_stale_login(&status) {
                    self.auth.forget(login);
                } else {
                    self.channels.move_on(&connection);
                }
                None
            }
        }
    }

    /// A stream of watches on a connection, and the number of its login.
    pub(super) async fn watch<S>(&self, on: &Connection, requests: S) -> Result<(Streaming<WatchResponse>, u64), Status>
    where
        S: Stream<Item = WatchRequest> + Send + 'static,
    {
        let silent = |_| Err(Status::deadline_exceeded("no answer"));
        tokio::time::timeout(self.attempt, self.login(on)).await.unwrap_or_else(silent)?;
        let login = self.auth.number();
        let mut grpc = Grpc::new(on.channel.clone());
        grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
        let path = PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
        let codec = ProstCodec::<WatchRequest, WatchResponse>::new();
        let answer = grpc.streaming(self.request(requests), path, codec).await;
        if answer.as_ref().is_err_and(|status| self.has_stale_login(status)) {
            self.auth.forget(login);
        }
        Ok((answer?.into_inner(), login))
    }

    /// Asks for a login, unless there was one after this number.
    pub(super) fn forget_login(&self, number: u64) {
        self.auth.forget(number);
    }

    pub(super) async fn status(&self, on: &Connection) -> Result<StatusResponse, Status> {
        self.attempt(on, "/etcdserverpb.Maintenance/Status", StatusRequest {}).await
    }

    pub(super) fn names(&self) -> &[String] {
        self.channels.names()
    }

    /// Sends a request until there is an answer; ends when it is dropped.
    ///
    /// Each request of the protocol may be carried out twice without harm.
    async fn call<Q, R>(&self, path: &'static str, request: impl Fn(Sent) -> Q) -> Result<Answer<R>, CallError>
    where
        Q: prost::Message + 'static,
        R: prost::Message + Default + 'static,
    {
        let mut pause = FIRST_PAUSE;
        let mut is_repeated = false;
        let mut logins = 0;
        loop {
            let (connection, login) = (self.channels.current(), self.auth.number());
            let sent = if is_repeated { Sent::Again } else { Sent::First };
            match self.attempt(&connection, path, request(sent)).await {
                Ok(body) => return Ok(Answer { body, is_repeated }),
                Err(status) if self.has_stale_login(&status) && logins < LOGINS => {
                    self.auth.forget(login);
                    logins += 1;
                }
                Err(status) if reason::is_transient(&status) => {
                    is_repeated = true;
                    if status.code() != Code::ResourceExhausted {
                        self.channels.move_on(&connection);
                    }
                    tokio::time::sleep(jittered(pause)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(status) => {
                    return Err(match self.explain(&status) {
                        CallError::Failed(EtcdError::NoSpace) if !is_repeated => CallError::Full,
                        CallError::Failed(error) if !is_repeated && is_refusal(&error) => CallError::Refused(error),
                        other => other,
                    });
                }
            }
        }
    }

    /// Whether another login may help.
    fn has_stale_login(&self, status: &Status) -> bool {
        let is_stale = reason::is_stale_token(status) || self.auth.is_off() && reason::is_login(status);
        is_stale && self.auth.user().is_some()
    }

    /// Sends a request once.
    async fn attempt<Q, R>(&self, on: &Connection, path: &'static str, request: Q) -> Result<R, Status>
    where
        Q: prost::Message + 'static,
        R: prost::Message + Default + 'static,
    {
        let sent = async {
            self.login(on).await?;
            self.unary(on, path, request).await
        };
        tokio::time::timeout(self.attempt, sent).await.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")))
    }

    async fn unary<Q, R>(&self, on: &Connection, path: &'static str, request: Q) -> Result<R, Status>
    where
        Q: prost::Message + 'static,
        R: prost::Message + Default + 'static,
    {
        let mut grpc = Grpc::new(on.channel.clone());
        grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
        let codec = ProstCodec::<Q, R>::new();
        Ok(grpc.unary(self.request(request), PathAndQuery::from_static(path), codec).await?.into_inner())
    }

    /// Gets a token, if there has to be one.
    async fn login(&self, on: &Connection) -> Result<(), Status> {
        let Some((name, password)) = self.auth.user().filter(|_| self.auth.needs_token()) else { return Ok(()) };
        let _turn = self.auth.turn.lock().await;
        // Another request may have logged in meanwhile.
        if self.auth.needs_token() {
            let request = AuthenticateRequest { name: name.clone(), password: password.clone() };
            match self.unary::<_, AuthenticateResponse>(on, "/etcdserverpb.Auth/Authenticate", request).await {
                Ok(answer) => self.auth.keep(&answer.token),
                // A cluster without authentication takes everyone.
                Err(status) if status.message().contains("authentication is not enabled") => self.auth.turn_off(),
                Err(status) => return Err(status),
            }
        }
        Ok(())
    }

    fn request<Q>(&self, body: Q) -> Request<Q> {
        let mut request = Request::new(body);
        // A member that is cut off from the others says so, instead of waiting for them.
        request.metadata_mut().insert("hasleader", tonic::metadata::MetadataValue::from_static("true"));
        if let Some(token) = self.auth.token() {
            request.metadata_mut().insert("token", token);
        }
        request
    }

    pub(super) fn explain(&self, status: &Status) -> CallError {
        let error = if reason::is_login(status) {
            EtcdError::Login { user: self.auth.name().to_owned() }
        } else if status.code() == Code::PermissionDenied {
            EtcdError::NotPermitted { prefix: self.prefix.clone() }
        } else if status.message().contains("database space exceeded") {
            EtcdError::NoSpace
        } else if reason::is_too_large(status) {
            EtcdError::RequestTooLarge
        } else if reason::has_too_many_operations(status) {
            EtcdError::TooManyOperations
        } else if status.message().contains("requested lease not found") {
            return CallError::NoLease;
        } else {
            EtcdError::Server { problem: reason::text(status) }
        };
        CallError::Failed(error)
    }
}

/// Between half and all of a pause.
///
/// Clients that failed together do not come back together.
fn jittered(pause: Duration) -> Duration {
    let part = crate::clock::boottime() % 1_000;
    pause / 2 + pause.mul_f64(part as f64 / 2_000.0)
}
