//! What can be locked: an object in a bucket, or one version of it.

use compact_str::CompactString;
use keylatch::KeyRef;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

/// Names an object in a bucket, or one version of it.
///
/// The latest version of an object, `version: None`, and its version `v1` are two keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectKey {
    /// The bucket.
    pub bucket: Arc<str>,
    /// The object.
    pub object: Arc<str>,
    /// The version; `None` is the latest.
    pub version: Option<Arc<str>>,
}

impl ObjectKey {
    /// Names the latest version of an object.
    pub fn new(bucket: impl Into<Arc<str>>, object: impl Into<Arc<str>>) -> Self {
        Self { bucket: bucket.into(), object: object.into(), version: None }
    }

    /// Names one version of an object.
    pub fn with_version(
        bucket: impl Into<Arc<str>>,
        object: impl Into<Arc<str>>,
        version: impl Into<Arc<str>>,
    ) -> Self {
        Self { bucket: bucket.into(), object: object.into(), version: Some(version.into()) }
    }

    /// Names the latest version of the same object.
    #[must_use]
    pub fn as_latest(&self) -> Self {
        Self { bucket: Arc::clone(&self.bucket), object: Arc::clone(&self.object), version: None }
    }

    /// Returns the shard that lists this key, for `shard_mask` + 1 shards.
    #[must_use]
    pub fn shard_index(&self, shard_mask: usize) -> usize {
        hash_of(self) as usize & shard_mask
    }

    /// Returns the key as keylatch takes it.
    #[inline]
    pub(crate) fn borrowed(&self) -> KeyRef<'_> {
        let latest = KeyRef::new(&*self.bucket, &*self.object);
        match &self.version {
            None => latest,
            Some(version) => latest.with_version(&**version),
        }
    }
}

impl From<&keylatch::ObjectKey> for ObjectKey {
    fn from(key: &keylatch::ObjectKey) -> Self {
        // Every key came in as text, unless it was locked through `keylatch()`.
        let text = |bytes: &[u8]| -> Arc<str> { String::from_utf8_lossy(bytes).into() };
        Self { bucket: text(key.bucket()), object: text(key.object()), version: key.version().map(text) }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = self.version.as_deref().unwrap_or("latest");
        write!(f, "{}/{}@{version}", self.bucket, self.object)
    }
}

/// Names the same as [`ObjectKey`], with short names stored in place.
#[derive(Debug, Clone)]
pub struct OptimizedObjectKey {
    /// The bucket.
    pub bucket: CompactString,
    /// The object.
    pub object: CompactString,
    /// The version; `None` is the latest.
    pub version: Option<CompactString>,
    hash: OnceLock<u64>,
}

impl OptimizedObjectKey {
    /// Names the latest version of an object.
    pub fn new(bucket: impl Into<CompactString>, object: impl Into<CompactString>) -> Self {
        Self { bucket: bucket.into(), object: object.into(), version: None, hash: OnceLock::new() }
    }

    /// Names one version of an object.
    pub fn with_version(
        bucket: impl Into<CompactString>,
        object: impl Into<CompactString>,
        version: impl Into<CompactString>,
    ) -> Self {
        Self { version: Some(version.into()), ..Self::new(bucket, object) }
    }

    /// Returns the shard that lists this key; the hash is computed once.
    #[must_use]
    pub fn shard_index(&self, shard_mask: usize) -> usize {
        *self.hash.get_or_init(|| hash_of(self)) as usize & shard_mask
    }

    /// Forgets the hash, after a change of the fields.
    pub fn invalidate_cache(&mut self) {
        self.hash = OnceLock::new();
    }

    /// Copies an [`ObjectKey`].
    #[must_use]
    pub fn from_object_key(key: &ObjectKey) -> Self {
        let version = key.version.as_deref().map(CompactString::from);
        Self { version, ..Self::new(&*key.bucket, &*key.object) }
    }

    /// Copies the key into an [`ObjectKey`].
    #[must_use]
    pub fn to_object_key(&self) -> ObjectKey {
        let version = self.version.as_deref().map(Arc::from);
        ObjectKey { bucket: self.bucket.as_str().into(), object: self.object.as_str().into(), version }
    }

    fn parts(&self) -> (&CompactString, &CompactString, &Option<CompactString>) {
        (&self.bucket, &self.object, &self.version)
    }
}

// By the parts alone: the remembered hash is no part of the name.
impl PartialEq for OptimizedObjectKey {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for OptimizedObjectKey {}

impl Hash for OptimizedObjectKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl PartialOrd for OptimizedObjectKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for OptimizedObjectKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(&other.parts())
    }
}

fn hash_of(key: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}
