//! Keys, sessions and numbers as messages have them.

use crate::machine::SessionName;
use keylatch::ObjectKey;

/// Returns the parts of a key: bucket, object, version.
pub(super) fn key_parts(key: &ObjectKey) -> (String, String, Option<String>) {
    let text = |part: &[u8]| String::from_utf8_lossy(part).into_owned();
    (text(key.bucket()), text(key.object()), key.version().map(text))
}

/// Returns the key of these parts.
pub(super) fn joined_key(bucket: &str, object: &str, version: Option<&str>) -> ObjectKey {
    let key = ObjectKey::new(bucket, object);
    match version {
        Some(version) => key.with_version(version),
        None => key,
    }
}

/// Returns the number of a request that names none.
pub(super) fn first_number() -> u64 {
    1
}

/// Returns the name of a session.
pub(super) fn session_text(epoch: u64, number: u64) -> String {
    SessionName { epoch, number }.to_string()
}
