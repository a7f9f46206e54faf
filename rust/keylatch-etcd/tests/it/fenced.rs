//! A store that compares fences, and holders that come late.

use crate::cluster::{Cluster, etcdctl};
use crate::locking::until;
use keylatch_etcd::fenced::{FencedStore, Written, check_store};
use keylatch_etcd::{EtcdConfig, EtcdLocks, LockRequest};
use std::path::PathBuf;
use std::time::Duration;

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
fn file_store_refuses_late_holder() {
    let Some(cluster) = Cluster::shared() else { return };
    let folder = folder("late");
    let store = store::FileStore::open(&folder.0).expect("a folder");
    let open = || EtcdLocks::open(EtcdConfig::new(cluster.endpoints()).namespace("store")).expect("a handle");
    let (slow, next) = (open(), open());
    let request = LockRequest::write(("files", "cat.jpg")).timeout(Duration::from_secs(30));
    let late = slow.lock(request).blocking().expect("the lock");
    assert_eq!(store.write("cat.jpg", late.fence(), b"half").expect("written"), Written::Taken);
    // The holder does not learn in time that its entry was removed.
    etcdctl(cluster, &["del", "--prefix", "keylatch/1/store/q/"]);
    let guard = next.lock(request).blocking().expect("the lock");
    assert_eq!(store.write("cat.jpg", guard.fence(), b"whole").expect("written"), Written::Taken);
    assert_eq!(store.write("cat.jpg", late.fence(), b"other half").expect("refused"), Written::Refused);
    assert_eq!(store.read("cat.jpg").expect("read").as_deref(), Some(&b"whole"[..]));
    until("the holder notices", || !late.is_valid());
}
