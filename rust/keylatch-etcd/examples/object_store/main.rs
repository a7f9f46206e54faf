//! Writes an object under a lock of etcd, with its fence.
//!
//! ```text
//! cargo run -p keylatch-etcd --example object_store -- http://127.0.0.1:2379 /tmp/objects cat.jpg "some content"
//! ```
//!
//! A folder has no conditional puts. `memory` in its place is a store that has them, as S3 and its like do, and that is
//! gone with the program.

use keylatch_etcd::fenced::{FencedStore, Written};
use keylatch_etcd::{EtcdConfig, EtcdLocks, LockRequest};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use std::error::Error;
use std::time::Duration;

mod store;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [endpoint, folder, name, content] = arguments.as_slice() else {
        return Err("usage: object_store ENDPOINT FOLDER|memory NAME CONTENT".into());
    };
    let store: Box<dyn FencedStore<Error = object_store::Error>> = if folder == "memory" {
        Box::new(store::ConditionalStore::open(InMemory::new())?)
    } else {
        std::fs::create_dir_all(folder)?;
        Box::new(store::VersionedStore::open(LocalFileSystem::new_with_prefix(folder)?)?)
    };
    let locks = EtcdLocks::open(EtcdConfig::new([endpoint]).namespace("object-store"))?;
    let request = LockRequest::write(("objects", name)).owner("object_store").timeout(Duration::from_secs(30));
    let guard = locks.lock(request).blocking()?;
    match store.write(name, guard.fence(), content.as_bytes())? {
        Written::Taken => {}
        Written::Refused => return Err("the lock was lost, and a later holder has written".into()),
    }
    guard.release_blocking(Duration::from_secs(10))?;
    Ok(())
}
