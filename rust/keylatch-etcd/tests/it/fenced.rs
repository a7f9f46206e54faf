//! Stores that compare fences, and holders that come late.

use crate::cluster::{Cluster, etcdctl};
use crate::locking::until;
use crate::postgres::Postgres;
use ::object_store::local::LocalFileSystem;
use ::object_store::memory::InMemory;
use keylatch_etcd::fenced::{FencedStore, Written, check_store};
use keylatch_etcd::{EtcdConfig, EtcdLocks, LockRequest};
use std::path::PathBuf;
use std::time::Duration;

#[path = "../../examples/object_store/store.rs"]
mod object_store;
#[path = "../../examples/postgres_store/store.rs"]
mod postgres_store;
#[path = "../../examples/file_store/store.rs"]
mod store;

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn folder(name: &str) -> Folder {
    Folder(std::env::temp_dir().join(format!("keylatch-etcd-{name}-{}", std::process::id())))
}

#[test]
fn file_store_conforms() {
    let folder = folder("conforms");
    check_store(&store::FileStore::open(&folder.0).expect("a folder")).expect("it conforms");
}

#[test]
fn conditional_store_conforms() {
    let store = object_store::ConditionalStore::open(InMemory::new()).expect("a runtime");
    check_store(&store).expect("it conforms");
}

#[test]
fn versioned_store_conforms() {
    let folder = folder("versions");
    check_store(&versioned_store(&folder)).expect("it conforms");
    check_store(&object_store::VersionedStore::open(InMemory::new()).expect("a runtime")).expect("it conforms");
}

#[test]
fn postgres_store_conforms() {
    let Some(server) = Postgres::shared() else { return };
    let store = postgres_store::PostgresStore::open(&server.database()).expect("a connection");
    check_store(&store).expect("it conforms");
}

/// An update without a condition: it reads the fence first, and writes later.
#[test]
fn postgres_in_two_steps_refused() {
    struct TwoSteps(String);
    impl FencedStore for TwoSteps {
        type Error = ::postgres::Error;

        fn write(&self, name: &str, fence: u64, content: &[u8]) -> Result<Written, Self::Error> {
            let mut client = ::postgres::Client::connect(&self.0, ::postgres::NoTls)?;
            let greatest = client.query_opt("SELECT fence::text FROM steps WHERE name = $1", &[&name])?;
            if greatest.is_some_and(|row| fence < row.get::<_, String>(0).parse().expect("a fence")) {
                return Ok(Written::Refused);
            }
            // Writers are late by turns, as on a network.
            std::thread::sleep(Duration::from_micros(fence % 100 * 31 % 5 * 400));
            let write = "INSERT INTO steps VALUES ($1, $2::text::numeric, $3)
                ON CONFLICT (name) DO UPDATE SET fence = excluded.fence, content = excluded.content";
            client.execute(write, &[&name, &fence.to_string(), &content])?;
            Ok(Written::Taken)
        }

        fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Self::Error> {
            let mut client = ::postgres::Client::connect(&self.0, ::postgres::NoTls)?;
            let row = client.query_opt("SELECT content FROM steps WHERE name = $1", &[&name])?;
            Ok(row.map(|row| row.get(0)))
        }
    }

    let Some(server) = Postgres::shared() else { return };
    let mut client = ::postgres::Client::connect(&server.database(), ::postgres::NoTls).expect("a connection");
    let table = "CREATE TABLE steps (name text PRIMARY KEY, fence numeric(20) NOT NULL, content bytea NOT NULL)";
    client.batch_execute(table).expect("a table");
    let problem = check_store(&TwoSteps(server.database())).expect_err("two steps are not one");
    assert!(problem.contains("is stored"), "{problem}");
}

#[test]
fn file_store_refuses_late_holder() {
    let folder = folder("late");
    refuses_late_holder(&store::FileStore::open(&folder.0).expect("a folder"), "late-file");
}

#[test]
fn object_stores_refuse_late_holder() {
    let conditional = object_store::ConditionalStore::open(InMemory::new()).expect("a runtime");
    refuses_late_holder(&conditional, "late-conditional");
    refuses_late_holder(&versioned_store(&folder("late-versions")), "late-versions");
}

#[test]
fn postgres_store_refuses_late_holder() {
    let Some(server) = Postgres::shared() else { return };
    let store = postgres_store::PostgresStore::open(&server.database()).expect("a connection");
    refuses_late_holder(&store, "late-postgres");
}

fn versioned_store(folder: &Folder) -> object_store::VersionedStore<LocalFileSystem> {
    std::fs::create_dir_all(&folder.0).expect("a folder");
    let files = LocalFileSystem::new_with_prefix(&folder.0).expect("a store in it");
    object_store::VersionedStore::open(files).expect("a runtime")
}

/// Two holders, of which the first goes on writing after it has lost the lock.
fn refuses_late_holder(store: &impl FencedStore<Error: std::fmt::Debug>, namespace: &str) {
    let Some(cluster) = Cluster::shared() else { return };
    let open = || EtcdLocks::open(EtcdConfig::new(cluster.endpoints()).namespace(namespace)).expect("a handle");
    let (slow, next) = (open(), open());
    let request = LockRequest::write(("files", "cat.jpg")).timeout(Duration::from_secs(30));
    let late = slow.lock(request).blocking().expect("the lock");
    assert_eq!(store.write("cat.jpg", late.fence(), b"half").expect("written"), Written::Taken);
    // The holder does not learn in time that its entry was removed.
    etcdctl(cluster, &["del", "--prefix", &format!("keylatch/1/{namespace}/q/")]);
    let guard = next.lock(request).blocking().expect("the lock");
    assert_eq!(store.write("cat.jpg", guard.fence(), b"whole").expect("written"), Written::Taken);
    assert_eq!(store.write("cat.jpg", late.fence(), b"other half").expect("refused"), Written::Refused);
    assert_eq!(store.read("cat.jpg").expect("read").as_deref(), Some(&b"whole"[..]));
    until("the holder notices", || !late.is_valid());
}
