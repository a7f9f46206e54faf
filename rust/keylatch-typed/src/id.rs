//! The name of a lock in errors and reports.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;

/// A file and a name: `memory/service.rs:data`.
///
/// Ids come from strangers. Control characters and line breaks are shown escaped, so an id cannot forge lines of a
/// report; equality and hash use the id as given.
///
/// ```
/// use keylatch_typed::LockId;
///
/// let id = LockId::new("memory/service.rs", "data");
/// assert_eq!(id.to_string(), "memory/service.rs:data");
/// assert_eq!(LockId::new("a\nb", "c").to_string(), "a\\u{a}b:c");
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LockId(Arc<Names>);

#[derive(PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Names {
    file: Box<str>,
    name: Box<str>,
}

impl LockId {
    /// Makes an id of a file, or any other group, and a name within it.
    pub fn new(file: &str, name: &str) -> Self {
        Self(Arc::new(Names { file: file.into(), name: name.into() }))
    }

    /// Makes the id of a lock that has none: the place where it was made.
    pub(crate) fn at(location: &Location<'_>) -> Self {
        Self::new(location.file(), &location.line().to_string())
    }

    /// Returns the file or group, as given.
    pub fn file(&self) -> &str {
        &self.0.file
    }

    /// Returns the name, as given.
    pub fn name(&self) -> &str {
        &self.0.name
    }
}

impl fmt::Display for LockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_escaped(f, self.file())?;
        f.write_str(":")?;
        write_escaped(f, self.name())
    }
}

impl fmt::Debug for LockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LockId({self})")
    }
}

/// Writes text from strangers without anything that moves a terminal's cursor, breaks a line or turns its direction.
pub(crate) fn write_escaped(f: &mut impl fmt::Write, text: &str) -> fmt::Result {
    // Most ids are plain, and reports have many.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return f.write_str(text);
    }
    for character in text.chars() {
        let turns = matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if character.is_control() || turns {
            write!(f, "{}", character.escape_unicode())?;
        } else {
            f.write_char(character)?;
        }
    }
    Ok(())
}
