//! `/metrics`, `/healthz`, `/openapi.json`, `/`.

use super::auth::{Identity, Verb};
use super::body::json;
use super::problem::Problem;
use super::shared::{Phase, Shared};
use super::wire::HealthBody;
use crate::machine::{Machine, WAIT_BOUNDS_US};
use axum::Extension;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use keylatch::OPENMETRICS_CONTENT_TYPE;
use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// The description of the API, as it is committed.
pub(super) const OPENAPI: &str = include_str!("../../openapi.json");

/// `GET /openapi.json`.
pub(super) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

/// `GET /healthz`.
pub(super) async fn healthz(State(shared): State<Arc<Shared>>) -> Response {
    let phase = shared.phase();
    let body = shared.step(|machine, now| {
        let quiet = machine.quiet_left(now);
        let claims = machine.claim_figures();
        let status = match phase {
            Phase::Serving if quiet.is_zero() => "ok",
            Phase::Serving => "quiet",
            Phase::Draining | Phase::Stopping => "closing",
        };
        HealthBody {
            status: status.into(),
            epoch: machine.epoch(),
            uptime_ms: now.as_millis() as u64,
            quiet_ms: quiet.as_millis() as u64,
            sessions: machine.sessions(),
            holders: machine.holds(),
            waiters: machine.waiting(),
            claims: claims.owned,
            claim_waiters: claims.waiting,
        }
    });
    let status = if phase == Phase::Serving { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, &body)
}

/// `GET /metrics`.
pub(super) async fn metrics(
    State(shared): State<Arc<Shared>>,
    Extension(identity): Extension<Identity>,
) -> Result<Response, Problem> {
    identity.check_verb(Verb::Metrics)?;
    let text = shared.step(|machine, now| openmetrics(machine, now));
    Ok(([(header::CONTENT_TYPE, OPENMETRICS_CONTENT_TYPE)], text).into_response())
}

