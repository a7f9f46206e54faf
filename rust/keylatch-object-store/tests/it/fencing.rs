//! Writers that are late.

use crate::paused::{Of, Paused};
use keylatch::LockError;
use keylatch_object_store::{Fence, Fenced, Fencing, LockedStore, Options};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{Error, MultipartUpload, ObjectStore, ObjectStoreExt, Result};
use std::sync::Arc;
use std::time::Duration;

fn cat() -> Path {
    Path::from("photos/cat.jpg")
}

fn fences(fencing: Fencing) -> Options {
    Options { fencing, lease: Some(Duration::from_millis(20)), owner: "node-7".into(), ..Options::default() }
}

fn is_fenced<T>(result: &Result<T>) -> bool {
    matches!(result, Err(Error::Precondition { source, .. }) if source.is::<Fenced>())
}

async fn content(store: &impl ObjectStore, path: &Path) -> String {
    String::from_utf8(store.get(path).await.unwrap().bytes().await.unwrap().to_vec()).unwrap()
}

/// Stops a write until its lease is over and another has written.
async fn late_put(fencing: Fencing, of: Of) -> (Result<object_store::PutResult>, String) {
    let inner = Paused::new(InMemory::new());
    let store = LockedStore::open(inner.clone(), fences(fencing)).await.unwrap();
    store.put(&cat(), "old".into()).await.unwrap();
    let (reached, go) = inner.pause(of);
    let late = {
        let store = store.clone();
        tokio::spawn(async move { store.put(&cat(), "late".into()).await })
    };
    reached.await.unwrap();
    // Waits until the lease of the other is over.
    store.put(&cat(), "next".into()).await.unwrap();
    go.send(()).unwrap();
    (late.await.unwrap(), content(&inner, &cat()).await)
}

#[tokio::test]
async fn late_conditional_put_writes_nothing() {
    let (late, content) = late_put(Fencing::Conditional, Of::Objects).await;
    assert!(is_fenced(&late), "{late:?}");
    assert_eq!(content, "next");
}

#[tokio::test]
async fn late_put_before_its_fence_writes_nothing() {
    for fencing in [Fencing::Files, Fencing::Conditional] {
        let (late, content) = late_put(fencing, Of::Fences).await;
        assert!(is_fenced(&late), "{late:?}");
        assert_eq!(content, "next");
    }
}

#[tokio::test]
async fn late_put_after_its_fence_file_says_so() {
    let (late, content) = late_put(Fencing::Files, Of::Objects).await;
    let Err(Error::Generic { source, .. }) = late else { panic!("{late:?}") };
    assert!(matches!(source.downcast_ref(), Some(LockError::LeaseLost { .. })), "{source}");
    // Files cannot prevent it: the page of `Fencing` says so.
    assert_eq!(content, "late");
}

#[tokio::test]
async fn writer_of_a_replaced_process_is_refused() {
    for fencing in [Fencing::Files, Fencing::Conditional] {
        let inner = Arc::new(InMemory::new());
        let old = LockedStore::open(Arc::clone(&inner), fences(fencing)).await.unwrap();
        for _ in 0..5 {
            old.put(&cat(), "old".into()).await.unwrap();
        }
        let mut upload = old.put_multipart(&cat()).await.unwrap();
        upload.put_part("late".into()).await.unwrap();
        // Its own manager counts from 1 again; the epoch goes first.
        let new = LockedStore::open(Arc::clone(&inner), fences(fencing)).await.unwrap();
        old.put(&cat(), "still alone".into()).await.unwrap();
        new.put(&cat(), "new".into()).await.unwrap();
        assert_eq!(new.newest_fence(&cat()).await.unwrap(), Some(Fence { epoch: 2, number: 1 }));

        let dog = Path::from("dog");
        old.put(&dog, "woof".into()).await.unwrap();
        assert!(is_fenced(&old.put(&cat(), "late".into()).await));
        assert!(is_fenced(&upload.complete().await));
        assert!(is_fenced(&old.delete(&cat()).await));
        assert!(is_fenced(&old.copy(&dog, &cat()).await));
        assert!(is_fenced(&old.rename(&cat(), &dog).await));
        assert!(is_fenced(&old.delete_all(&[dog.clone(), cat()]).await));
        assert!(is_fenced(&old.rename_all(&[(dog.clone(), cat())]).await));
        assert_eq!(content(&new, &cat()).await, "new");
        assert_eq!(content(&new, &dog).await, "woof");
        // And an object that was deleted is not brought back.
        new.delete(&cat()).await.unwrap();
        assert!(is_fenced(&old.put(&cat(), "late".into()).await));
    }
}

