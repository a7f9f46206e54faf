//! `/v1/lock`, `/v1/unlock`, `/v1/cancel`.

use super::asked::{check_key, name_of, poll_time, request_body};
use super::auth::{Identity, Verb};
use super::body::{JsonBody, json};
use super::claim_wire::ClaimedBody;
use super::problem::{Problem, code, not_owned};
use super::sessions::Asker;
use super::shared::{Phase, Shared};
use super::wire::{EndBody, HolderRow, LockBody, RequestBody};
use crate::machine::{Answer, Ask, Call, CancelAnswer, Item, Refusal, RequestKey, SessionName, Wait};
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use keylatch::claim::ClaimAnswer;
use std::sync::Arc;
use std::time::Duration;

/// For how long a try waits for the tier: longer than that takes to answer.
const LONGEST_TRY: Duration = Duration::from_secs(15);

/// A lock call that was checked, ready for the machine.
struct LockCall {
    asker: Asker,
    number: u64,
    settled_below: u64,
    ask: Ask,
    /// For how long the call may be parked.
    poll: Duration,
}

/// What the machine answered, and for how long a grant is safe.
type Answered = (Answer, Duration);

/// `POST /v1/lock`.
pub(super) async fn lock(
    State(shared): State<Arc<Shared>>,
    Extension(identity): Extension<Identity>,
    JsonBody(body): JsonBody<LockBody>,
) -> Result<Response, Problem> {
    let call = checked(&shared, &identity, &body)?;
    // A waiter keeps what it needs, and not what it was read from.
    drop(body);
    call.asker.ensure_promise(&shared).await?;
    let arrived = shared.now();
    let refused = |refusal: Refusal| Problem::of(&refusal, shared.epoch());
    let (answered, parked) = shared.step_and_park(|machine, now| {
        let answer = first_answer(machine, now, &identity, &call);
        let park = match &answer {
            Ok((session, Answer::Waiting { .. })) if !call.poll.is_zero() => {
                Some(RequestKey { session: session.number, number: call.number })
            }
            _ => None,
        };
        (answer.map(|(session, answer)| (session, (answer, machine.promised_from(session.number, arrived)))), park)
    });
    let (session, mut answered) = answered.map_err(refused)?;
    if let Some(parked) = parked {
        let _ = tokio::time::timeout(call.poll, parked).await;
        answered = shared
            .step(|machine, now| {
                let again = Call { now, session, principal: &identity.principal, settled_below: 0 };
                let answer = match call.ask.wait {
                    Wait::Queue => machine.lock(again, call.number, call.ask.clone())?,
                    // The session that was made for a try ends with it: who asks then has nothing.
                    Wait::Try => match machine.end_try(again, call.number) {
                        Err(Refusal::SessionGone) if matches!(call.asker, Asker::Unnamed(_)) => {
                            Answer::Refused { holders: Vec::new() }
                        }
                        answer => answer?,
                    },
                };
                Ok((answer, machine.promised_from(session.number, arrived)))
            })
            .map_err(refused)?;
        if shared.phase() != Phase::Serving && matches!(answered.0, Answer::Waiting { .. }) {
            return Err(refused(Refusal::Closing));
        }
    }
    Ok(lock_response(session, call.number, &answered))
}

fn first_answer(
    machine: &mut crate::machine::Machine,
    now: Duration,
    identity: &Identity,
    call: &LockCall,
) -> Result<(SessionName, Answer), Refusal> {
    let session = match &call.asker {
        Asker::Session(session) => *session,
        Asker::Unnamed(open) => return machine.lock_implicit(now, open.clone(), call.number, call.ask.clone()),
    };
    let as_session = Call { now, session, principal: &identity.principal, settled_below: call.settled_below };
    Ok((session, machine.lock(as_session, call.number, call.ask.clone())?))
}

fn checked(shared: &Shared, identity: &Identity, body: &LockBody) -> Result<LockCall, Problem> {
    let limits = shared.limits();
    if body.items.is_empty() || body.items.len() > limits.items {
        return Err(Problem::invalid(format!(
            "items has {} keys and may have 1 to {}",
            body.items.len(),
            limits.items
        )));
    }
    let items: Vec<Item> = body.items.iter().map(Item::from).collect();
    for item in &items {
        check_key(limits.key_bytes, &item.key)?;
        identity.check(Verb::Lock, &item.key)?;
    }
    let wait = if body.wait_ms == 0 { Wait::Try } else { Wait::Queue };
    let asker = Asker::of(shared, identity, (body.session.as_deref(), body.owner.as_deref(), body.ttl_ms))?;
    Ok(LockCall {
        asker,
        number: body.request_id,
        settled_below: body.settled_below,
        ask: Ask::new(items, body.priority, wait),
        poll: match wait {
            Wait::Try if shared.has_tier() => poll_time(LONGEST_TRY.as_millis() as u64, body.client_timeout_ms),
            _ => poll_time(body.wait_ms, body.client_timeout_ms),
        },
    })
}

