//! User and password for a token, which goes with each request.

use parking_lot::Mutex;
use tonic::metadata::{Ascii, MetadataValue};

/// The login, and the latest token.
pub(super) struct Auth {
    user: Option<(String, String)>,
    state: Mutex<State>,
    /// One login at a time: the server takes long over each password.
    pub(super) turn: tokio::sync::Mutex<()>,
}

struct State {
    token: Token,
    /// Counts the logins.
    ///
    /// A request that was refused with an old token does not throw a newer one away.
    number: u64,
}

enum Token {
    /// A login has to come before the next request.
    Needed,
    Known(MetadataValue<Ascii>),
    /// The cluster has no authentication, and takes requests without a token.
    Off,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth").field("user", &self.name()).finish_non_exhaustive()
    }
}

impl Auth {
    pub(super) fn new(user: Option<(String, String)>) -> Self {
        let token = if user.is_some() { Token::Needed } else { Token::Off };
        Self { user, state: Mutex::new(State { token, number: 0 }), turn: tokio::sync::Mutex::new(()) }
    }

    pub(super) fn name(&self) -> &str {
        self.user.as_ref().map_or("", |(name, _)| name)
    }

    pub(super) fn user(&self) -> Option<&(String, String)> {
        self.user.as_ref()
    }

    pub(super) fn token(&self) -> Option<MetadataValue<Ascii>> {
        match &self.state.lock().token {
            Token::Known(token) => Some(token.clone()),
            Token::Needed | Token::Off => None,
        }
    }

    /// The number of the latest login.
    pub(super) fn number(&self) -> u64 {
        self.state.lock().number
    }

    /// Whether a login has to come before the next request.
    pub(super) fn needs_token(&self) -> bool {
        matches!(self.state.lock().token, Token::Needed)
    }

    /// Whether requests go without a token because the cluster once wanted none.
    pub(super) fn is_off(&self) -> bool {
        self.user.is_some() && matches!(self.state.lock().token, Token::Off)
    }

    pub(super) fn keep(&self, token: &str) {
        self.set(token.parse().map_or(Token::Needed, Token::Known));
    }

    pub(super) fn turn_off(&self) {
        self.set(Token::Off);
    }

    fn set(&self, token: Token) {
        let mut state = self.state.lock();
        state.number += 1;
        state.token = token;
    }

    /// Asks for a login, unless there was one after this number.
    pub(super) fn forget(&self, number: u64) {
        let mut state = self.state.lock();
        if self.user.is_some() && state.number == number {
            state.token = Token::Needed;
        }
    }
}
