//! What a holder may do.

/// How a key is held.
///
/// ```
/// use keylatch::Mode;
/// assert!(Mode::Shared.goes_with(Mode::Shared));
/// assert!(!Mode::Shared.goes_with(Mode::Exclusive));
/// assert!(Mode::Exclusive > Mode::Shared); // a batch keeps the stronger of two
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Mode {
    /// Any number of holders at a time.
    Shared,
    /// One holder, alone.
    Exclusive,
}

impl Mode {
    /// Whether two holders with these modes may hold the same key at the same time.
    #[must_use]
    pub fn goes_with(self, other: Mode) -> bool {
        self == Mode::Shared && other == Mode::Shared
    }
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Mode::Shared => "shared",
            Mode::Exclusive => "exclusive",
        })
    }
}
