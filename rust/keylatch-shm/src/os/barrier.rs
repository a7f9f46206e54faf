//! A barrier on all processors: after it, no thread of a process that was killed runs its own code any more.
//!
//! A process that is killed ends thread by thread, and its `life` word may say "dead" while another of its threads still
//! runs on another processor, inside a critical section. The kernel has marked every thread of the process for death
//! before the first one ends. `MEMBARRIER_CMD_GLOBAL_EXPEDITED` interrupts each processor that runs a registered
//! process, and a marked thread does not return from an interrupt. So the barrier is what makes "dead" true for the
//! whole process; every member registers for it.

use std::io::{Error, Result};
use std::time::Duration;

/// How long a marked thread may still run where the barrier is refused by now.
const WITHOUT_BARRIER: Duration = Duration::from_millis(2);

fn membarrier(command: i32) -> bool {
    // SAFETY: the call takes two numbers and touches no memory of the caller.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
}

/// Registers the process, so that barriers of other processes interrupt it.
///
/// One that is refused must not be a member: the barriers of others would not reach its threads.
pub(crate) fn register() -> Result<()> {
    if membarrier(libc::MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED) { Ok(()) } else { Err(Error::last_os_error()) }
}

/// Waits until each processor has been interrupted.
///
/// Orders the caller's earlier stores before all later steps of other members.
pub(crate) fn all_processors() {
    if !membarrier(libc::MEMBARRIER_CMD_GLOBAL_EXPEDITED) {
        std::thread::sleep(WITHOUT_BARRIER);
    }
}
