//! What is locked: bucket, object and, optionally, one version of it.
//!
//! A key is bytes. Nothing in it is special: NUL, invalid UTF-8, empty parts and `/` are all fine, and the parts are
//! never joined, so `("a/b", "c")` and `("a", "b/c")` are two keys. A version is a key of its own; no version means
//! "the latest" and is again a key of its own: holding the latest says nothing about `v1`.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// The longest part of a key.
pub(crate) const MAX_KEY_BYTES: usize = 0xffff;

/// A key that borrows its parts, so that locking copies nothing.
///
/// The order is by bucket, then object, then version with "latest" first; a batch takes its locks in this order.
///
/// ```
/// use keylatch::KeyRef;
/// let latest = KeyRef::new("photos", "cat.jpg");
/// let first = latest.with_version("v1");
/// assert!(latest < first);
/// assert_eq!(KeyRef::from(("photos", "cat.jpg", "v1")), first);
/// assert_ne!(KeyRef::new("a/b", "c"), KeyRef::new("a", "b/c"));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyRef<'a> {
    bucket: &'a [u8],
    object: &'a [u8],
    version: Option<&'a [u8]>,
}

impl<'a> KeyRef<'a> {
    /// Returns the latest version of an object.
    #[inline(always)]
    #[must_use]
    pub fn new<B, O>(bucket: &'a B, object: &'a O) -> Self
    where
        B: AsRef<[u8]> + ?Sized,
        O: AsRef<[u8]> + ?Sized,
    {
        Self { bucket: bucket.as_ref(), object: object.as_ref(), version: None }
    }

    /// Returns the same object, that one version.
    #[inline(always)]
    #[must_use]
    pub fn with_version<V: AsRef<[u8]> + ?Sized>(self, version: &'a V) -> Self {
        Self { version: Some(version.as_ref()), ..self }
    }

    /// Returns the bucket.
    #[inline(always)]
    #[must_use]
    pub fn bucket(&self) -> &'a [u8] {
        self.bucket
    }

    /// Returns the object's name in its bucket.
    #[inline(always)]
    #[must_use]
    pub fn object(&self) -> &'a [u8] {
        self.object
    }

    /// Returns the version, or `None` for the latest.
    #[inline(always)]
    #[must_use]
    pub fn version(&self) -> Option<&'a [u8]> {
        self.version
    }

    /// Returns bytes in all parts together: what `max_key_bytes` limits.
    #[inline(always)]
    #[must_use]
    pub fn byte_len(&self) -> usize {
        // Three slices that exist together cannot add up to more than the address space.
        self.bucket.len() + self.object.len() + self.version.map_or(0, <[u8]>::len)
    }

    /// Returns a copy that owns its bytes.
    #[must_use]
    pub fn to_owned(&self) -> ObjectKey {
        let mut bytes = Vec::with_capacity(self.byte_len());
        bytes.extend_from_slice(self.bucket);
        bytes.extend_from_slice(self.object);
        bytes.extend_from_slice(self.version.unwrap_or_default());
        ObjectKey {
            bucket_end: self.bucket.len(),
            object_end: self.bucket.len() + self.object.len(),
            versioned: self.version.is_some(),
            bytes: bytes.into(),
        }
    }
}

impl<'a, B, O> From<(&'a B, &'a O)> for KeyRef<'a>
where
    B: AsRef<[u8]> + ?Sized,
    O: AsRef<[u8]> + ?Sized,
{
    #[inline(always)]
    fn from((bucket, object): (&'a B, &'a O)) -> Self {
        Self::new(bucket, object)
    }
}

impl<'a, B, O, V> From<(&'a B, &'a O, &'a V)> for KeyRef<'a>
where
    B: AsRef<[u8]> + ?Sized,
    O: AsRef<[u8]> + ?Sized,
    V: AsRef<[u8]> + ?Sized,
{
    #[inline(always)]
    fn from((bucket, object, version): (&'a B, &'a O, &'a V)) -> Self {
        Self::new(bucket, object).with_version(version)
    }
}

impl<'a> From<&'a ObjectKey> for KeyRef<'a> {
    #[inline(always)]
    fn from(key: &'a ObjectKey) -> Self {
        key.as_ref()
    }
}

/// A key that owns its bytes; cloning it is cheap.
///
/// ```
/// use keylatch::ObjectKey;
/// let key = ObjectKey::new("photos", "cat.jpg").with_version("v1");
/// assert_eq!(key.to_string(), "photos/cat.jpg@v1");
/// ```
#[derive(Clone)]
pub struct ObjectKey {
    bytes: Arc<[u8]>,
    bucket_end: usize,
    object_end: usize,
    versioned: bool,
}

impl ObjectKey {
    /// Returns the latest version of an object.
    #[must_use]
    pub fn new(bucket: impl AsRef<[u8]>, object: impl AsRef<[u8]>) -> Self {
        KeyRef::new(&bucket, &object).to_owned()
    }

    /// Returns the same object, that one version.
    #[must_use]
    pub fn with_version(&self, version: impl AsRef<[u8]>) -> Self {
        self.as_ref().with_version(&version).to_owned()
    }

