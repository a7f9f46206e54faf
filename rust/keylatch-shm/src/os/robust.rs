//! The word by which the kernel says that a thread has died.
//!
//! A thread gives the kernel a list of words that hold its thread id. When it ends, however it ends, the kernel replaces
//! the id by OWNER_DIED and wakes one sleeper. C libraries use the list for robust mutexes; the life thread of a member
//! takes none, so it puts a list of its own in place of theirs and depends on no C library's layout.
//!
//! ```text
//!   31       30           29..0
//! +---------+------------+-----------+
//! | WAITERS | OWNER_DIED | thread id |
//! +---------+------------+-----------+
//! ```
//!
//! | state | meaning | who makes it |
//! |---|---|---|
//! | 0 | the slot was never used, or was left in order | the member |
//! | WAITERS, thread id | alive | the member, when it claims the slot |
//! | WAITERS, OWNER_DIED | dead | the kernel |
//! | OWNER_DIED | a claim was taken back, or the machine restarted | the claimer, the first opener |
//! | OWNER_DIED, number | about to be claimed; each joiner has another number | a joiner |

use std::pin::Pin;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU32, Ordering, compiler_fence};

const WAITERS: u32 = 1 << 31;
pub(crate) const OWNER_DIED: u32 = 1 << 30;
pub(crate) const THREAD: u32 = OWNER_DIED - 1;

/// Whether a life word's owner lives.
#[inline]
pub(crate) fn is_alive(life: u32) -> bool {
    life & THREAD != 0 && life & OWNER_DIED == 0
}

#[repr(C)]
struct Node {
    next: *mut Node,
}

/// The kernel's `robust_list_head`.
#[repr(C)]
struct Head {
    list: Node,
    /// From a node to the word that it stands for.
    ///
    /// One word a list, so the node need not lie beside the word.
    offset: isize,
    pending: *mut Node,
}

const _: () = assert!(size_of::<Head>() == 3 * size_of::<usize>());

/// The list of the calling thread, with at most one word in it.
///
/// Invariant: the address does not change while the thread lives, for the kernel reads it when the thread ends.
pub(crate) struct RobustWord {
    head: Head,
    node: Node,
    thread: u32,
    _pinned: std::marker::PhantomPinned,
}

impl RobustWord {
    /// Gives the calling thread a list.
    ///
    /// The thread takes no robust mutex before or after this.
    pub(crate) fn register() -> std::io::Result<Pin<Box<Self>>> {
        let mut this = Box::new(Self {
            head: Head { list: Node { next: null_mut() }, offset: 0, pending: null_mut() },
            node: Node { next: null_mut() },
            thread: 0,
            _pinned: std::marker::PhantomPinned,
        });
        this.head.list.next = &raw mut this.head.list;
        // SAFETY: the head is on the heap and pinned below; the caller keeps it until the thread ends or takes it back.
        let result = unsafe { libc::syscall(libc::SYS_set_robust_list, &raw const this.head, size_of::<Head>()) };
        if result != 0 {
            return Err(std::io::Error::last_os_error());
        }
        // SAFETY: the call takes nothing and cannot fail.
        this.thread = u32::try_from(unsafe { libc::gettid() }).expect("thread ids are positive");
        Ok(Box::into_pin(this))
    }

    /// Puts the thread's id into the word, the only one that the list may have,
    /// if it has the value `seen`. The kernel knows of it from the first moment on.
    pub(crate) fn claim(self: Pin<&mut Self>, word: &AtomicU32, seen: u32) -> bool {
        // From `pending` on, the kernel takes a word with this thread's id for its own. One of another pid namespace may
        // have the same id, so a slot that is taken by now is not touched.
        if word.load(Ordering::SeqCst) != seen {
            return false;
        }
        // SAFETY: nothing is moved out of the pinned value.
        let this = unsafe { self.get_unchecked_mut() };
        let head = &raw mut this.head;
        let node = &raw mut this.node;
        // SAFETY: both are parts of the pinned value. Volatile, and fenced, because the kernel may read them between
        // any two instructions, when the thread is killed there.
        unsafe {
            let offset = (word.as_ptr() as isize).wrapping_sub(node as isize);
            (&raw mut (*head).offset).write_volatile(offset);
            compiler_fence(Ordering::SeqCst);
            (&raw mut (*head).pending).write_volatile(node);
            compiler_fence(Ordering::SeqCst);
            // Pairs with: the fence and the look at announcements in joining, and a recoverer's second look.
            let mine = this.thread | WAITERS;
            let hit = word.compare_exchange(seen, mine, Ordering::SeqCst, Ordering::Relaxed).is_ok();
            compiler_fence(Ordering::SeqCst);
            if hit {
                (&raw mut (*node).next).write_volatile(&raw mut (*head).list);
                compiler_fence(Ordering::SeqCst);
                (&raw mut (*head).list.next).write_volatile(node);
            }
            compiler_fence(Ordering::SeqCst);
            (&raw mut (*head).pending).write_volatile(null_mut());
            hit
        }
    }

    /// Gives the word up with the value `left`.
    pub(crate) fn give_up(self: Pin<&mut Self>, word: &AtomicU32, left: u32) {
        // SAFETY: nothing is moved out of the pinned value.
        let this = unsafe { self.get_unchecked_mut() };
        let head = &raw mut this.head;
        // SAFETY: as in `claim`.
        unsafe {
            (&raw mut (*head).pending).write_volatile(&raw mut this.node);
            compiler_fence(Ordering::SeqCst);
            (&raw mut (*head).list.next).write_volatile(&raw mut (*head).list);
            compiler_fence(Ordering::SeqCst);
            // Pairs with: the claim of the slot's next member.
            word.store(left, Ordering::SeqCst);
            compiler_fence(Ordering::SeqCst);
            (&raw mut (*head).pending).write_volatile(null_mut());
        }
    }
}

impl Drop for RobustWord {
    fn drop(&mut self) {
        // SAFETY: an empty list of no address is what a thread begins with.
        unsafe { libc::syscall(libc::SYS_set_robust_list, std::ptr::null::<Head>(), size_of::<Head>()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thread_ends_word_says_dead() {
        let word = AtomicU32::new(0);
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let mut robust = RobustWord::register().expect("every Linux has robust lists");
                assert!(robust.as_mut().claim(&word, 0));
                assert!(is_alive(word.load(Ordering::Relaxed)));
                std::mem::forget(robust);
            });
            thread.join().expect("the thread ends in order");
        });
        let mut tries = 0;
        while is_alive(word.load(Ordering::Relaxed)) {
            // The thread is joined a moment before the kernel is done with it.
            super::super::futex::wait(&word, word.load(Ordering::Relaxed), Some(std::time::Duration::from_millis(10)));
            tries += 1;
            assert!(tries < 1000);
        }
        assert_eq!(word.load(Ordering::Relaxed) & OWNER_DIED, OWNER_DIED);
    }

    #[test]
    fn give_up_thread_ends_word_stays() {
        let word = AtomicU32::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut robust = RobustWord::register().expect("every Linux has robust lists");
                assert!(robust.as_mut().claim(&word, 0));
                robust.as_mut().give_up(&word, 0);
            });
        });
        assert_eq!(word.load(Ordering::Relaxed), 0);
    }
}
