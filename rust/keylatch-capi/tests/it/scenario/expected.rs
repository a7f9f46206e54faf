//! Compares what a step came to with what it should have.

use super::fields::{Fields, Outcome, key};
use keylatch::{Holders, LockError, ObjectKey};
use serde_json::Value;

fn number_of(word: &str) -> Outcome<i32> {
    Ok(match word {
        "timeout" => -1,
        "would_block" => -2,
        "deadlock" => -3,
        "cancelled" => -4,
        "closed" => -5,
        "not_held" => -6,
        "lease_lost" => -7,
        "table_full" => -8,
        "invalid_key" => -9,
        "invalid_config" => -10,
        "forked" => -11,
        "upgrade_conflict" => -12,
        "too_many_waiters" => -13,
        other => return Err(format!("{other} is no error")),
    })
}

/// Success, or the expected error, which is then `Ok(None)`.
pub(crate) fn compare<T>(expected: &Value, came: Result<T, LockError>) -> Outcome<Option<T>> {
    match (expected.as_str(), came) {
        (Some("ok"), Ok(value)) => Ok(Some(value)),
        (Some("ok"), Err(error)) => Err(format!("failed: {error}")),
        (Some(other), _) => Err(format!("{other} cannot be expected here")),
        (None, Ok(_)) => Err(format!("succeeded, where {expected} was expected")),
        (None, Err(error)) => same_error(expected, &error).map(|()| None),
    }
}

fn same_error(expected: &Value, error: &LockError) -> Outcome<()> {
    let mut fields = Fields::new(expected)?;
    let word = fields.text("error")?;
    let number = number_of(&fields.needed("error", word)?)?;
    if error.code() != number {
        return Err(format!("{number} was expected, {} came: {error}", error.code()));
    }
    if let Some(names) = fields.take("holders") {
        let holders = holders_of(error).ok_or_else(|| format!("{error} names no holders"))?;
        for name in names.as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !holders.named.iter().any(|holder| &*holder.owner == name) {
                return Err(format!("{name} is not among the holders of: {error}"));
            }
        }
    }
    if let Some(expected) = fields.take("key") {
        let found = key_of(error).ok_or_else(|| format!("{error} names no key"))?;
        if key(&expected)?.borrowed() != found.as_ref() {
            return Err(format!("{expected} is not the key of: {error}"));
        }
    }
    if let Some(transient) = fields.take("transient")
        && transient != error.is_transient()
    {
        return Err(format!("transient is {}: {error}", error.is_transient()));
    }
    if let Some(text) = fields.text("text")?
        && !error.to_string().contains(&text)
    {
        return Err(format!("there is no {text:?} in: {error}"));
    }
    if let Some(names) = fields.take("cycle") {
        let cause = if let LockError::Batch { cause, .. } = error { cause } else { error };
        let LockError::Deadlock { cycle, .. } = cause else { return Err(format!("{error} has no cycle")) };
        let names = names.as_array().cloned().unwrap_or_default();
        if names.len() != cycle.len() || !names.iter().all(|name| cycle.iter().any(|link| *name == *link.session)) {
            return Err(format!("{names:?} is not the cycle of: {error}"));
        }
    }
    fields.done()
}

fn holders_of(error: &LockError) -> Option<&Holders> {
    match error {
        LockError::Timeout { holders, .. }
        | LockError::WouldBlock { holders, .. }
        | LockError::UpgradeConflict { holders, .. } => Some(holders),
        LockError::Batch { cause, .. } => holders_of(cause),
        _ => None,
    }
}

fn key_of(error: &LockError) -> Option<&ObjectKey> {
    match error {
        LockError::Timeout { key, .. }
        | LockError::WouldBlock { key, .. }
        | LockError::Cancelled { key }
        | LockError::UpgradeConflict { key, .. }
        | LockError::Deadlock { key, .. }
        | LockError::Batch { key, .. } => Some(key),
        _ => None,
    }
}
