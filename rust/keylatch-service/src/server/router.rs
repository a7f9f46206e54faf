//! Which call goes where, and what each has to pass first.

use super::auth::Identity;
use super::listen::Peer;
use super::problem::Problem;
use super::shared::Shared;
use super::{attach, claims, events, listings, locks, sessions, status};
use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use futures_util::future::{Either, Ready, ready};
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use tower::Service;
use tower::layer::layer_fn;

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

pub(super) fn router(shared: Arc<Shared>) -> Router {
    let authenticated = {
        let shared = Arc::clone(&shared);
        layer_fn(move |inner| Authenticated { inner, shared: Arc::clone(&shared) })
    };
    let guarded = Router::new()
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
        .layer(authenticated);
    // These say nothing about locks, so that a probe and a browser need no token for them.
    let open = Router::new()
        .route("/healthz", get(status::healthz))
        .route("/openapi.json", get(status::openapi))
        .route("/", get(status::page));
    guarded.merge(open).fallback(no_such_path).method_not_allowed_fallback(no_such_method).with_state(shared)
}

async fn no_such_path() -> Response {
    Problem::new("no_such_path", StatusCode::NOT_FOUND, "the calls are listed in /openapi.json").into_response()
}

async fn no_such_method() -> Response {
    let detail = "this path has another method; see /openapi.json";
    Problem::new("no_such_method", StatusCode::METHOD_NOT_ALLOWED, detail).into_response()
}

/// Notes who makes a request, or refuses it, before the inner service hears of it.
#[derive(Debug, Clone)]
struct Authenticated<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> Service<Request> for Authenticated<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Result<Response, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        match authenticate(&self.shared, &mut request) {
            Ok(()) => Either::Left(self.inner.call(request)),
            Err(problem) => Either::Right(ready(Ok(problem.into_response()))),
        }
    }
}

/// Notes who makes the request. The header is never logged.
fn authenticate(shared: &Shared, request: &mut Request) -> Result<(), Problem> {
    let peer = request.extensions().get::<Peer>().cloned().unwrap_or_default();
    let identity = shared.access().identify(request.headers(), &peer.certificate).inspect_err(|problem| {
        let path = request.uri().path();
        tracing::warn!(peer = %peer.address, %path, reason = %problem.detail, "refused");
    })?;
    request.extensions_mut().insert::<Identity>(identity);
    Ok(())
}
