//! `/v1/claim`, `/v1/complete`, `/v1/progress`, `GET /v1/claims`.

use super::asked::{check_key, name_of, poll_time};
use super::auth::{Identity, Verb};
use super::body::{JsonBody, Params, json};
use super::claim_rows::ClaimRow;
use super::claim_wire::{ClaimBody, ClaimedBody, CompleteBody, ProgressBody, ProgressedBody};
use super::listings::{ListQuery, cursor};
use super::problem::{Problem, code, not_owned};
use super::sessions::Asker;
use super::shared::{Phase, Shared};
use super::wire::ListBody;
use crate::machine::{Call, Grant, Machine, Refusal, Report, RequestKey, SessionName};
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use keylatch::ObjectKey;
use keylatch::claim::{ClaimAnswer, ClaimLine, ClaimPolicy, ClaimProgress, ClaimWhenTaken};
use std::sync::Arc;
use std::time::Duration;

/// A claim that was checked, ready for the machine.
struct ClaimCall {
    asker: Asker,
    number: u64,
    settled_below: u64,
    resource: ObjectKey,
    policy: ClaimPolicy,
}

/// `POST /v1/claim`.
pub(super) async fn claim(
    State(shared): State<Arc<Shared>>,
    Extension(identity): Extension<Identity>,
    JsonBody(body): JsonBody<ClaimBody>,
) -> Result<Response, Problem> {
    let call = checked(&shared, &identity, &body)?;
    let poll = poll_time(body.wait_ms, body.client_timeout_ms);
    // A waiter keeps what it needs, and not what it was read from.
    drop(body);
    call.asker.ensure_promise(&shared).await?;
    let arrived = shared.now();
    let refused = |refusal: Refusal| Problem::of(&refusal, shared.epoch());
    let (answer, parked) = shared.step_and_park(|machine, now| {
        let answer = first_answer(machine, now, &identity, &call);
        let park = match &answer {
            Ok((session, ClaimAnswer::Waiting { .. })) if !poll.is_zero() => {
                Some(RequestKey { session: session.number, number: call.number })
            }
            _ => None,
        };
        (answer, park)
    });
    let (session, mut answer) = answer.map_err(refused)?;
    if let Some(parked) = parked {
        let _ = tokio::time::timeout(poll, parked).await;
        answer = shared
            .step(|machine, now| {
                let again = Call { now, session, principal: &identity.principal, settled_below: 0 };
                machine.claim(again, call.number, &call.resource, &call.policy)
            })
            .map_err(refused)?;
        if shared.phase() != Phase::Serving && matches!(answer, ClaimAnswer::Waiting { .. }) {
            return Err(refused(Refusal::Closing));
        }
    }
    let key = RequestKey { session: session.number, number: call.number };
    Ok(answered(&shared, key, &answer, arrived))
}

fn first_answer(
    machine: &mut Machine,
    now: Duration,
    identity: &Identity,
    call: &ClaimCall,
) -> Result<(SessionName, ClaimAnswer), Refusal> {
    let session = match &call.asker {
        Asker::Session(session) => *session,
        Asker::Unnamed(open) => {
            return machine.claim_implicit(now, open.clone(), call.number, (&call.resource, &call.policy));
        }
    };
    let as_session = Call { now, session, principal: &identity.principal, settled_below: call.settled_below };
    Ok((session, machine.claim(as_session, call.number, &call.resource, &call.policy)?))
}

fn answered(shared: &Shared, key: RequestKey, answer: &ClaimAnswer, arrived: Duration) -> Response {
    let body = ClaimedBody::new(shared.epoch(), key.session, key.number, answer);
    match answer {
        ClaimAnswer::Yours(owned) => {
            let valid = shared.step(|machine, now| machine.claim_valid_from(now, key, owned.grant, arrived));
            json(StatusCode::OK, &body.valid_for(valid))
        }
        ClaimAnswer::Waiting { .. } => json(StatusCode::ACCEPTED, &body),
        ClaimAnswer::Lost(_) | ClaimAnswer::Cancelled { .. } => not_owned(shared.epoch(), answer).into_response(),
        _ => json(StatusCode::OK, &body),
    }
}

