//! The thread that deals with the file for requests of tasks: one a process, started by the first task that waits.

use crate::attendant::Attended;
use crate::core::Core;
use crate::layout::BELLS;
use crate::mutex::lock;
use crate::os::futex;
use crate::protocol::turn;
use crate::sleeper::Announced;
use crate::wait::Next;
use crate::waiter::{Phase, Waiter};
use crate::word::Waits;
use keylatch::BlockedSignals;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Starts the thread, if it does not run.
pub(crate) fn start(core: &Arc<Core>) -> std::io::Result<()> {
    let mut running = lock(&core.attendant.is_running);
    if !*running {
        let weak = Arc::downgrade(core);
        // The program's signal handlers are kept off the thread.
        let _blocked = BlockedSignals::all_but_faults();
        std::thread::Builder::new()
            .name("keylatch-attendant".into())
            .stack_size(256 << 10)
            .spawn(move || attend(&weak))?;
        *running = true;
    }
    Ok(())
}

/// How long the thread sleeps when no task waits.
///
/// Then it looks whether the table was closed.
const IDLE: Duration = Duration::from_millis(200);

fn attend(weak: &Weak<Core>) {
    let mut attended: Vec<Attended> = Vec::new();
    loop {
        let Some(core) = weak.upgrade() else { return };
        let kicked = core.attendant.kick.load(Ordering::SeqCst);
        for (waiter, deadline) in lock(&core.attendant.arrivals).drain(..) {
            match attended.iter_mut().find(|(other, _)| Arc::ptr_eq(other, &waiter)) {
                Some((_, known)) => *known = known.or(deadline),
                None => attended.push((waiter, deadline)),
            }
        }
        let mut pause = IDLE;
        // Before any request is looked at.
        let mut announced: [Option<Announced<'_>>; BELLS] = std::array::from_fn(|_| None);
        for (waiter, _) in &attended {
            let of_slot = &mut announced[waiter.slot as usize % BELLS];
            of_slot.get_or_insert_with(|| Announced::new(turn::bell_of(&core.region, core.me, waiter.slot)));
        }
        attended.retain(|(waiter, deadline)| {
            let phase = *lock(&waiter.phase);
            match phase {
                Phase::Granted(_) | Phase::Ended => return false,
                Phase::Queued => {}
                Phase::Leads | Phase::Drains => match waiter.step(&core, Waits::Asleep) {
                    Ok(Next::Done(_)) | Err(_) => {
                        wake(waiter);
                        return false;
                    }
                    Ok(Next::Sleep(longest)) => pause = pause.min(longest),
                },
            }
            if let Some(deadline) = deadline {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    // The task abandons the request when it is polled.
                    wake(waiter);
                    return false;
                }
                pause = pause.min(left);
            }
            true
        });
        if core.closing.load(Ordering::SeqCst) {
            return;
        }
        if pause.is_zero() {
            continue;
        }
        let mut waits: Vec<futex::Wait<'_>> = announced.iter().flatten().map(Announced::wait).collect();
        waits.push((&core.attendant.kick, kicked));
        futex::wait_any(&waits, pause);
    }
}

fn wake(waiter: &Waiter) {
    let waker = lock(&waiter.waker).take();
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::{SharedTable, TableConfig};
    use std::time::{Duration, Instant};

    #[test]
    fn threads_of_table_block_signals() {
        let table = SharedTable::memfd("signals", &TableConfig::default().keys(8).members(1)).expect("a table");
        super::start(table.core_arc()).expect("a thread");
        let read = |path: std::path::PathBuf| std::fs::read_to_string(path).unwrap_or_default();
        // Threads of other tests end meanwhile.
        let blocks = |name: &str| {
            let threads = std::fs::read_dir("/proc/self/task").expect("Linux").flatten().map(|thread| thread.path());
            let named = threads.filter(|thread| read(thread.join("comm")).trim_end() == name);
            let status: Vec<_> =
                named.map(|thread| read(thread.join("status"))).filter(|text| !text.is_empty()).collect();
            let masks = status.iter().filter_map(|text| text.lines().find_map(|line| line.strip_prefix("SigBlk:")));
            masks.map(|mask| u64::from_str_radix(mask.trim(), 16).expect("a mask")).collect::<Vec<_>>()
        };
        let of = |signal: libc::c_int| 1_u64 << (signal - 1);
        let is_right = |mask: &u64| mask & of(libc::SIGUSR1) != 0 && mask & of(libc::SIGBUS) == 0;
        // A thread names itself, and blocks everything while it begins and ends.
        let end = Instant::now() + Duration::from_secs(20);
        for name in ["keylatch-life", "keylatch-attend"] {
            loop {
                let masks = blocks(name);
                if !masks.is_empty() && masks.iter().all(is_right) {
                    break;
                }
                assert!(Instant::now() < end, "{name}: {masks:x?}");
                std::thread::yield_now();
            }
        }
    }
}