    /// Returns the key as every call takes it.
    #[inline(always)]
    #[must_use]
    pub fn as_ref(&self) -> KeyRef<'_> {
        KeyRef { bucket: self.bucket(), object: self.object(), version: self.version() }
    }

    /// Returns the bucket.
    #[inline(always)]
    #[must_use]
    pub fn bucket(&self) -> &[u8] {
        &self.bytes[..self.bucket_end]
    }

    /// Returns the object's name in its bucket.
    #[inline(always)]
    #[must_use]
    pub fn object(&self) -> &[u8] {
        &self.bytes[self.bucket_end..self.object_end]
    }

    /// Returns the version, or `None` for the latest.
    #[inline(always)]
    #[must_use]
    pub fn version(&self) -> Option<&[u8]> {
        self.versioned.then(|| &self.bytes[self.object_end..])
    }
}

impl PartialEq for ObjectKey {
    fn eq(&self, other: &Self) -> bool {
        self.as_ref() == other.as_ref()
    }
}

impl Eq for ObjectKey {}

impl PartialOrd for ObjectKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ObjectKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_ref().cmp(&other.as_ref())
    }
}

impl std::hash::Hash for ObjectKey {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_ref().hash(state);
    }
}

/// `bucket/object` or `bucket/object@version`, with escapes: for people.
///
/// What is not printable is escaped; it is not for comparing. The alternate form (`{:#}`) quotes each part,
/// `"bucket"/"object"@"version"`, and leaves out an empty bucket: different keys look different, unless they are cut.
impl fmt::Display for KeyRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            if !self.bucket.is_empty() {
                write!(f, "{:#}/", Shown(self.bucket))?;
            }
            write!(f, "{:#}", Shown(self.object))?;
            return self.version.map_or(Ok(()), |version| write!(f, "@{:#}", Shown(version)));
        }
        write!(f, "{}/{}", Shown(self.bucket), Shown(self.object))?;
        match self.version {
            Some(version) => write!(f, "@{}", Shown(version)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(f)
    }
}

impl fmt::Debug for KeyRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRef({self})")
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectKey({self})")
    }
}

/// A part as text, cut so that an error message stays a message.
struct Shown<'a>(&'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 96;
        let cut = self.0.len() > SHOWN;
        let quote = if f.alternate() { "\"" } else { "" };
        write!(f, "{quote}")?;
        for chunk in self.0[..self.0.len().min(SHOWN)].utf8_chunks() {
            for c in chunk.valid().chars() {
                let special = f.alternate() && matches!(c, '"' | '\\');
                if c.is_control() || special { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        write!(f, "{quote}")?;
        if cut { write!(f, "…({} bytes)", self.0.len()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_keys_differ() {
        let keys = [
            KeyRef::new("a/b", "c"),
            KeyRef::new("a", "b/c"),
            KeyRef::new("a\"/\"b", "c"),
            KeyRef::new("a\\", "/b/c"),
            KeyRef::new("a", "b@c"),
            KeyRef::new("a", "b").with_version("c"),
            KeyRef::new("", "b"),
            KeyRef::new("b", ""),
            KeyRef::new("", "b").with_version("c"),
        ];
        let shown: std::collections::HashSet<_> = keys.iter().map(|key| format!("{key:#}")).collect();
        assert_eq!(shown.len(), keys.len());
        assert_eq!(format!("{:#}", keys[5]), r#""a"/"b"@"c""#);
        assert_eq!(format!("{:#}", keys[8]), r#""b"@"c""#);
        assert_eq!(keys[5].to_string(), "a/b@c");
    }

    #[test]
    fn parts_are_never_joined() {
        let keys = [
            KeyRef::new("a/b", "c"),
            KeyRef::new("a", "b/c"),
            KeyRef::new("ab", "c"),
            KeyRef::new("a", "bc"),
            KeyRef::new("a", "b").with_version("c"),
            KeyRef::new("a", "bc").with_version(""),
            KeyRef::new("", "abc"),
            KeyRef::new("abc", ""),
        ];
        for (i, a) in keys.iter().enumerate() {
            for (j, b) in keys.iter().enumerate() {
                assert_eq!(a == b, i == j, "{a:?} {b:?}");
                assert_eq!(a.to_owned() == b.to_owned(), i == j);
                assert_eq!(a.cmp(b), a.to_owned().cmp(&b.to_owned()), "owned and borrowed order agree");
            }
        }
    }

    #[test]
    fn the_latest_comes_before_every_version() {
        let latest = KeyRef::new("b", "o");
        assert!(latest < latest.with_version(""));
        assert!(latest.with_version("") < latest.with_version("\0"));
        assert!(latest.with_version("zzz") < KeyRef::new("b", "o\0"));
    }

    #[test]
    fn what_strangers_put_in_a_key_prints_safely() {
        assert_eq!(KeyRef::new(b"a\0b", b"\xff\x1b").to_string(), "a\\u{0}b/\\xff\\u{1b}");
        let long = vec![b'x'; 1 << 20];
        assert!(KeyRef::new("b", &long).to_string().len() < 200);
    }
}
