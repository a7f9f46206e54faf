//! The name of a lock in errors and reports.

use std::cmp::Ordering;
use std::fmt;
use std::panic::Location;
use std::ptr::NonNull;
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
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct LockId(Arc<Names>);

/// File and name as one text.
///
/// A report of many locks follows one pointer less for each.
#[derive(PartialEq, Eq, Hash)]
struct Names {
    /// The file, a colon, the name.
    text: Box<str>,
    /// Where the colon is.
    colon: usize,
}

impl LockId {
    /// Makes an id of a file, or any other group, and a name within it.
    pub fn new(file: &str, name: &str) -> Self {
        Self(Arc::new(Names { text: [file, ":", name].concat().into(), colon: file.len() }))
    }

    /// Makes the id of a lock that has none: the place where it was made.
    pub(crate) fn at(location: &Location<'_>) -> Self {
        Self::new(location.file(), &location.line().to_string())
    }

    /// Returns the file or group, as given.
    pub fn file(&self) -> &str {
        &self.0.text[..self.0.colon]
    }

    /// Returns the name, as given.
    pub fn name(&self) -> &str {
        &self.0.text[self.0.colon + 1..]
    }

    /// The addresses of [`into_raw`](Self::into_raw) are multiples of this.
    pub(crate) const ALIGN: usize = align_of::<Names>();

    /// Turns the id into a pointer that owns it.
    pub(crate) fn into_raw(self) -> NonNull<()> {
        NonNull::new(Arc::into_raw(self.0).cast_mut()).expect("a counted reference is never null").cast()
    }

    /// Returns another handle of the id that a pointer owns.
    ///
    /// # Safety
    ///
    /// The pointer is from `into_raw`, and owns its id still.
    pub(crate) unsafe fn clone_raw(pointer: NonNull<()>) -> Self {
        let names = pointer.cast::<Names>().as_ptr();
        // SAFETY: the pointer owns one handle, so there is something to count.
        unsafe { Arc::increment_strong_count(names) };
        // SAFETY: the handle that was counted for this.
        Self(unsafe { Arc::from_raw(names) })
    }

    /// Takes the id back from its pointer.
    ///
    /// # Safety
    ///
    /// The pointer is from `into_raw` and is not used any more.
    pub(crate) unsafe fn from_raw(pointer: NonNull<()>) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { Arc::from_raw(pointer.cast::<Names>().as_ptr()) })
    }

    /// Returns how many handles of this id there are.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn handles(&self) -> usize {
        Arc::strong_count(&self.0)
    }

    /// Writes both, escaped.
    pub(crate) fn write(&self, f: &mut impl fmt::Write) -> fmt::Result {
        write_escaped(f, &self.0.text)
    }
}

impl Ord for LockId {
    /// By file, then by name.
    fn cmp(&self, other: &Self) -> Ordering {
        (self.file(), self.name()).cmp(&(other.file(), other.name()))
    }
}

impl PartialOrd for LockId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for LockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f)
    }
}

impl fmt::Debug for LockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LockId({self})")
    }
}

/// Writes text from strangers with control characters escaped.
///
/// So nothing moves a terminal's cursor, breaks a line or turns its direction.
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn ids_with_one_text_differ() {
        let (one, other) = (LockId::new("a:b", "c"), LockId::new("a", "b:c"));
        assert_ne!(one, other);
        assert_eq!((one.to_string(), one.file(), one.name()), (other.to_string(), "a:b", "c"));
        assert!(LockId::new("a", "z") < LockId::new("a-b", "a"), "by file first");
    }
}
