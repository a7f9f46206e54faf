//! Which call goes where, and what each has to pass first.

use super::auth::Identity;
use super::listen::Peer;
use super::problem::Problem;
use super::shared::Shared;
use super::{attach, claims, events, listings, locks, sessions, status};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use std::sync::Arc;

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
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), authenticate));
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

/// Notes who makes the request, or refuses it. The header is never logged.
async fn authenticate(State(shared): State<Arc<Shared>>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().cloned().unwrap_or_default();
    match shared.access().identify(request.headers(), &peer.certificate) {
        Ok(identity) => {
            request.extensions_mut().insert::<Identity>(identity);
            next.run(request).await
        }
        Err(problem) => {
            let path = request.uri().path().to_owned();
            tracing::warn!(peer = %peer.address, %path, reason = %problem.detail, "refused");
            problem.into_response()
        }
    }
}