fn checked(shared: &Shared, identity: &Identity, body: &ClaimBody) -> Result<ClaimCall, Problem> {
    if shared.has_tier() {
        let detail = "this server shares its locks with others, and has no claims; use one without a tier";
        return Err(Problem::invalid(detail).code(code::CONFIG));
    }
    let resource = ObjectKey::from(&body.resource);
    check_key(shared.limits().key_bytes, &resource)?;
    identity.check(Verb::Lock, &resource)?;
    let asker = Asker::of(shared, identity, (body.session.as_deref(), body.owner.as_deref(), body.ttl_ms))?;
    if body.max_attempts == Some(0) {
        return Err(Problem::invalid("max_attempts is 0; allow at least 1 or leave it out"));
    }
    let policy = ClaimPolicy {
        max_attempts: body.max_attempts,
        retry_after: Duration::from_millis(body.retry_after_ms),
        when_taken: if body.skip_if_claimed { ClaimWhenTaken::Skip } else { ClaimWhenTaken::Wait },
        line: if body.latest_only { ClaimLine::LatestOnly } else { ClaimLine::All },
        max_waiting: body.max_waiting,
        lease: body.lease_ms.map(Duration::from_millis),
    };
    Ok(ClaimCall { asker, number: body.request_id, settled_below: body.settled_below, resource, policy })
}

fn grant_of(text: &str) -> Result<Grant, Problem> {
    text.parse().map_err(|()| Problem::invalid("grant is not what /v1/claim answered"))
}

/// `POST /v1/complete`.
pub(super) async fn complete(
    State(shared): State<Arc<Shared>>,
    Extension(identity): Extension<Identity>,
    JsonBody(body): JsonBody<CompleteBody>,
) -> Result<Response, Problem> {
    identity.check_verb(Verb::Lock)?;
    let (session, grant) = (name_of(&body.session)?, grant_of(&body.grant)?);
    let result = match (body.note, body.error) {
        (Some(note), None) => Ok(note.into()),
        (None, Some(reason)) => Err(reason.into()),
        _ => return Err(Problem::invalid("give either note, for a success, or error, for a failure")),
    };
    let answer = shared
        .step(|machine, now| {
            let call = Call { now, session, principal: &identity.principal, settled_below: body.settled_below };
            machine.complete(call, body.request_id, grant, result)
        })
        .map_err(|refusal| Problem::of(&refusal, shared.epoch()))?;
    match answer {
        ClaimAnswer::Ended(_) => {
            Ok(json(StatusCode::OK, &ClaimedBody::new(shared.epoch(), session.number, body.request_id, &answer)))
        }
        answer => Err(not_owned(shared.epoch(), &answer)),
    }
}

/// `POST /v1/progress`.
pub(super) async fn progress(
    State(shared): State<Arc<Shared>>,
    Extension(identity): Extension<Identity>,
    JsonBody(body): JsonBody<ProgressBody>,
) -> Result<Response, Problem> {
    identity.check_verb(Verb::Lock)?;
    let (session, grant) = (name_of(&body.session)?, grant_of(&body.grant)?);
    if body.done.is_none() && body.lease_ms.is_none() {
        return Err(Problem::invalid("give done, lease_ms or both"));
    }
    let progress =
        body.done.map(|done| ClaimProgress { done, total: body.total, address: body.address.as_str().into() });
    let report = Report { progress, lease: body.lease_ms.map(Duration::from_millis) };
    let answer = shared.step(|machine, now| {
        let call = Call { now, session, principal: &identity.principal, settled_below: body.settled_below };
        machine.report(call, body.request_id, grant, report)?;
        let key = RequestKey { session: session.number, number: body.request_id };
        let grant = keylatch::claim::ClaimGrant { epoch: grant.epoch, fence: grant.fence };
        Ok(machine.claim_valid_from(now, key, grant, now))
    });
    let valid = answer.map_err(|refusal| Problem::of(&refusal, shared.epoch()))?;
    Ok(json(StatusCode::OK, &ProgressedBody { epoch: shared.epoch(), valid_ms: valid.as_millis() as u64 }))
}

/// `GET /v1/claims`.
pub(super) async fn claims(
    State(shared): State<Arc<Shared>>,
    Extension(identity): Extension<Identity>,
    Params(query): Params<ListQuery>,
) -> Result<Response, Problem> {
    identity.check_verb(Verb::List)?;
    let (filter, after) = (query.filter(shared.epoch())?, query.after()?);
    let (page, now) = shared.step(|machine, now| (machine.claims(now, &filter, after.as_ref(), query.most()), now));
    let visible = page.rows.iter().filter(|claim| identity.may(Verb::List, &claim.resource));
    let rows = visible.map(|claim| ClaimRow::new(claim, now)).collect();
    let body = ListBody { epoch: shared.epoch(), rows, next: page.next.as_ref().map(cursor) };
    Ok(json(StatusCode::OK, &body))
}
