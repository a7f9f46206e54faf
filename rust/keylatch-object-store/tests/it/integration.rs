//! What `object_store` checks of its own stores, through the locks.

use keylatch_object_store::{Fencing, LockedStore, Options};
use object_store::integration::*;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("keylatch-object-store-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a new folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Has a call that waits for itself fail after a minute instead of hanging.
fn options(fencing: Fencing) -> Options {
    let timeout = Some(Duration::from_secs(60));
    Options { timeout, fencing, owner: "integration".into(), ..Options::default() }
}

async fn what_every_store_passes(store: &LockedStore, supports_update: bool) {
    put_get_delete_list(store).await;
    list_with_offset_exclusivity(store).await;
    get_opts(store).await;
    list_uses_directories_correctly(store).await;
    list_with_delimiter(store).await;
    rename_and_copy(store).await;
    copy_if_not_exists(store).await;
    copy_rename_nonexistent_object(store).await;
    stream_get(store).await;
    put_opts(store, supports_update).await;
    multipart_out_of_order(store).await;
    multipart_race_condition(store, true).await;
    let held = store.options().locks.holders(&keylatch::Filter::new());
    assert!(held.is_empty(), "{held:?}");
}

async fn in_memory(fencing: Fencing) {
    let inner = Arc::new(InMemory::new());
    let store = LockedStore::open(Arc::clone(&inner), options(fencing)).await.unwrap();
    what_every_store_passes(&store, true).await;
    put_get_attributes(&store).await;
    multipart(&store, &*inner).await;
    multipart_with_opts(&store, &*inner).await;
    multipart_put_part_out_of_order(&store, &*inner).await;
}

async fn in_files(fencing: Fencing) {
    let folder = Folder::new();
    let inner = LocalFileSystem::new_with_prefix(&folder.0).unwrap();
    let store = LockedStore::open(inner, options(fencing)).await.unwrap();
    what_every_store_passes(&store, false).await;
}

#[tokio::test]
async fn memory_without_fences_passes() {
    in_memory(Fencing::Off).await;
}

#[tokio::test]
async fn memory_with_fence_files_passes() {
    in_memory(Fencing::Files).await;
}

#[tokio::test]
async fn memory_with_conditional_puts_passes() {
    in_memory(Fencing::Conditional).await;
}

#[tokio::test]
async fn files_without_fences_pass() {
    in_files(Fencing::Off).await;
}

#[tokio::test]
async fn files_with_fence_files_pass() {
    in_files(Fencing::Files).await;
}
