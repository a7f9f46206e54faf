//! A store whose next put of a kind can be stopped before it begins.

use futures_util::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};
use std::fmt;
use std::sync::{Arc, Mutex};
use tokio::sync::oneshot;

/// Which puts are stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    Objects,
    Fences,
}

#[derive(Debug)]
struct Pause {
    of: Of,
    reached: oneshot::Sender<()>,
    go: oneshot::Receiver<()>,
}

#[derive(Debug, Clone)]
pub(crate) struct Paused<S> {
    store: Arc<S>,
    next: Arc<Mutex<Option<Pause>>>,
}

impl<S: ObjectStore> Paused<S> {
    pub(crate) fn new(store: S) -> Self {
        Self { store: Arc::new(store), next: Arc::default() }
    }

    /// Stops the next put: the first end says that it has begun, the other lets go.
    pub(crate) fn pause(&self, of: Of) -> (oneshot::Receiver<()>, oneshot::Sender<()>) {
        let ((reached, is_reached), (goes, go)) = (oneshot::channel(), oneshot::channel());
        *self.next.lock().unwrap() = Some(Pause { of, reached, go });
        (is_reached, goes)
    }
}

impl<S: ObjectStore> fmt::Display for Paused<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Paused({})", self.store)
    }
}

#[async_trait::async_trait]
impl<S: ObjectStore> ObjectStore for Paused<S> {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let of = if location.as_ref().contains(".keylatch/fences") { Of::Fences } else { Of::Objects };
        let pause = self.next.lock().unwrap().take_if(|pause| pause.of == of);
        if let Some(Pause { reached, go, .. }) = pause {
            reached.send(()).unwrap();
            go.await.unwrap();
        }
        self.store.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.store.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.store.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.store.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await
    }
}
