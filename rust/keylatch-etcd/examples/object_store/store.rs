//! Two ways in which stores of the `object_store` crate refuse holders that are late.

use keylatch_etcd::fenced::{FencedStore, Written};
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutPayload, UpdateVersion};
use std::io;
use tokio::runtime::Runtime;

/// A store with conditional puts: `InMemory`, S3, Google Cloud Storage, Azure.
///
/// An object is its fence in 16 hexadecimal digits, a line end, and the content. It is replaced on the condition that it
/// still is the one that was read.
pub(crate) struct ConditionalStore<S> {
    store: S,
    runtime: Runtime,
}

impl<S: ObjectStore> ConditionalStore<S> {
    pub(crate) fn open(store: S) -> io::Result<Self> {
        Ok(Self { store, runtime: Runtime::new()? })
    }

    /// The fence and the content, and what a put has to name to replace them.
    async fn stored(&self, path: &Path) -> Result<Option<(u64, Vec<u8>, UpdateVersion)>, Error> {
        let found = match self.store.get(path).await {
            Ok(found) => found,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let version = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
        let mut content = found.bytes().await?.to_vec();
        let head = content.get(..17).filter(|head| head[16] == b'\n').and_then(|head| fence_of(&head[..16]));
        let fence = head.ok_or_else(|| damaged(path))?;
        Ok(Some((fence, content.split_off(17), version)))
    }

    async fn replace(&self, name: &str, fence: u64, content: &[u8]) -> Result<Written, Error> {
        let path = Path::from(name);
        let object: PutPayload = [format!("{fence:016x}\n").as_bytes(), content].concat().into();
        loop {
            let mode = match self.stored(&path).await? {
                Some((greatest, ..)) if fence < greatest => return Ok(Written::Refused),
                Some((_, _, version)) => PutMode::Update(version),
                None => PutMode::Create,
            };
            match self.store.put_opts(&path, object.clone(), mode.into()).await {
                Ok(_) => return Ok(Written::Taken),
                // Another has written meanwhile: compare with its fence.
                Err(Error::Precondition { .. } | Error::AlreadyExists { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl<S: ObjectStore> FencedStore for ConditionalStore<S> {
    type Error = Error;

    fn write(&self, name: &str, fence: u64, content: &[u8]) -> Result<Written, Error> {
        self.runtime.block_on(self.replace(name, fence, content))
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let stored = self.runtime.block_on(self.stored(&Path::from(name)))?;
        Ok(stored.map(|(_, content, _)| content))
    }
}

/// A store without conditional puts: `LocalFileSystem`.
///
/// Each hold has an object of its own, whose name is the fence, and readers take the one with the greatest. So a put that
/// comes late changes nothing that is read. Needs listings that have what was put. Remove the objects with lower fences
/// when there is no one who reads.
pub(crate) struct VersionedStore<S> {
    store: S,
    runtime: Runtime,
}

impl<S: ObjectStore> VersionedStore<S> {
    pub(crate) fn open(store: S) -> io::Result<Self> {
        Ok(Self { store, runtime: Runtime::new()? })
    }

    async fn greatest(&self, folder: &Path) -> Result<Option<u64>, Error> {
        let listed = self.store.list_with_delimiter(Some(folder)).await?.objects;
        Ok(listed.iter().filter_map(|object| fence_of(object.location.filename()?.as_bytes())).max())
    }

    async fn put(&self, name: &str, fence: u64, content: &[u8]) -> Result<Written, Error> {
        let folder = Path::from(name);
        if self.greatest(&folder).await?.is_some_and(|greatest| fence < greatest) {
            return Ok(Written::Refused);
        }
        // One that is stopped here puts an object that no reader takes.
        self.store.put(&folder.join(format!("{fence:016x}")), content.to_vec().into()).await?;
        Ok(Written::Taken)
    }

    async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let folder = Path::from(name);
        let Some(fence) = self.greatest(&folder).await? else { return Ok(None) };
        let found = self.store.get(&folder.join(format!("{fence:016x}"))).await?;
        Ok(Some(found.bytes().await?.to_vec()))
    }
}

impl<S: ObjectStore> FencedStore for VersionedStore<S> {
    type Error = Error;

    fn write(&self, name: &str, fence: u64, content: &[u8]) -> Result<Written, Error> {
        self.runtime.block_on(self.put(name, fence, content))
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        self.runtime.block_on(self.get(name))
    }
}

fn fence_of(digits: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

fn damaged(path: &Path) -> Error {
    Error::Generic { store: "ConditionalStore", source: format!("{path} does not begin with a fence").into() }
}
