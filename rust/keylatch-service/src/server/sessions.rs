//! `/v1/sessions`: open, renew, end.

use super::asked::{name_of, request_body};
use super::auth::{Identity, Verb};
use super::body::{JsonBody, json};
use super::claim_wire::ClaimedBody;
use super::problem::Problem;
use super::shared::Shared;
use super::wire::{OpenBody, OpenedBody, RenewBody, RenewedBody, default_ttl_ms};
use crate::machine::{AttachPlan, Call, Open, RequestKey, SessionName};
use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use keylatch::claim::ClaimAnswer;
use std::sync::Arc;
use std::time::Duration;

/// `POST /v1/sessions`.
pub(super) async fn open(
    State(shared): State<Arc<Shared>>,
    Extension(identity): Extension<Identity>,
    JsonBody(body): JsonBody<OpenBody>,
) -> Result<Response, Problem> {
    identity.check_verb(Verb::Lock)?;
    check_owner(&shared, &body.owner)?;
    let ttl = Duration::from_millis(body.ttl_ms);
    let attach = if body.attach { AttachPlan::Attaches } else { AttachPlan::RenewsOnly };
    let grace = shared.limits().grace;
    shared.ensure_promise(if body.attach { ttl.min(grace) } else { ttl }).await?;
    let open = Open { owner: body.owner.into(), principal: identity.principal, ttl, attach };
    let opened =
        shared.step(|machine, now| machine.open(now, open)).map_err(|refusal| Problem::of(&refusal, shared.epoch()))?;
    Ok(json(
        StatusCode::CREATED,
        &OpenedBody {
            epoch: shared.epoch(),
            session: opened.session.to_string(),
            valid_ms: opened.valid.as_millis() as u64,
            grace_ms: grace.as_millis() as u64,
        },
    ))
}

fn check_owner(shared: &Shared, owner: &str) -> Result<(), Problem> {
    let limit = shared.limits().owner_bytes;
    if owner.len() > limit {
        return Err(Problem::invalid(format!("owner has {} bytes and may have {limit}", owner.len())));
    }
    Ok(())
}

/// Whose a numbered request is.
pub(super) enum Asker {
    Session(SessionName),
    /// A session is made for this request and ends with it.
    Unnamed(Open),
}

impl Asker {
    /// Reads the fields `session`, `owner` and `ttl_ms` of a request.
    pub(super) fn of(
        shared: &Shared,
        identity: &Identity,
        fields: (Option<&str>, Option<&str>, Option<u64>),
    ) -> Result<Self, Problem> {
        match fields {
            (Some(session), None, None) => name_of(session).map(Self::Session),
            (Some(_), ..) => {
                Err(Problem::invalid("owner and ttl_ms belong to the session; leave them out of its requests"))
            }
            (None, owner, ttl_ms) => {
                let owner = owner.unwrap_or_default();
                check_owner(shared, owner)?;
                Ok(Self::Unnamed(Open {
                    owner: owner.into(),
                    principal: Arc::clone(&identity.principal),
                    ttl: Duration::from_millis(ttl_ms.unwrap_or_else(default_ttl_ms)),
                    attach: AttachPlan::RenewsOnly,
                }))
            }
        }
    }

    /// Makes sure that what the server promises with a new session outlives a crash.
    pub(super) async fn ensure_promise(&self, shared: &Arc<Shared>) -> Result<(), Problem> {
        match self {
            Self::Session(_) => Ok(()),
            Self::Unnamed(open) => shared.ensure_promise(open.ttl).await,
        }
    }
}

/// `POST /v1/sessions/{session}/renew`.
pub(super) async fn renew(
    State(shared): State<Arc<Shared>>,
    Extension(identity): Extension<Identity>,
    Path(session): Path<String>,
    JsonBody(body): JsonBody<RenewBody>,
) -> Result<Response, Problem> {
    if body.session.as_ref().is_some_and(|named| *named != session) {
        return Err(Problem::invalid("the body names another session than the path"));
    }
    renewed(&shared, &identity, &session, &body)
}

/// `POST /v1/renew`.
pub(super) async fn renew_named(
    State(shared): State<Arc<Shared>>,
    Extension(identity): Extension<Identity>,
    JsonBody(body): JsonBody<RenewBody>,
) -> Result<Response, Problem> {
    let session = body.session.as_deref().ok_or_else(|| Problem::invalid("session is missing"))?;
    renewed(&shared, &identity, session, &body)
}

fn renewed(shared: &Shared, identity: &Identity, session: &str, body: &RenewBody) -> Result<Response, Problem> {
    identity.check_verb(Verb::Lock)?;
    let session = name_of(session)?;
    if body.open.len() > shared.limits().open_requests {
        return Err(Problem::invalid(format!("open lists more than {} numbers", shared.limits().open_requests)));
    }
    if body.next.is_none() && !body.open.is_empty() {
        return Err(Problem::invalid("open needs next: the number that the client uses next"));
    }
    let principal = &*identity.principal;
    let answer = shared.step(|machine, now| {
        let call = Call { now, session, principal, settled_below: body.settled_below };
        let renewed = machine.renew(call, body.next, &body.open)?;
        let valid = machine.promised_from(session.number, now);
        let requests =
            renewed.requests.iter().map(|(number, answer)| request_body(session, *number, answer, valid)).collect();
        let claims = renewed.claims.iter().map(|(number, answer)| {
            let body = ClaimedBody::new(session.epoch, session.number, *number, answer);
            match answer {
                ClaimAnswer::Yours(owned) => {
                    let key = RequestKey { session: session.number, number: *number };
                    body.valid_for(machine.claim_valid_from(now, key, owned.grant, now))
                }
                _ => body,
            }
        });
        let claims = claims.collect();
        Ok((renewed.valid, requests, claims))
    });
    let (valid, requests, claims) = answer.map_err(|refusal| Problem::of(&refusal, shared.epoch()))?;
    let body = RenewedBody { epoch: shared.epoch(), valid_ms: valid.as_millis() as u64, requests, claims };
    Ok(json(StatusCode::OK, &body))
}

/// `DELETE /v1/sessions/{session}`.
pub(super) async fn end(
    State(shared): State<Arc<Shared>>,
    Extension(identity): Extension<Identity>,
    Path(session): Path<String>,
) -> Result<StatusCode, Problem> {
    identity.check_verb(Verb::Lock)?;
    let session = name_of(&session)?;
    shared
        .step(|machine, now| machine.end(Call { now, session, principal: &identity.principal, settled_below: 0 }))
        .map_err(|refusal| Problem::of(&refusal, shared.epoch()))?;
    Ok(StatusCode::NO_CONTENT)
}
