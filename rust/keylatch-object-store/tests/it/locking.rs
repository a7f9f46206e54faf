//! Who waits for whom.

use futures_util::StreamExt;
use futures_util::poll;
use keylatch::{Filter, LockError};
use keylatch_object_store::{LockedStore, Options, ReadHold};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{Error, MultipartUpload, ObjectStore, ObjectStoreExt, Result};
use std::error::Error as _;
use std::time::Duration;

const SOON: Duration = Duration::from_millis(20);

async fn store(options: Options) -> LockedStore {
    LockedStore::open(InMemory::new(), Options { owner: "node-7".into(), ..options }).await.unwrap()
}

async fn impatient() -> LockedStore {
    store(Options { timeout: Some(SOON), ..Options::default() }).await
}

fn cat() -> Path {
    Path::from("photos/cat.jpg")
}

/// Returns who held what when the time was over.
fn holder<T>(result: Result<T>) -> String {
    let Err(Error::Generic { source, .. }) = result else { panic!("it waited for nothing") };
    match source.downcast_ref::<LockError>() {
        Some(LockError::Timeout { holders, .. }) => holders.named[0].owner.to_string(),
        // A batch names the key that it could not have.
        Some(LockError::Batch { cause, .. }) => match &**cause {
            LockError::Timeout { holders, .. } => holders.named[0].owner.to_string(),
            other => panic!("{other}"),
        },
        _ => panic!("{source}"),
    }
}

#[tokio::test]
async fn unread_body_keeps_writers_away() {
    let store = impatient().await;
    store.put(&cat(), "meow".into()).await.unwrap();
    let body = store.get(&cat()).await.unwrap();
    assert_eq!(holder(store.put(&cat(), "purr".into()).await), "node-7");
    assert_eq!(store.get(&cat()).await.unwrap().bytes().await.unwrap(), "meow");
    assert_eq!(body.bytes().await.unwrap(), "meow");
    store.put(&cat(), "purr".into()).await.unwrap();
}

#[tokio::test]
async fn body_that_is_dropped_lets_writers_in() {
    let store = impatient().await;
    store.put(&cat(), "meow".into()).await.unwrap();
    drop(store.get(&cat()).await.unwrap());
    let mut body = store.get(&cat()).await.unwrap().into_stream();
    assert!(store.delete(&cat()).await.is_err());
    assert_eq!(body.next().await.unwrap().unwrap(), "meow");
    assert!(body.next().await.is_none());
    // The stream has ended, though it is still there.
    store.delete(&cat()).await.unwrap();
}

#[tokio::test]
async fn head_keeps_nothing() {
    let store = impatient().await;
    store.put(&cat(), "meow".into()).await.unwrap();
    let _meta = store.head(&cat()).await.unwrap();
    store.put(&cat(), "purr".into()).await.unwrap();
}

#[tokio::test]
async fn answer_hold_ends_with_the_answer() {
    let store = store(Options { timeout: Some(SOON), read_hold: ReadHold::Answer, ..Options::default() }).await;
    store.put(&cat(), "meow".into()).await.unwrap();
    let body = store.get(&cat()).await.unwrap();
    store.put(&cat(), "purr".into()).await.unwrap();
    assert_eq!(body.bytes().await.unwrap(), "meow");
}

