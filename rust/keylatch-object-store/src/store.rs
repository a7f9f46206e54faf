//! The store with its locks.

use crate::body;
use crate::error::{self, Partly};
use crate::fence::{self, Fence};
use crate::hold::Locks;
use crate::options::{Fencing, Options, ReadHold};
use crate::upload::LockedUpload;
use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt};
use futures_util::{FutureExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UpdateVersion,
};
use std::fmt;
use std::future::ready;
use std::ops::Range;
use std::sync::Arc;

/// Paths of a stream of deletions that are locked together.
const DELETIONS: usize = 100;

/// Locks every access to a store: reads share an object, writes have it alone.
///
/// Clones, and stores that were opened with the same manager and name, share their locks. See the
/// [crate](crate) for an example.
#[derive(Debug, Clone)]
pub struct LockedStore {
    store: Arc<dyn ObjectStore>,
    locks: Arc<Locks>,
}

impl LockedStore {
    /// Opens a store.
    ///
    /// # Errors
    /// What the store says when it is asked for its epoch, which only fences need; [`Error::NotSupported`] for a lease
    /// without fences.
    pub async fn open(store: impl ObjectStore, options: Options) -> Result<Self> {
        let store: Arc<dyn ObjectStore> = Arc::new(store);
        if options.fencing == Fencing::Off && options.lease.is_some() {
            let problem = "a lease without fences lets a late write through; set Options::fencing, or no lease";
            return Err(Error::NotSupported { source: problem.into() });
        }
        let epoch = match options.fencing {
            Fencing::Off => 0,
            Fencing::Files | Fencing::Conditional => fence::next_epoch(&store).await?,
        };
        Ok(Self { store, locks: Arc::new(Locks { options, epoch }) })
    }

    /// Returns the settings, and in them the locks.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.locks.options
    }

    /// Returns the number of the latest write of an object; `None` if none was fenced.
    ///
    /// # Errors
    /// What the store says.
    pub async fn newest_fence(&self, path: &Path) -> Result<Option<Fence>> {
        fence::newest(&self.store, path).await
    }

    /// Deletes several objects, which are all locked before the first one goes.
    ///
    /// # Errors
    /// As the store; with [`Partly`] as its source if some were deleted before.
    pub async fn delete_all(&self, paths: &[Path]) -> Result<()> {
        let paths: Vec<_> = paths.iter().collect();
        let writing = self.locks.write(&paths, &[]).await?;
        self.locks.pass(&self.store, &writing, &paths).await?;
        for (done, path) in paths.iter().enumerate() {
            self.store.delete(path).await.map_err(|cause| partly(done, paths.len(), cause))?;
        }
        writing.end()
    }

    /// Renames several objects, all locked before the first one moves.
    ///
    /// # Errors
    /// As the store; with [`Partly`] as its source if some were renamed before.
    pub async fn rename_all(&self, renamings: &[(Path, Path)]) -> Result<()> {
        let paths: Vec<_> = renamings.iter().flat_map(|(from, to)| [from, to]).collect();
        let writing = self.locks.write(&paths, &[]).await?;
        self.locks.pass(&self.store, &writing, &paths).await?;
        for (done, (from, to)) in renamings.iter().enumerate() {
            self.store.rename(from, to).await.map_err(|cause| partly(done, renamings.len(), cause))?;
        }
        writing.end()
    }

    /// Overwrites an object that no one has written since the fence passed.
    async fn overwrite(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let writing = self.locks.write(&[path], &[]).await?;
        loop {
            let mode = match self.store.head(path).await {
                Ok(ObjectMeta { e_tag, version, .. }) => PutMode::Update(UpdateVersion { e_tag, version }),
                Err(Error::NotFound { .. }) => PutMode::Create,
                Err(error) => return Err(error),
            };
            self.locks.pass(&self.store, &writing, &[path]).await?;
            let conditional = PutOptions { mode, ..options.clone() };
            match self.store.put_opts(path, payload.clone(), conditional).await {
                // A later writer, which the fence shows, or one without a lock, over which this goes.
                Err(Error::Precondition { .. } | Error::AlreadyExists { .. } | Error::NotModified { .. }) => {}
                // The condition held, so that a lock that was lost meanwhile has harmed nothing.
                answer => return answer,
            }
        }
    }
}

