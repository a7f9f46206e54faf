//! Locks that a call keeps while the store works.

use crate::error;
use crate::fence::{self, Fence};
use crate::options::{Fencing, Options};
use keylatch::{BatchLockRequest, KeyRef, LockRequest, Mode, OwnedLockGuard};
use object_store::path::Path;
use object_store::{ObjectStore, Result};
use std::collections::HashMap;

/// How paths are locked, and with which numbers they are written.
#[derive(Debug)]
pub(crate) struct Locks {
    pub(crate) options: Options,
    pub(crate) epoch: u64,
}

/// The exclusive locks of one call.
#[derive(Debug)]
pub(crate) struct Writing {
    guards: Vec<OwnedLockGuard>,
}

impl Locks {
    fn key<'a>(&'a self, path: &'a Path) -> KeyRef<'a> {
        KeyRef::new(self.options.name.as_str(), path.as_ref())
    }

    fn check(&self, paths: &[&Path]) -> Result<()> {
        let reserved = |path: &&&Path| self.options.fencing != Fencing::Off && fence::is_reserved(path);
        paths.iter().find(reserved).map_or(Ok(()), |path| Err(fence::reserved(path)))
    }

    /// Shares an object.
    pub(crate) async fn read(&self, path: &Path) -> Result<OwnedLockGuard> {
        self.check(&[path])?;
        let request = LockRequest::read(self.key(path)).owner(&self.options.owner);
        let request = self.options.timeout.map_or(request, |timeout| request.timeout(timeout));
        Ok(self.options.locks.lock(request).await.map_err(error::lock)?.into_owned())
    }

    /// Takes objects to write, all together, and others to read.
    pub(crate) async fn write(&self, paths: &[&Path], beside: &[&Path]) -> Result<Writing> {
        self.check(paths)?;
        self.check(beside)?;
        let all =
            paths.iter().map(|path| (path, Mode::Exclusive)).chain(beside.iter().map(|path| (path, Mode::Shared)));
        let batch = BatchLockRequest::new(&self.options.owner);
        let mut batch = all.fold(batch, |batch, (path, mode)| batch.add(self.key(path), mode));
        if let Some(timeout) = self.options.timeout {
            batch = batch.timeout(timeout);
        }
        if let Some(lease) = self.options.lease {
            batch = batch.ttl(lease);
        }
        let locked = self.options.locks.acquire_locks_batch(batch).await.map_err(error::lock)?;
        Ok(Writing { guards: locked.into_guards().into_iter().map(keylatch::FastLockGuard::into_owned).collect() })
    }

    /// Leaves the number of a write beside each object that it writes.
    pub(crate) async fn pass(&self, store: &dyn ObjectStore, writing: &Writing, paths: &[&Path]) -> Result<()> {
        if self.options.fencing == Fencing::Off {
            return Ok(());
        }
        let numbers: HashMap<_, _> = writing.guards.iter().map(|guard| (guard.key(), guard.fence())).collect();
        for path in paths {
            let number = numbers[&self.key(path).to_owned()];
            fence::pass(store, path, Fence { epoch: self.epoch, number }).await?;
        }
        Ok(())
    }
}

impl Writing {
    /// Releases the locks, and says whether one was lost while the store worked.
    pub(crate) fn end(self) -> Result<()> {
        let released = self.guards.into_iter().map(OwnedLockGuard::try_release);
        // Each of them, whatever became of the others.
        released.fold(Ok(()), Result::and).map_err(error::lock)
    }
}
