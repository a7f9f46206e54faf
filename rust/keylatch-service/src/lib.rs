//! keylatch over HTTP.
pub mod machine;
