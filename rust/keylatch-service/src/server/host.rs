//! Which host a request is meant for.
//!
//! A server that wants no authentication answers requests to this machine's own names only. A page whose name an attacker
//! lets point here must not reach it.

use super::problem::Problem;
use axum::http::{HeaderMap, StatusCode, header};

/// The answer to a request that is meant for another host than this machine.
pub(super) fn other_host() -> Problem {
    let detail = "without authentication this server answers to localhost, 127.0.0.1 and [::1] only";
    Problem::new("other_host", StatusCode::MISDIRECTED_REQUEST, detail)
}

pub(super) fn names_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else { return true };
    let Ok(host) = host.to_str() else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