#[tokio::test]
async fn conditional_put_overwrites_unlocked_writers() {
    let inner = Paused::new(InMemory::new());
    let store = LockedStore::open(inner.clone(), fences(Fencing::Conditional)).await.unwrap();
    let (reached, go) = inner.pause(Of::Objects);
    let put = {
        let store = store.clone();
        tokio::spawn(async move { store.put(&cat(), "ours".into()).await })
    };
    reached.await.unwrap();
    inner.put(&cat(), "without a lock".into()).await.unwrap();
    go.send(()).unwrap();
    put.await.unwrap().unwrap();
    assert_eq!(content(&store, &cat()).await, "ours");
}

#[tokio::test]
async fn fences_leave_one_file_an_object() {
    let inner = Arc::new(InMemory::new());
    let mut stores = Vec::new();
    for _ in 0..4 {
        let store = LockedStore::open(Arc::clone(&inner), fences(Fencing::Files)).await.unwrap();
        for round in 0..10 {
            store.put(&cat(), format!("{round}").into()).await.unwrap();
            store.put(&Path::from("photos"), "beside its folder".into()).await.unwrap();
        }
        stores.push(store);
    }
    let count = async |prefix: &str| {
        let folder = Path::from(prefix);
        inner.list_with_delimiter(Some(&folder)).await.unwrap().objects.len()
    };
    assert_eq!(count(".keylatch/fences/photos/cat.jpg/.keylatch").await, 1);
    assert_eq!(count(".keylatch/fences/photos/.keylatch").await, 1);
    // The latest, and the one before: the next to open must find a number.
    assert!(count(".keylatch/epochs").await <= 2);
    assert_eq!(stores[3].newest_fence(&cat()).await.unwrap().unwrap().epoch, 4);
    assert_eq!(stores[3].newest_fence(&Path::from("none")).await.unwrap(), None);
}

#[tokio::test]
async fn stores_opened_together_differ_in_epoch() {
    let inner = Arc::new(InMemory::new());
    let opened = (0..20).map(|_| {
        let inner = Arc::clone(&inner);
        tokio::spawn(async move {
            let store = LockedStore::open(inner, fences(Fencing::Files)).await.unwrap();
            store.put(&Path::from(format!("{:p}", store.options())), "x".into()).await.unwrap();
            let path = Path::from(format!("{:p}", store.options()));
            store.newest_fence(&path).await.unwrap().unwrap().epoch
        })
    });
    let mut epochs = Vec::new();
    for task in opened.collect::<Vec<_>>() {
        epochs.push(task.await.unwrap());
    }
    epochs.sort_unstable();
    assert_eq!(epochs, (1..=20).collect::<Vec<_>>());
}

#[tokio::test]
async fn reserved_paths_are_refused() {
    let store = LockedStore::open(InMemory::new(), fences(Fencing::Files)).await.unwrap();
    let reserved = Path::from("a/.keylatch/b");
    for refused in [
        store.put(&reserved, "x".into()).await.map(drop),
        store.get(&reserved).await.map(drop),
        store.delete_all(std::slice::from_ref(&reserved)).await,
        store.copy(&reserved, &cat()).await,
    ] {
        let Err(Error::NotSupported { source }) = refused else { panic!("{refused:?}") };
        assert!(source.to_string().contains("reserved"), "{source}");
    }
    let without = LockedStore::open(InMemory::new(), Options::default()).await.unwrap();
    without.put(&reserved, "x".into()).await.unwrap();
}

#[tokio::test]
async fn lease_without_fences_is_refused() {
    let refused = LockedStore::open(InMemory::new(), fences(Fencing::Off)).await;
    let Err(Error::NotSupported { source }) = refused else { panic!("{refused:?}") };
    assert!(source.to_string().contains("Options::fencing"), "{source}");
}
