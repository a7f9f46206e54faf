//! Asking the scheduler to run a thread soon after it is woken.
//!
//! A thread that ends wakes those that sleep on its robust word, often on its own processor. The last of a process then
//! takes the process's memory apart there, which takes longer than all of a recovery. A thread whose slices are shorter
//! than those of the one that runs goes first.

/// The shortest slice that Linux gives.
const SHORTEST_NS: u64 = 100_000;

/// Gives the calling thread short slices, and leaves the rest of its scheduling.
///
/// Where the kernel takes no such wish, before Linux 6.12 or by a filter, the thread runs later, and that is all.
pub(crate) fn shorten() {
    let Some(mut attributes) = attributes() else { return };
    // A thread of another class has no slices of this kind.
    if attributes.sched_policy == libc::SCHED_OTHER as u32 {
        attributes.sched_runtime = SHORTEST_NS;
        // SAFETY: the structure is a local that says its size; 0 is the calling thread.
        unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    }
}

fn attributes() -> Option<libc::sched_attr> {
    // SAFETY: the structure is plain numbers, for which zeros are values.
    let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
    // SAFETY: the structure is a local of that size; 0 is the calling thread.
    let got =
        unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size_of::<libc::sched_attr>(), 0) };
    (got == 0).then_some(attributes)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn shorten_changes_the_slice_alone() {
        let seen = std::thread::spawn(|| {
            let before = attributes();
            shorten();
            (before, attributes())
        });
        let (Some(before), Some(after)) = seen.join().expect("no panic") else { return };
        assert_eq!(after.sched_policy, before.sched_policy);
        assert_eq!((after.sched_nice, after.sched_flags), (before.sched_nice, before.sched_flags));
        // A kernel that has slices of a thread's own says how long they are.
        if before.sched_policy == libc::SCHED_OTHER as u32 && before.sched_runtime != 0 {
            assert_eq!(after.sched_runtime, SHORTEST_NS);
        }
    }
}