/// Returns the machine's figures as OpenMetrics text.
///
/// Names that the library has too mean the same here.
fn openmetrics(machine: &Machine, now: Duration) -> String {
    let figures = machine.figures();
    let mut text = String::with_capacity(4096);
    let mut family = |name: &str, kind: &str, help: &str, samples: &[(&str, f64)]| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# TYPE keylatch_{name} {kind}\n# HELP keylatch_{name} {help}");
        let suffix = if kind == "counter" { "_total" } else { "" };
        for (labels, value) in samples {
            let _ = writeln!(text, "keylatch_{name}{suffix}{labels} {value}");
        }
    };
    let count = |count: u64| count as f64;
    let size = |size: usize| size as f64;
    family(
        "acquisitions",
        "counter",
        "Requests that were granted.",
        &[("{path=\"free\"}", count(figures.granted_free)), ("{path=\"waited\"}", count(figures.granted_after_wait))],
    );
    family(
        "keys_granted",
        "counter",
        "Keys that were granted, each of a request counted.",
        &[("", count(figures.keys_granted))],
    );
    family("releases", "counter", "Requests that their clients released.", &[("", count(figures.released))]);
    family("waits", "counter", "Requests that took a place in line.", &[("", count(figures.queued))]);
    family(
        "refusals",
        "counter",
        "Requests that were not to wait and found a key held.",
        &[("", count(figures.refused))],
    );
    family("cancellations", "counter", "Requests that were cancelled.", &[("", count(figures.cancelled))]);
    family(
        "revocations",
        "counter",
        "Holds that ended without their clients' doing.",
        &[
            ("{reason=\"forced\"}", count(figures.lost_forced)),
            ("{reason=\"expired\"}", count(figures.lost_expired)),
            ("{reason=\"given_up\"}", count(figures.lost_given_up)),
            ("{reason=\"tier_lost\"}", count(figures.lost_tier)),
        ],
    );
    family("sessions_opened", "counter", "Sessions that were opened.", &[("", count(figures.sessions_opened))]);
    family("sessions_expired", "counter", "Sessions whose lease was over.", &[("", count(figures.sessions_expired))]);
    family("events", "counter", "Events that were published.", &[("", count(machine.head()))]);
    family(
        "claims",
        "counter",
        "Claims by what they came to: a grant, a success, a failure, a loss.",
        &[
            ("{result=\"granted\"}", count(figures.claims_granted)),
            ("{result=\"completed\"}", count(figures.claims_completed)),
            ("{result=\"failed\"}", count(figures.claims_failed)),
            ("{result=\"lost\"}", count(figures.claims_lost)),
        ],
    );
    let claims = machine.claim_figures();
    family("claims_owned", "gauge", "Resources whose work is claimed now.", &[("", size(claims.owned))]);
    family("claims_waiting", "gauge", "Claims that wait now.", &[("", size(claims.waiting))]);
    family("claim_resources", "gauge", "Resources that are remembered now.", &[("", size(claims.resources))]);
    family("sessions", "gauge", "Sessions now.", &[("", size(machine.sessions()))]);
    family("holders", "gauge", "Locks held now, each reader counted.", &[("", size(machine.holds()))]);
    family("waiters", "gauge", "Requests waiting now.", &[("", size(machine.waiting()))]);
    family("entries", "gauge", "Keys that are held or waited for now.", &[("", size(machine.keys()))]);
    family("epoch", "gauge", "The epoch of this start.", &[("", count(machine.epoch()))]);
    family(
        "quiet_seconds",
        "gauge",
        "For how long nothing is granted after a crash.",
        &[("", machine.quiet_left(now).as_secs_f64())],
    );
    family("max_wait_seconds", "gauge", "The longest wait so far.", &[("", figures.wait_max.as_secs_f64())]);
    family("uptime_seconds", "gauge", "How long the server has run.", &[("", now.as_secs_f64())]);
    let mut below = 0;
    let _ = writeln!(text, "# TYPE keylatch_wait_seconds histogram\n# UNIT keylatch_wait_seconds seconds");
    let _ = writeln!(text, "# HELP keylatch_wait_seconds How long requests waited that were granted.");
    for (position, waits) in figures.wait_buckets.iter().enumerate() {
        below += waits;
        let bound = WAIT_BOUNDS_US.get(position).map(|micros| format!("{:?}", *micros as f64 / 1e6));
        let bound = bound.unwrap_or_else(|| "+Inf".into());
        let _ = writeln!(text, "keylatch_wait_seconds_bucket{{le=\"{bound}\"}} {below}");
    }
    let total = figures.wait_total.as_secs_f64();
    let _ = writeln!(text, "keylatch_wait_seconds_sum {total}\nkeylatch_wait_seconds_count {below}\n# EOF");
    text
}

/// `GET /`: the live page.
pub(super) async fn page() -> Response {
    static POLICY: LazyLock<String> = LazyLock::new(page_policy);
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY.as_str()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, PAGE).into_response()
}

const PAGE: &str = include_str!("../../page/index.html");

/// Allows the page its own style and script, and calls to this server.
///
/// Nothing else is allowed.
///
/// Style and script are allowed by their digests.
fn page_policy() -> String {
    let digest = |tag: &str| {
        let inside = PAGE.split(&format!("<{tag}>")).nth(1).and_then(|rest| rest.split(&format!("</{tag}>")).next());
        let digest = ring::digest::digest(&ring::digest::SHA256, inside.unwrap_or_default().as_bytes());
        base64(digest.as_ref())
    };
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; form-action 'self'; \
         base-uri 'none'; frame-ancestors 'none'",
        digest("script"),
        digest("style")
    )
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, at| bits << 8 | u32::from(three.get(at).copied().unwrap_or(0)));
        for digit in 0..4 {
            let is_padding = digit > three.len();
            text.push(if is_padding { '=' } else { char::from(DIGITS[(bits >> (18 - 6 * digit) & 63) as usize]) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_pads_as_the_standard_says() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
