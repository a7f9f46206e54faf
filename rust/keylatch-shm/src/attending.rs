//! The thread that deals with the file for requests of tasks: one a process, started by the first task that waits.

use crate::attendant::Attended;
use crate::core::Core;
use crate::layout::BELLS;
use crate::mutex::lock;
use crate::os::futex;
use crate::wait::Next;
use crate::waiter::{Phase, Waiter};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Starts the thread, if it does not run.
pub(crate) fn start(core: &Arc<Core>) -> std::io::Result<()> {
    let mut running = lock(&core.attendant.is_running);
    if !*running {
        let weak = Arc::downgrade(core);
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
        let bells = &core.region.member(core.me).bells;
        // Pairs with: the signal of a leaver. Read before any request is looked at.
        let seen: [u32; BELLS] = std::array::from_fn(|at| bells[at].load(Ordering::SeqCst));
        for (waiter, deadline) in lock(&core.attendant.arrivals).drain(..) {
            match attended.iter_mut().find(|(other, _)| Arc::ptr_eq(other, &waiter)) {
                Some((_, known)) => *known = known.or(deadline),
                None => attended.push((waiter, deadline)),
            }
        }
        let mut pause = IDLE;
        attended.retain(|(waiter, deadline)| {
            let phase = *lock(&waiter.phase);
            match phase {
                Phase::Granted(_) | Phase::Ended => return false,
                Phase::Queued => {}
                Phase::Leads | Phase::Drains => match waiter.step(&core) {
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
        let mut waits: Vec<futex::Wait<'_>> = bells.iter().zip(seen).collect();
        if attended.is_empty() {
            waits.clear();
        }
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