/// `POST /v1/unlock`.
pub(super) async fn unlock(
    State(shared): State<Arc<Shared>>,
    Extension(identity): Extension<Identity>,
    JsonBody(body): JsonBody<EndBody>,
) -> Result<Response, Problem> {
    let grant = match &body.grant {
        None => None,
        Some(grant) => Some(grant.parse().map_err(|()| Problem::invalid("grant is not what /v1/lock answered"))?),
    };
    ended(&shared, &identity, &body, |machine, call| {
        machine.unlock(call, body.request_id, grant).map(CancelAnswer::Lock)
    })
}

/// `POST /v1/cancel`.
pub(super) async fn cancel(
    State(shared): State<Arc<Shared>>,
    Extension(identity): Extension<Identity>,
    JsonBody(body): JsonBody<EndBody>,
) -> Result<Response, Problem> {
    if body.grant.is_some() {
        return Err(Problem::invalid("cancel takes no grant: it ends the request in whatever state it is"));
    }
    ended(&shared, &identity, &body, |machine, call| machine.cancel(call, body.request_id))
}

fn ended(
    shared: &Shared,
    identity: &Identity,
    body: &EndBody,
    end: impl FnOnce(&mut crate::machine::Machine, Call<'_>) -> Result<CancelAnswer, Refusal>,
) -> Result<Response, Problem> {
    identity.check_verb(Verb::Lock)?;
    let session = name_of(&body.session)?;
    let answer = shared
        .step(|machine, now| {
            let call = Call { now, session, principal: &identity.principal, settled_below: body.settled_below };
            end(machine, call)
        })
        .map_err(|refusal| Problem::of(&refusal, shared.epoch()))?;
    let answer = match answer {
        CancelAnswer::Lock(answer) => answer,
        CancelAnswer::Claim(answer) => return cancelled_claim(session, body.request_id, &answer),
    };
    match answer {
        Answer::Lost { .. } => Ok(not_granted(session, &answer).into_response()),
        _ => Ok(json(StatusCode::OK, &request_body(session, body.request_id, &answer, Duration::ZERO))),
    }
}

/// Returns what became of a cancelled claim: its own words, as a request's answer.
fn cancelled_claim(session: SessionName, number: u64, answer: &ClaimAnswer) -> Result<Response, Problem> {
    if matches!(answer, ClaimAnswer::Lost(_)) {
        return Err(not_owned(session.epoch, answer));
    }
    let claimed = ClaimedBody::new(session.epoch, session.number, number, answer);
    let body = RequestBody {
        epoch: session.epoch,
        session: claimed.session,
        request_id: number,
        state: claimed.state,
        grant: claimed.grant,
        fence: claimed.fence,
        valid_ms: None,
        place: None,
        holders: Vec::new(),
        reason: None,
    };
    Ok(json(StatusCode::OK, &body))
}

fn lock_response(session: SessionName, number: u64, (answer, valid): &Answered) -> Response {
    match answer {
        Answer::Granted { .. } => json(StatusCode::OK, &request_body(session, number, answer, *valid)),
        Answer::Waiting { .. } => json(StatusCode::ACCEPTED, &request_body(session, number, answer, *valid)),
        _ => not_granted(session, answer).into_response(),
    }
}

/// Returns the problem that a number's state is for a client that wants to hold.
fn not_granted(session: SessionName, answer: &Answer) -> Problem {
    let conflict = |name, detail: &str| Problem::new(name, StatusCode::CONFLICT, detail).epoch(session.epoch);
    match answer {
        Answer::Refused { holders } => Problem {
            holders: holders.iter().map(HolderRow::from).collect(),
            ..Problem::new(
                "locked",
                StatusCode::LOCKED,
                "the keys are not all free; ask again under another number, or with wait_ms for a place in line",
            )
            .code(code::WOULD_BLOCK)
            .epoch(session.epoch)
        },
        Answer::TooLarge => Problem::new(
            "request_too_large",
            StatusCode::PAYLOAD_TOO_LARGE,
            "the keys are more than etcd takes in one step; ask for fewer or shorter ones, or raise its \
             --max-request-bytes",
        )
        .code(code::INVALID)
        .epoch(session.epoch),
        Answer::Cancelled { .. } => {
            conflict("cancelled", "this request was cancelled; use another number").code(code::CANCELLED)
        }
        Answer::Lost { reason, .. } => Problem {
            reason: Some(reason.as_str().into()),
            ..conflict("lease_lost", "the lock was taken from this request; do not rely on it").code(code::LEASE_LOST)
        },
        _ => conflict("already_ended", "this request held its keys and released them; use another number")
            .code(code::NOT_HELD),
    }
}