fn partly(done: usize, of: usize, cause: Error) -> Error {
    if done == 0 { cause } else { error::generic(Box::new(Partly { done, of, cause })) }
}

#[async_trait::async_trait]
impl ObjectStore for LockedStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        if self.options().fencing == Fencing::Conditional && opts.mode == PutMode::Overwrite {
            return self.overwrite(location, payload, opts).await;
        }
        let writing = self.locks.write(&[location], &[]).await?;
        self.locks.pass(&self.store, &writing, &[location]).await?;
        let answer = self.store.put_opts(location, payload, opts).await?;
        writing.end()?;
        Ok(answer)
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.store.put_multipart_opts(location, opts).await?;
        let (store, locks, path) = (Arc::clone(&self.store), Arc::clone(&self.locks), location.clone());
        Ok(Box::new(LockedUpload { store, locks, path, upload }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let has_body = !options.head;
        let lock = self.locks.read(location).await?;
        let answer = self.store.get_opts(location, options).await?;
        match self.options().read_hold {
            ReadHold::Body if has_body => Ok(body::keep(answer, lock)),
            ReadHold::Body | ReadHold::Answer => Ok(answer),
        }
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let _lock = self.locks.read(location).await?;
        self.store.get_ranges(location, ranges).await
    }

    /// Deletes objects by the hundred, each hundred locked together.
    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        let hundreds = locations.ready_chunks(DELETIONS);
        hundreds.then(move |hundred| this.clone().delete_some(hundred)).flatten().boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let listed = self.store.list(prefix);
        if self.options().fencing == Fencing::Off {
            return listed;
        }
        listed.try_filter(|object| ready(!fence::is_reserved(&object.location))).boxed()
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        let listed = self.store.list_with_offset(prefix, offset);
        if self.options().fencing == Fencing::Off {
            return listed;
        }
        listed.try_filter(|object| ready(!fence::is_reserved(&object.location))).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut listed = self.store.list_with_delimiter(prefix).await?;
        if self.options().fencing != Fencing::Off {
            listed.objects.retain(|object| !fence::is_reserved(&object.location));
            listed.common_prefixes.retain(|prefix| !fence::is_reserved(prefix));
        }
        Ok(listed)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let writing = self.locks.write(&[to], &[from]).await?;
        self.locks.pass(&self.store, &writing, &[to]).await?;
        self.store.copy_opts(from, to, options).await?;
        writing.end()
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let writing = self.locks.write(&[from, to], &[]).await?;
        self.locks.pass(&self.store, &writing, &[from, to]).await?;
        self.store.rename_opts(from, to, options).await?;
        writing.end()
    }
}

impl LockedStore {
    /// Deletes objects that are locked together, and answers for each.
    async fn delete_some(self, paths: Vec<Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let named: Vec<_> = paths.iter().filter_map(|path| path.as_ref().ok()).cloned().collect();
        let every: Vec<_> = named.iter().collect();
        let writing = match self.locks.write(&every, &[]).await {
            Ok(writing) => writing,
            // None of them: the error once, and those of the caller.
            Err(error) => return failed(paths, error),
        };
        if let Err(error) = self.locks.pass(&self.store, &writing, &every).await {
            return failed(paths, error);
        }
        let deleted = self.store.delete_stream(futures_util::stream::iter(paths).boxed());
        // The locks go when the last deletion has been answered; one that was lost is the last answer.
        let end = async move { writing.end() }.into_stream().filter_map(|ended| ready(ended.err().map(Err)));
        deleted.chain(end).boxed()
    }
}

fn failed(paths: Vec<Result<Path>>, error: Error) -> BoxStream<'static, Result<Path>> {
    let others = paths.into_iter().filter(Result::is_err);
    futures_util::stream::iter(std::iter::once(Err(error)).chain(others)).boxed()
}

impl fmt::Display for LockedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LockedStore({})", self.store)
    }
}
