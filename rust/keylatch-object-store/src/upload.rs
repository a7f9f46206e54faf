//! Uploads in parts, whose commit alone is locked.

use crate::hold::Locks;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, PutPayload, PutResult, Result, UploadPart};
use std::sync::Arc;

/// An upload that locks its object when it is completed.
#[derive(Debug)]
pub(crate) struct LockedUpload {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) locks: Arc<Locks>,
    pub(crate) path: Path,
    pub(crate) upload: Box<dyn MultipartUpload>,
}

#[async_trait::async_trait]
impl MultipartUpload for LockedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.upload.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let writing = self.locks.write(&[&self.path], &[]).await?;
        self.locks.pass(&self.store, &writing, &[&self.path]).await?;
        let answer = self.upload.complete().await?;
        writing.end()?;
        Ok(answer)
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}
