//! User and password for a token, which goes with each request.

use parking_lot::Mutex;
use tonic::metadata::{Ascii, MetadataValue};

/// The login, and the latest token.
pub(super) struct Auth {
    user: Option<(String, String)>,
    token: Mutex<Option<MetadataValue<Ascii>>>,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth").field("user", &self.name()).finish_non_exhaustive()
    }
}

impl Auth {
    pub(super) fn new(user: Option<(String, String)>) -> Self {
        Self { user, token: Mutex::new(None) }
    }

    pub(super) fn name(&self) -> &str {
        self.user.as_ref().map_or("", |(name, _)| name)
    }

    pub(super) fn user(&self) -> Option<&(String, String)> {
        self.user.as_ref()
    }

    pub(super) fn token(&self) -> Option<MetadataValue<Ascii>> {
        self.token.lock().clone()
    }

    /// Whether a login has to come before the next request.
    pub(super) fn needs_token(&self) -> bool {
        self.user.is_some() && self.token.lock().is_none()
    }

    pub(super) fn keep(&self, token: &str) {
        *self.token.lock() = token.parse().ok();
    }

    pub(super) fn forget(&self) {
        *self.token.lock() = None;
    }
}
