//! Several objects at a time.

use futures_util::{StreamExt, TryStreamExt};
use keylatch::Filter;
use keylatch_object_store::{Fencing, LockedStore, Options, Partly};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt};
use std::time::Duration;

async fn store(fencing: Fencing) -> LockedStore {
    let timeout = Some(Duration::from_secs(60));
    LockedStore::open(InMemory::new(), Options { timeout, fencing, ..Options::default() }).await.unwrap()
}

async fn names(store: &LockedStore) -> Vec<String> {
    let mut names: Vec<_> = store.list(None).map_ok(|object| object.location.to_string()).try_collect().await.unwrap();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn renamed_objects_move_together() {
    for fencing in [Fencing::Off, Fencing::Files, Fencing::Conditional] {
        let store = store(fencing).await;
        store.put(&"a".into(), "1".into()).await.unwrap();
        store.put(&"b".into(), "2".into()).await.unwrap();
        store.rename_all(&[("a".into(), "x/a".into()), ("b".into(), "x/b".into())]).await.unwrap();
        assert_eq!(names(&store).await, ["x/a", "x/b"]);
        // One after the other: the second takes the place that the first has left.
        store.rename_all(&[("x/a".into(), "c".into()), ("x/b".into(), "x/a".into())]).await.unwrap();
        assert_eq!(names(&store).await, ["c", "x/a"]);
        store.delete_all(&["c".into(), "x/a".into()]).await.unwrap();
        store.delete_all(&[]).await.unwrap();
        assert!(names(&store).await.is_empty());
    }
}

#[tokio::test]
async fn failure_in_the_middle_says_how_far_it_came() {
    let store = store(Fencing::Off).await;
    store.put(&"a".into(), "1".into()).await.unwrap();
    let renamings = [("a".into(), "b".into()), ("missing".into(), "c".into()), ("b".into(), "d".into())];
    let Err(Error::Generic { source, .. }) = store.rename_all(&renamings).await else { panic!("it cannot be") };
    let Some(Partly { done: 1, of: 3, cause: Error::NotFound { .. } }) = source.downcast_ref() else {
        panic!("{source}")
    };
    assert_eq!(names(&store).await, ["b"]);
    let first = [("missing".into(), "c".into())];
    assert!(matches!(store.rename_all(&first).await, Err(Error::NotFound { .. })));
    assert!(store.options().locks.holders(&Filter::new()).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renamings_in_opposite_orders_all_end() {
    let store = store(Fencing::Off).await;
    store.put(&"a".into(), "1".into()).await.unwrap();
    let tasks = (0..8).map(|task| {
        let store = store.clone();
        tokio::spawn(async move {
            let (from, to): (Path, Path) =
                if task % 2 == 0 { ("a".into(), "b".into()) } else { ("b".into(), "a".into()) };
            for _ in 0..200 {
                match store.rename_all(&[(from.clone(), to.clone())]).await {
                    Ok(()) | Err(Error::NotFound { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
                tokio::task::yield_now().await;
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(names(&store).await.len(), 1, "there was one, and there is one");
}

#[tokio::test]
async fn deletions_answer_in_order_and_keep_errors() {
    for fencing in [Fencing::Off, Fencing::Files] {
        let store = store(fencing).await;
        let paths: Vec<Path> = (0..250).map(|number| Path::from(format!("{number:03}"))).collect();
        for path in &paths {
            store.put(path, "x".into()).await.unwrap();
        }
        let mut locations: Vec<object_store::Result<Path>> = paths.iter().cloned().map(Ok).collect();
        locations.insert(2, Err(Error::NotSupported { source: "of the caller".into() }));
        let answers: Vec<_> = store.delete_stream(futures_util::stream::iter(locations).boxed()).collect().await;
        assert_eq!(answers.len(), 251);
        let deleted: Vec<_> = answers.into_iter().filter_map(Result::ok).collect();
        assert_eq!(deleted, paths);
        assert!(names(&store).await.is_empty() && store.options().locks.holders(&Filter::new()).is_empty());
    }
}
