//! Writes a row of PostgreSQL under a lock of etcd, with its fence.
//!
//! ```text
//! cargo run -p keylatch-etcd --example postgres_store -- http://127.0.0.1:2379 "host=/run/postgresql user=app" \
//!     cat.jpg "some content"
//! ```

use keylatch_etcd::fenced::{FencedStore, Written};
use keylatch_etcd::{EtcdConfig, EtcdLocks, LockRequest};
use std::error::Error;
use std::time::Duration;

mod store;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [endpoint, database, name, content] = arguments.as_slice() else {
        return Err("usage: postgres_store ENDPOINT DATABASE NAME CONTENT".into());
    };
    let store = store::PostgresStore::open(database)?;
    let locks = EtcdLocks::open(EtcdConfig::new([endpoint]).namespace("postgres-store"))?;
    let request = LockRequest::write(("objects", name)).owner("postgres_store").timeout(Duration::from_secs(30));
    let guard = locks.lock(request).blocking()?;
    match store.write(name, guard.fence(), content.as_bytes())? {
        Written::Taken => {}
        Written::Refused => return Err("the lock was lost, and a later holder has written".into()),
    }
    guard.release_blocking(Duration::from_secs(10))?;
    Ok(())
}
