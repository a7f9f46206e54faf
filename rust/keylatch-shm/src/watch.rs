//! The life thread: proof that its process lives, and the one that notices when others do not.
//!
//! It claims the member's `life` word and never exits while the membership lasts, so the kernel marks the word when the
//! process ends. It sleeps on the `life` words of the next four members, recovers those that die, keeps the coarse clock
//! of holds going while there are any, and looks whether the file is still the one that was opened.

use crate::config::TableConfig;
use crate::core::{Core, Status};
use crate::error::ShmError;
use crate::file::TableFile;
use crate::member;
use crate::os::robust::RobustWord;
use crate::os::{barrier, fork, futex, slice};
use crate::records;
use crate::revoke::clear_left;
use keylatch::BlockedSignals;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How old the coarse clock may be.
const TICK: Duration = Duration::from_millis(20);
/// How often the file and the neighbours are looked at without a reason.
const LOOK: Duration = Duration::from_millis(250);

/// Joins the table with a new life thread.
pub(crate) fn begin(file: TableFile, config: TableConfig) -> Result<(Arc<Core>, JoinHandle<()>), ShmError> {
    fork::watch();
    barrier::register().map_err(|error| ShmError::Unsupported {
        problem: format!(
            "the kernel refuses `membarrier`, without which other processes cannot know that this one has ended: {error}; \
             allow it in the filter of system calls, on Linux 4.16 or newer"
        ),
    })?;
    let (ready, joined) = sync_channel(1);
    // The program's signal handlers are kept off the thread.
    let blocked = BlockedSignals::all_but_faults();
    let thread = std::thread::Builder::new()
        .name("keylatch-life".into())
        .stack_size(256 << 10)
        .spawn(move || live(file, config, &ready))
        .map_err(|error| ShmError::Unsupported { problem: format!("no thread could be started: {error}; end some") })?;
    drop(blocked);
    let core = joined.recv().unwrap_or(Err(ShmError::Closed))?;
    Ok((core, thread))
}

fn live(file: TableFile, config: TableConfig, ready: &SyncSender<Result<Arc<Core>, ShmError>>) {
    // The one that ends wakes it, and may go on for long on the same processor.
    slice::shorten();
    let mut robust = match RobustWord::register() {
        Ok(robust) => robust,
        Err(error) => {
            let problem = format!("the kernel has no robust lists here: {error}; allow `set_robust_list`");
            let _ = ready.send(Err(ShmError::Unsupported { problem }));
            return;
        }
    };
    let joined = catch_unwind(AssertUnwindSafe(|| member::join(&file.region, robust.as_mut(), &config.label)));
    let me = match joined {
        Ok(Ok(me)) => me,
        Ok(Err(error)) => {
            let _ = ready.send(Err(error));
            return;
        }
        Err(_) => {
            let problem = format!("its log makes no sense ({})", file.path.display());
            let _ = ready.send(Err(ShmError::Damaged { problem }));
            // The kernel marks the slot, which may be claimed, when the thread ends.
            std::mem::forget((file, robust));
            return;
        }
    };
    let core = Arc::new(Core::new(file, me, config));
    if !core.path.as_os_str().is_empty() {
        // SAFETY: the word lies in the `Arc`, which outlives the region in it; the region's drop ends the watch.
        let watched = unsafe { crate::sigbus::watch(core.region.base(), core.region.layout().total, &core.status) };
        if !watched {
            member::leave(&core.region, me, robust.as_mut());
            let problem = "this process has too many tables open; close some, or use one table".into();
            let _ = ready.send(Err(ShmError::Unsupported { problem }));
            return;
        }
    }
    let _ = ready.send(Ok(core.clone()));
    if !ends_in_order(&core, watch) {
        // The process is a member until it closes the table.
        while !core.closing.load(Ordering::SeqCst) {
            std::thread::sleep(LOOK);
        }
    }
    if core.is_sound() {
        member::leave(&core.region, me, robust.as_mut());
    } else {
        // Kept until the thread has ended, so that the kernel marks the slot.
        std::mem::forget((core, robust));
    }
}

/// Whether the watch ended without a panic, which only a damaged file makes.
///
/// After one, the table gives no locks any more.
fn ends_in_order(core: &Core, watch: impl FnOnce(&Core)) -> bool {
    let ended = catch_unwind(AssertUnwindSafe(|| watch(core))).is_ok();
    if !ended {
        core.fail(Status::Corrupt);
    }
    ended
}

fn watch(core: &Core) {
    let bell = &core.region.member(core.me).watch_bell;
    let mut looked = Instant::now();
    loop {
        // Pairs with: joining neighbours, the clock, and closing.
        let seen = bell.load(Ordering::SeqCst);
        if core.closing.load(Ordering::SeqCst) {
            return;
        }
        let neighbours = member::after(&core.region, core.me);
        let mut waits = vec![(bell, seen)];
        let mut recovered = false;
        for id in neighbours {
            let life = &core.region.member(id).life;
            let value = life.load(Ordering::SeqCst);
            if crate::os::robust::is_alive(value) {
                waits.push((life, value));
            } else {
                recovered |= core.recover(id);
                // What a dead recoverer left is recovered too, wherever its slot is.
                let left = core.region.member(id).recovering.load(Ordering::SeqCst);
                if let Some(left) = crate::word::MemberId::new(u64::from(left)) {
                    recovered |= core.recover(left);
                }
            }
        }
        if recovered {
            continue;
        }
        records::sweep(core);
        let ticks = core.coarse_ms.swap(0, Ordering::Relaxed) != 0;
        core.clock_sleeps.store(!ticks, Ordering::Relaxed);
        if !ticks && core.coarse_ms.load(Ordering::Relaxed) != 0 {
            continue;
        }
        if looked.elapsed() >= LOOK {
            looked = Instant::now();
            look_at_file(core);
            clear_left(core);
        }
        futex::wait_any(&waits, if ticks { TICK } else { LOOK });
    }
}

/// Finds out that the file was truncated, removed or replaced.
pub(crate) fn look_at_file(core: &Core) {
    let Ok(metadata) = core.file.metadata() else { return };
    if metadata.len() != core.region.layout().total as u64 {
        return core.fail(Status::Truncated);
    }
    if core.path.as_os_str().is_empty() {
        return;
    }
    match std::fs::symlink_metadata(&core.path) {
        Ok(named) if (named.dev(), named.ino()) == (metadata.dev(), metadata.ino()) => {}
        Ok(_) => core.fail(Status::Replaced),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => core.fail(Status::Removed),
        Err(_) => {}
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{LockRequest, SharedTable};

    #[test]
    fn watch_that_panics_ends_the_table() {
        let table = SharedTable::memfd("watch", &TableConfig::default().keys(8).members(1)).expect("a table");
        assert!(ends_in_order(table.core(), |_| {}));
        assert!(!ends_in_order(table.core(), |_| panic!("a number of the file makes no sense")));
        let refused = table.lock(LockRequest::write(("photos", "cat.jpg"))).now();
        assert!(matches!(refused, Err(ShmError::Damaged { .. })));
    }
}
