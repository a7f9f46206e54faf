//! `/v1/locks`, `/v1/waiters`, `/v1/force-release`.

use super::asked::name_of;
use super::auth::{Identity, Verb};
use super::body::{JsonBody, Params, json};
use super::claim_rows::ClaimRow;
use super::problem::Problem;
use super::shared::Shared;
use super::texts::joined_key;
use super::wire::{ForceBody, ForceKind, ForcedBody, ListBody, LockRow, WaiterRow};
use crate::machine::{KeyFilter, LockFilter};
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use keylatch::ObjectKey;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

/// Rows of a page that names no limit.
const ROWS: usize = 1_000;
/// Rows of a page.
const MOST_ROWS: usize = 10_000;

/// The query string of a listing.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    bucket: Option<String>,
    prefix: Option<String>,
    object: Option<String>,
    owner: Option<String>,
    session: Option<String>,
    older_than_ms: Option<u64>,
    limit: Option<usize>,
    after: Option<String>,
}

impl ListQuery {
    pub(super) fn filter(&self, epoch: u64) -> Result<LockFilter, Problem> {
        Ok(LockFilter {
            keys: KeyFilter { bucket: self.bucket.clone(), prefix: self.prefix.clone(), object: self.object.clone() },
            owner: self.owner.clone(),
            session: self.session.as_deref().map(|session| session_number(session, epoch)).transpose()?,
            older_than: self.older_than_ms.map(Duration::from_millis),
        })
    }

    pub(super) fn after(&self) -> Result<Option<ObjectKey>, Problem> {
        let Some(text) = &self.after else { return Ok(None) };
        let wrong = |_| Problem::invalid("after is not what a page answered as next");
        let (bucket, object, version): (String, String, Option<String>) = serde_json::from_str(text).map_err(wrong)?;
        Ok(Some(joined_key(&bucket, &object, version.as_deref())))
    }

    pub(super) fn most(&self) -> usize {
        self.limit.unwrap_or(ROWS).clamp(1, MOST_ROWS)
    }
}

/// Returns a session's number; that of another epoch matches nothing.
fn session_number(session: &str, epoch: u64) -> Result<u64, Problem> {
    let name = name_of(session)?;
    Ok(if name.epoch == epoch { name.number } else { 0 })
}

pub(super) fn cursor(key: &ObjectKey) -> String {
    let text = |part: &[u8]| String::from_utf8_lossy(part).into_owned();
    let parts = (text(key.bucket()), text(key.object()), key.version().map(text));
    serde_json::to_string(&parts).unwrap_or_default()
}

/// `GET /v1/locks`.
pub(super) async fn locks(
    State(shared): State<Arc<Shared>>,
    Extension(identity): Extension<Identity>,
    Params(query): Params<ListQuery>,
) -> Result<Response, Problem> {
    identity.check_verb(Verb::List)?;
    let (filter, after) = (query.filter(shared.epoch())?, query.after()?);
    let page = shared.step(|machine, now| machine.locks(now, &filter, after.as_ref(), query.most()));
    let rows = page.rows.iter().filter(|hold| identity.may(Verb::List, &hold.item.key)).map(LockRow::new).collect();
    let body = ListBody { epoch: shared.epoch(), rows, next: page.next.as_ref().map(cursor) };
    Ok(json(StatusCode::OK, &body))
}

/// `GET /v1/waiters`.
pub(super) async fn waiters(
    State(shared): State<Arc<Shared>>,
    Extension(identity): Extension<Identity>,
    Params(query): Params<ListQuery>,
) -> Result<Response, Problem> {
    identity.check_verb(Verb::List)?;
    let (filter, after) = (query.filter(shared.epoch())?, query.after()?);
    let page = shared.step(|machine, now| machine.waiters(now, &filter, after.as_ref(), query.most()));
    let visible = page.rows.iter().filter(|wait| identity.may(Verb::List, &wait.item.key));
    let rows = visible.map(|wait| WaiterRow::new(wait, shared.epoch())).collect();
    let body = ListBody { epoch: shared.epoch(), rows, next: page.next.as_ref().map(cursor) };
    Ok(json(StatusCode::OK, &body))
}

/// `POST /v1/force-release`.
pub(super) async fn force_release(
    State(shared): State<Arc<Shared>>,
    Extension(identity): Extension<Identity>,
    JsonBody(body): JsonBody<ForceBody>,
) -> Result<Response, Problem> {
    identity.check_verb(Verb::Force)?;
    let epoch = shared.epoch();
    let filter = LockFilter {
        keys: KeyFilter { bucket: body.bucket, prefix: body.prefix, object: body.object },
        owner: body.owner,
        session: body.session.as_deref().map(|session| session_number(session, epoch)).transpose()?,
        older_than: body.older_than_ms.map(Duration::from_millis),
    };
    if filter == LockFilter::default() && !body.all {
        return Err(Problem::invalid("name what to release, or say \"all\": true for everything"));
    }
    let may_release = |key: &ObjectKey| identity.may(Verb::Force, key);
    if body.kind == ForceKind::Claims {
        let (released, now) =
            shared.step(|machine, now| (machine.force_release_claims(now, &filter, &may_release), now));
        for claim in &released {
            tracing::warn!(resource = %claim.resource, by = &*identity.principal, "claim released by force");
        }
        let claims = released.iter().map(|claim| ClaimRow::new(claim, now)).collect();
        return Ok(json(StatusCode::OK, &ForcedBody { epoch, released: Vec::new(), claims }));
    }
    let released = shared.step(|machine, now| machine.force_release(now, &filter, &may_release));
    for hold in &released {
        tracing::warn!(key = %hold.item.key, owner = &*hold.owner, grant = %hold.grant, by = &*identity.principal, "released by force");
    }
    let released = released.iter().map(LockRow::new).collect();
    Ok(json(StatusCode::OK, &ForcedBody { epoch, released, claims: Vec::new() }))
}
