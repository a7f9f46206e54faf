//! The handle of a table: what guards, requests and the verbs are made of.

use crate::config::TableConfig;
use crate::core::Core;
use crate::error::ShmError;
use crate::file::TableFile;
use crate::listed::HolderInfo;
use crate::lookup::{Fingerprint, find};
use crate::{listing, watch};
use keylatch::KeyRef;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Keys are at most this long.
const MAX_KEY_BYTES: usize = 65_535;

/// A table of locks in a file that processes of one machine share.
///
/// Cloning gives another handle of the same membership.
///
/// ```
/// # fn main() -> Result<(), keylatch_shm::ShmError> {
/// use keylatch_shm::{LockRequest, SharedTable, TableConfig};
/// # let folder = std::env::temp_dir().join(format!("keylatch-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder).unwrap();
/// # let path = folder.join("locks");
/// let table = SharedTable::open(&path, &TableConfig::default())?; // the first process creates it, the others attach
/// let guard = table.acquire_write_lock_blocking("photos", "cat.jpg", "indexer")?;
/// if guard.previous_holder_died() {
///     // A process was killed while it wrote: look at what it left behind.
/// }
/// let fence = guard.fence(); // greater than any before; stores refuse lower ones
/// # drop(guard); drop(table); std::fs::remove_dir_all(&folder).unwrap(); let _ = fence;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SharedTable(Arc<Handle>);

/// The membership ends with the last handle.
struct Handle {
    core: Arc<Core>,
    life: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.core.is_forked() {
            // The life thread is the parent's.
            if let Some(thread) = crate::mutex::lock(&self.life).take() {
                std::mem::forget(thread);
            }
            return;
        }
        self.core.closing.store(true, Ordering::SeqCst);
        self.core.attendant.kick();
        self.core.wake_life_thread();
        if let Some(thread) = crate::mutex::lock(&self.life).take() {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for SharedTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedTable").field("path", &self.core().path).finish_non_exhaustive()
    }
}

impl SharedTable {
    pub(crate) fn join(file: TableFile, config: &TableConfig) -> Result<Self, ShmError> {
        let (core, life) = watch::begin(file, config.clone())?;
        Ok(Self(Arc::new(Handle { core, life: Mutex::new(Some(life)) })))
    }

    #[inline(always)]
    pub(crate) fn core(&self) -> &Core {
        &self.0.core
    }

    #[inline(always)]
    pub(crate) fn core_arc(&self) -> &Arc<Core> {
        &self.0.core
    }

    #[inline(always)]
    pub(crate) fn fingerprint(&self, key: KeyRef<'_>) -> Result<Fingerprint, ShmError> {
        if key.byte_len() > MAX_KEY_BYTES {
            return Err(ShmError::InvalidKey { bytes: key.byte_len(), limit: MAX_KEY_BYTES });
        }
        Ok(Fingerprint::of(&self.core().region.header().secret, key))
    }

    pub(crate) fn holders_of_print(&self, print: Fingerprint) -> Vec<HolderInfo> {
        let core = self.core();
        find(&core.region, print).map(|slot| listing::of_slot(core, slot)).unwrap_or_default()
    }
}
