//! Numbers that only grow for an object, kept beside it in the store.
//!
//! The number of a write is a pair: the epoch of the store, which grows each time it is opened, and the fence of the
//! lock, which grows for a key each time it is held exclusively. For each object `a/b` that was written there is a
//! folder `.keylatch/fences/a/b/.keylatch/`, and in it a file whose name is the number of the latest write.
//!
//! A writer puts its own file first and lists the folder then. Of two writers the one that lists later sees both
//! files, so that not both of them are in the belief to be the latest. The files with lower numbers go when a writer has
//! passed; its own stays, also when the object is deleted, so that a late writer does not bring it back.

use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutPayload, Result};
use std::fmt;

/// The part of a path that is for fences alone.
pub(crate) const RESERVED: &str = ".keylatch";

/// The number of a write; those of later writes of the same object are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fence {
    /// How many times the store had been opened.
    pub epoch: u64,
    /// How many times the object had been held exclusively since.
    pub number: u64,
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.number)
    }
}

impl Fence {
    /// Names of one length, so that people see them in order.
    fn file_name(&self) -> String {
        format!("{:020}-{:020}", self.epoch, self.number)
    }

    fn of_file_name(name: &str) -> Option<Self> {
        let (epoch, number) = name.split_once('-')?;
        Some(Self { epoch: epoch.parse().ok()?, number: number.parse().ok()? })
    }
}

/// Says that a later writer has been at an object.
///
/// It is the source of an [`object_store::Error::Precondition`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fenced {
    /// The number of the write that was refused.
    pub own: Fence,
    /// The greatest number that was found.
    pub newest: Fence,
}

impl fmt::Display for Fenced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a later writer has fence {}, this one {}: its lock was lost, or its process was replaced; read again and \
             decide anew",
            self.newest, self.own
        )
    }
}

impl std::error::Error for Fenced {}

fn fenced(path: &Path, own: Fence, newest: Fence) -> object_store::Error {
    object_store::Error::Precondition { path: path.to_string(), source: Box::new(Fenced { own, newest }) }
}

pub(crate) fn reserved(path: &Path) -> object_store::Error {
    let problem = format!("the part \"{}\" of a path is reserved for fences; choose another", RESERVED);
    object_store::Error::NotSupported { source: format!("{path}: {problem}").into() }
}

/// Returns whether a path is one of fences.
pub(crate) fn is_reserved(path: &Path) -> bool {
    path.parts().any(|part| part.as_ref() == RESERVED)
}

fn root() -> Path {
    Path::from(RESERVED)
}

fn folder_of(path: &Path) -> Path {
    let fences = root().join("fences");
    path.parts().fold(fences, |folder, part| folder.join(part)).join(RESERVED)
}

/// Takes the next epoch of a store.
pub(crate) async fn next_epoch(store: &dyn ObjectStore) -> Result<u64> {
    let folder = root().join("epochs");
    loop {
        let listed = store.list_with_delimiter(Some(&folder)).await?.objects;
        let epoch_of = |path: &Path| path.filename().and_then(|name| name.parse::<u64>().ok());
        let newest = listed.iter().filter_map(|object| epoch_of(&object.location)).max().unwrap_or(0);
        let epoch = newest + 1;
        let file = folder.clone().join(format!("{epoch:020}"));
        // Of two that open a store together one fails here, and takes the number after.
        match store.put_opts(&file, PutPayload::new(), PutMode::Create.into()).await {
            Ok(_) => {}
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => continue,
            Err(error) => return Err(error),
        }
        for older in listed.iter().filter(|object| epoch_of(&object.location) < Some(newest)) {
            ignore_missing(store.delete(&older.location).await)?;
        }
        return Ok(epoch);
    }
}

/// Leaves the number of a write beside its object.
///
/// # Errors
/// [`Error::Precondition`] with [`Fenced`](crate::Fenced) if a greater number is there.
pub(crate) async fn pass(store: &dyn ObjectStore, path: &Path, own: Fence) -> Result<()> {
    let folder = folder_of(path);
    let own_file = folder.clone().join(own.file_name());
    store.put(&own_file, PutPayload::new()).await?;
    let listed = store.list_with_delimiter(Some(&folder)).await?.objects;
    let found = listed.iter().filter_map(|object| {
        let fence = Fence::of_file_name(object.location.filename()?)?;
        Some((fence, &object.location))
    });
    let found: Vec<_> = found.collect();
    let newest = found.iter().map(|(fence, _)| *fence).max().unwrap_or(own);
    if newest > own {
        ignore_missing(store.delete(&own_file).await)?;
        return Err(fenced(path, own, newest));
    }
    for (_, older) in found.iter().filter(|(fence, _)| *fence < own) {
        ignore_missing(store.delete(older).await)?;
    }
    Ok(())
}

/// Returns the greatest number that was left beside an object.
pub(crate) async fn newest(store: &dyn ObjectStore, path: &Path) -> Result<Option<Fence>> {
    let folder = folder_of(path);
    let names = store.list(Some(&folder)).map_ok(|object| object.location.filename().and_then(Fence::of_file_name));
    let fences: Vec<_> = names.try_collect().await?;
    Ok(fences.into_iter().flatten().max())
}

/// Another writer may have removed it.
fn ignore_missing(removed: Result<()>) -> Result<()> {
    match removed {
        Err(Error::NotFound { .. }) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_name_is_read_back_and_ordered() {
        let (low, high) = (Fence { epoch: 2, number: u64::MAX }, Fence { epoch: 10, number: 1 });
        assert_eq!(Fence::of_file_name(&low.file_name()), Some(low));
        assert!(low < high && low.file_name() < high.file_name());
        assert_eq!(Fence::of_file_name("readme.txt"), None);
    }

    #[test]
    fn folders_of_nested_objects_are_apart() {
        let (outer, inner) = (folder_of(&Path::from("a")), folder_of(&Path::from("a/b")));
        assert!(is_reserved(&outer) && !is_reserved(&Path::from("a/.keylatch2")));
        assert!(!inner.prefix_matches(&outer) && !outer.prefix_matches(&inner));
    }
}
