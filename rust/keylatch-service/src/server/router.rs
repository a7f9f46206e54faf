//! Which call goes where, and what each has to pass first.

use super::auth::Identity;
use super::host::{names_this_machine, other_host};
use super::problem::Problem;
use super::shared::Shared;
use super::{attach, claims, events, listings, locks, sessions, status};
use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use tower::ServiceExt as _;

/// Every call: method and path, as the OpenAPI document has them.
pub const ROUTES: [(&str, &str); 20] = [
    ("post", "/v1/sessions"),
    ("delete", "/v1/sessions/{session}"),
    ("get", "/v1/sessions/{session}/attach"),
    ("post", "/v1/sessions/{session}/renew"),
    ("post", "/v1/renew"),
    ("post", "/v1/lock"),
    ("post", "/v1/unlock"),
    ("post", "/v1/cancel"),
    ("post", "/v1/claim"),
    ("post", "/v1/complete"),
    ("post", "/v1/progress"),
    ("get", "/v1/claims"),
    ("get", "/v1/locks"),
    ("get", "/v1/waiters"),
    ("get", "/v1/events"),
    ("post", "/v1/force-release"),
    ("get", "/metrics"),
    ("get", "/healthz"),
    ("get", "/openapi.json"),
    ("get", "/"),
];

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/sessions", post(sessions::open))
        .route("/v1/sessions/{session}", delete(sessions::end))
        .route("/v1/sessions/{session}/attach", get(attach::attach))
        .route("/v1/sessions/{session}/renew", post(sessions::renew))
        .route("/v1/renew", post(sessions::renew_named))
        .route("/v1/lock", post(locks::lock))
        .route("/v1/unlock", post(locks::unlock))
        .route("/v1/cancel", post(locks::cancel))
        .route("/v1/claim", post(claims::claim))
        .route("/v1/complete", post(claims::complete))
        .route("/v1/progress", post(claims::progress))
        .route("/v1/claims", get(claims::claims))
        .route("/v1/locks", get(listings::locks))
        .route("/v1/waiters", get(listings::waiters))
        .route("/v1/events", get(events::events))
        .route("/v1/force-release", post(listings::force_release))
        .route("/metrics", get(status::metrics))
        .route("/healthz", get(status::healthz))
        .route("/openapi.json", get(status::openapi))
        .route("/", get(status::page))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .with_state(shared)
}

async fn no_such_path() -> Response {
    Problem::new("no_such_path", StatusCode::NOT_FOUND, "the calls are listed in /openapi.json").into_response()
}

async fn no_such_method() -> Response {
    let detail = "this path has another method; see /openapi.json";
    Problem::new("no_such_method", StatusCode::METHOD_NOT_ALLOWED, detail).into_response()
}

/// Paths that need no token: they say nothing about locks.
const OPEN: [&str; 3] = ["/healthz", "/openapi.json", "/"];

/// Who is at the other end of a connection.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// A name for the client's certificate; empty without one.
    pub(super) certificate: Arc<str>,
    /// Whether this server wants no authentication.
    pub(super) is_open: bool,
}

/// All calls, behind what each has to pass first.
#[derive(Debug, Clone)]
pub(super) struct Door {
    router: Router,
    shared: Arc<Shared>,
}

impl Door {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { router: router(Arc::clone(&shared)), shared }
    }

    /// Answers a request.
    pub(super) async fn enter(self, peer: &Peer, mut request: Request) -> Result<Response, Infallible> {
        if peer.is_open && !names_this_machine(request.headers()) {
            return Ok(other_host().into_response());
        }
        if let Err(problem) = self.authenticate(peer, &mut request) {
            return Ok(problem.into_response());
        }
        self.router.oneshot(request).await
    }

    /// Notes who makes a request, or refuses it. The header is never logged.
    ///
    /// A path that is added to the router needs a token, unless it is named as open.
    fn authenticate(&self, peer: &Peer, request: &mut Request) -> Result<(), Problem> {
        let path = request.uri().path();
        if OPEN.contains(&path) {
            return Ok(());
        }
        let identity = self.shared.access().identify(request.headers(), &peer.certificate).inspect_err(|problem| {
            tracing::warn!(peer = %peer.address, %path, reason = %problem.detail, "refused");
        })?;
        request.extensions_mut().insert::<Identity>(identity);
        Ok(())
    }
}