#[tokio::test]
async fn every_call_waits_for_the_writer() {
    let store = impatient().await;
    store.put(&cat(), "meow".into()).await.unwrap();
    let dog = Path::from("dog");
    let locks = &store.options().locks;
    let writer = locks.acquire_write_lock("", cat().as_ref(), "other").await.unwrap();
    assert_eq!(holder(store.get(&cat()).await), "other");
    assert_eq!(holder(store.head(&cat()).await), "other");
    assert_eq!(holder(store.get_ranges(&cat(), &[0..1, 2..3]).await), "other");
    assert_eq!(holder(store.put(&cat(), "purr".into()).await), "other");
    assert_eq!(holder(store.delete(&cat()).await), "other");
    assert_eq!(holder(store.copy(&cat(), &dog).await), "other");
    assert_eq!(holder(store.copy(&dog, &cat()).await), "other");
    assert_eq!(holder(store.rename(&cat(), &dog).await), "other");
    assert_eq!(holder(store.rename(&dog, &cat()).await), "other");
    assert_eq!(holder(store.delete_all(&[dog.clone(), cat()]).await), "other");
    assert_eq!(holder(store.rename_all(&[(cat(), dog)]).await), "other");
    assert_eq!(locks.holders(&Filter::new()).len(), 1, "what failed holds nothing");
    drop(writer);
    assert_eq!(store.get(&cat()).await.unwrap().bytes().await.unwrap(), "meow");
}

#[tokio::test]
async fn reader_keeps_writers_away_and_no_reader() {
    let store = impatient().await;
    store.put(&cat(), "meow".into()).await.unwrap();
    let reader = store.options().locks.acquire_read_lock("", cat().as_ref(), "other").await.unwrap();
    assert_eq!(store.get_range(&cat(), 0..2).await.unwrap(), "me");
    store.copy(&cat(), &Path::from("dog")).await.unwrap();
    assert_eq!(holder(store.put(&cat(), "purr".into()).await), "other");
    drop(reader);
}

#[tokio::test]
async fn upload_is_locked_when_it_is_committed() {
    let store = impatient().await;
    let reader = store.options().locks.acquire_read_lock("", cat().as_ref(), "other").await.unwrap();
    let mut upload = store.put_multipart(&cat()).await.unwrap();
    upload.put_part("me".into()).await.unwrap();
    upload.put_part("ow".into()).await.unwrap();
    assert_eq!(holder(upload.complete().await), "other");
    drop(reader);
    upload.complete().await.unwrap();
    assert_eq!(store.get(&cat()).await.unwrap().bytes().await.unwrap(), "meow");
    let mut other = store.put_multipart(&cat()).await.unwrap();
    other.put_part("x".into()).await.unwrap();
    other.abort().await.unwrap();
    assert_eq!(store.get(&cat()).await.unwrap().bytes().await.unwrap(), "meow");
}

#[tokio::test]
async fn dropped_call_leaves_no_lock() {
    let store = store(Options::default()).await;
    let locks = &store.options().locks;
    let writer = locks.acquire_write_lock("", cat().as_ref(), "other").await.unwrap();
    let cat = cat();
    {
        let mut put = Box::pin(store.put(&cat, "purr".into()));
        let mut get = Box::pin(store.get(&cat));
        assert!(poll!(&mut put).is_pending() && poll!(&mut get).is_pending());
        assert_eq!(locks.waiters(&Filter::new()).len(), 2);
    }
    assert!(locks.waiters(&Filter::new()).is_empty());
    drop(writer);
    assert!(locks.holders(&Filter::new()).is_empty());
    assert!(matches!(store.get(&cat).await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn stores_with_other_names_do_not_meet() {
    let first = impatient().await;
    let other = Options { name: "other".into(), ..first.options().clone() };
    let other = LockedStore::open(InMemory::new(), other).await.unwrap();
    let same = LockedStore::open(InMemory::new(), first.options().clone()).await.unwrap();
    first.put(&cat(), "meow".into()).await.unwrap();
    let _body = first.get(&cat()).await.unwrap();
    other.put(&cat(), "purr".into()).await.unwrap();
    assert!(same.put(&cat(), "purr".into()).await.is_err());
}

#[tokio::test]
async fn error_names_object_and_holder() {
    let store = impatient().await;
    let _writer = store.options().locks.acquire_write_lock("", cat().as_ref(), "other").await.unwrap();
    let error = store.get(&cat()).await.unwrap_err();
    let text = error.source().expect("a lock error").to_string();
    assert!(text.contains("photos/cat.jpg") && text.contains("other"), "{text}");
    assert!(store.to_string().starts_with("LockedStore(InMemory"));
}
