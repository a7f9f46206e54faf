//! What an error of the network means.

use std::error::Error;
use tonic::{Code, Status};

/// What the innermost cause of an error says.
pub(super) fn deepest(error: &dyn Error) -> String {
    let mut inner = error;
    while let Some(cause) = inner.source() {
        inner = cause;
    }
    inner.to_string()
}

/// What a status says, with the cause below it.
pub(super) fn text(status: &Status) -> String {
    match status.source() {
        Some(cause) => deepest(cause),
        None => status.message().to_owned(),
    }
}

/// Whether another attempt may succeed.
///
/// The server did not answer, or asks for patience.
pub(super) fn is_transient(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Aborted => true,
        // Broken connections.
        Code::Unknown | Code::Internal => {
            // A leader that hands over drops what comes meanwhile.
            let is_passing =
                ["h2 protocol", "raft proposal dropped"].iter().any(|text| status.message().contains(text));
            is_passing || status.source().is_some()
        }
        Code::ResourceExhausted => status.message().contains("too many requests"),
        _ => false,
    }
}

/// Whether the token is of no use any longer.
pub(super) fn is_stale_token(status: &Status) -> bool {
    let message = status.message();
    message.contains("invalid auth token") || message.contains("revision of auth store is old")
}

/// Whether the server asks for a login, or refused one.
pub(super) fn is_login(status: &Status) -> bool {
    let message = status.message();
    status.code() == Code::Unauthenticated
        || message.contains("authentication failed")
        || message.contains("user name is empty")
}

/// Whether the request has too many bytes, for etcd or for its door.
pub(super) fn is_too_large(status: &Status) -> bool {
    let message = status.message();
    message.contains("request is too large") || message.contains("message larger than max")
}

/// Whether the transaction has more operations than the server was started for.
pub(super) fn has_too_many_operations(status: &Status) -> bool {
    status.message().contains("too many operations in txn request")
}

/// Whether certificates are what keeps the two from talking.
pub(super) fn is_certificate(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ["certificate", "unknownissuer", "fatal alert", "notvalidforname"].iter().any(|word| text.contains(word))
}
