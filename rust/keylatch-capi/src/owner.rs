//! OWNERS
//!
//! Who makes a request. There are two kinds.
//!
//! A label, such as a node's name, is for people: errors and listings show it, the library concludes nothing from it, and two
//! requests of one label wait for each other like any others. A request may also give a name as it comes (owner_name); an owner
//! that is made once saves looking the name up.
//!
//! A session is one logical thread of control, such as a transaction: while one of its requests waits it does nothing
//! else. So deadlocks among sessions are found, and a session that asks again for what it holds is recognised.

use crate::annotate;
use crate::boundary::{Out, Versioned, call, read, text};
use crate::handle::{self, Kind, Mark};
use crate::manager::{self, handed_out, keylatch_manager};
use crate::refusal::{Failure, invalid};
use keylatch::{Owner, OwnerRef, Session};
use std::ffi::{c_char, c_void};
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// An owner of requests: keylatch_owner_new() makes it.
///
/// Freed by keylatch_owner_free().
#[derive(Debug)]
pub struct keylatch_owner {
    /// The manager's number.
    pub(crate) manager: u64,
    who: Who,
}

#[derive(Debug)]
enum Who {
    Label(Owner),
    Session(Arc<Session>),
}

/// An owner that stays while a request waits, whatever becomes of its handle.
pub(crate) enum KeptOwner {
    Label(Owner),
    Session(Arc<Session>),
    Named(String),
}

impl KeptOwner {
    pub(crate) fn as_ref(&self) -> OwnerRef<'_> {
        match self {
            Self::Label(owner) => OwnerRef::from(*owner),
            Self::Session(session) => OwnerRef::from(&**session),
            Self::Named(name) => OwnerRef::Named(name),
        }
    }
}

impl Kind for keylatch_owner {
    const MARK: &'static Mark = {
        static MARK: Mark = Mark::new();
        &MARK
    };
    const NAME: &'static str = "keylatch_owner";
}

impl keylatch_owner {
    #[inline(always)]
    pub(crate) fn as_ref(&self) -> OwnerRef<'_> {
        match &self.who {
            Who::Label(owner) => OwnerRef::from(*owner),
            Who::Session(session) => OwnerRef::from(&**session),
        }
    }

    pub(crate) fn kept(&self) -> KeptOwner {
        match &self.who {
            Who::Label(owner) => KeptOwner::Label(*owner),
            Who::Session(session) => KeptOwner::Session(Arc::clone(session)),
        }
    }
}

/// The owner is a session.
pub const KEYLATCH_OWNER_SESSION: u32 = 1;
/// Freeing the session releases what it still holds.
///
/// keylatch_owner_release_all() does the same. For sessions only.
pub const KEYLATCH_OWNER_RELEASES: u32 = 2;

/// How an owner is made. Everything that is 0 is the default.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct keylatch_owner_options {
    /// sizeof(keylatch_owner_options)
    pub struct_size: usize,
    /// Where in the program it comes from, such as "replicator", for listings.
    ///
    /// At most 256 bytes of it are kept, and at most 1024 different ones a process.
    pub source: *const c_char,
    pub source_len: usize,
    /// KEYLATCH_OWNER_SESSION and KEYLATCH_OWNER_RELEASES, or 0 for a label.
    pub flags: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: integers and pointers without padding.
unsafe impl Versioned for keylatch_owner_options {
    const FIRST_SIZE: usize = 32;
    const NAME: &'static str = "keylatch_owner_options";
}

const _: () = assert!(size_of::<keylatch_owner_options>() == 32);

/// A source that is kept for ever.
///
/// The core takes those that a program has in its text.
struct Source {
    text: &'static str,
    next: *const Source,
}

static SOURCES: AtomicPtr<Source> = AtomicPtr::new(null_mut());
static SOURCE_COUNT: AtomicUsize = AtomicUsize::new(0);
const MAX_SOURCES: usize = 1024;
const MAX_SOURCE_BYTES: usize = 256;

/// The same text for ever; an empty one when there are too many.
///
/// Takes no mutex: a forked child could find it locked.
fn kept_source(text: &str) -> &'static str {
    let text = &text[..text.floor_char_boundary(MAX_SOURCE_BYTES)];
    if text.is_empty() {
        return "";
    }
    let mut first = SOURCES.load(Ordering::Acquire);
    let mut made: *mut Source = null_mut();
    loop {
        // SAFETY: published whole and never freed.
        let mut next = unsafe { first.as_ref() };
        while let Some(source) = next {
            if source.text == text {
                return source.text;
            }
            // SAFETY: as above.
            next = unsafe { source.next.as_ref() };
        }
        if made.is_null() {
            if SOURCE_COUNT.fetch_add(1, Ordering::Relaxed) >= MAX_SOURCES {
                SOURCE_COUNT.fetch_sub(1, Ordering::Relaxed);
                return "";
            }
            made = Box::into_raw(Box::new(Source { text: Box::leak(Box::from(text)), next: first }));
        }
        // SAFETY: ours until the swap publishes it.
        unsafe { (*made).next = first };
        match SOURCES.compare_exchange(first, made, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: published whole and never freed.
            Ok(_) => return unsafe { (*made).text },
            Err(now) => first = now,
        }
    }
}

/// Makes an owner by name.
///
/// At most 256 bytes of the name are kept; what is not UTF-8 in it is replaced. options may be NULL for a label.
///
/// Writes *owner on success; it is the caller's, to be freed with keylatch_owner_free(), before or after its manager.
/// Errors: KEYLATCH_ENULL, KEYLATCH_EHANDLE, KEYLATCH_ESTRUCT, KEYLATCH_EINVALID. Threads: any; the owner can be used by
/// several together, though a session that waits in two places is not one logical thread of control.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_owner_new(
    manager: *mut keylatch_manager,
    name: *const c_char,
    name_len: usize,
    options: *const keylatch_owner_options,
    owner: *mut *mut keylatch_owner,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(owner) }?;
        let manager = manager::enter(manager)?;
        // SAFETY: the header says what the caller promises.
        let name = unsafe { text(name.cast::<c_void>(), name_len, "name") }?;
        let (source, flags) = match NonNull::new(options.cast_mut()) {
            None => ("", 0),
            Some(options) => {
                // SAFETY: the header says what the caller promises.
                let options = unsafe { read(options) }?;
                let known = [0, KEYLATCH_OWNER_SESSION, KEYLATCH_OWNER_SESSION | KEYLATCH_OWNER_RELEASES];
                if options.reserved != 0 || !known.contains(&options.flags) {
                    return Err(no_flags(&options));
                }
                // SAFETY: the header says what the caller promises.
                let source = unsafe { text(options.source.cast::<c_void>(), options.source_len, "source") }?;
                (kept_source(&source), options.flags)
            }
        };
        let who = if flags & KEYLATCH_OWNER_SESSION != 0 {
            let session = manager.locks.session_with_source(&name, source);
            Who::Session(Arc::new(session.release_on_drop(flags & KEYLATCH_OWNER_RELEASES != 0)))
        } else {
            Who::Label(manager.locks.owner_with_source(&name, source))
        };
        out.write(handed_out(handle::create(keylatch_owner { manager: manager.number, who })?));
        Ok(())
    })
}

#[cold]
fn no_flags(options: &keylatch_owner_options) -> Failure {
    if options.reserved != 0 {
        return invalid("reserved of keylatch_owner_options is not 0".into());
    }
    if options.flags == KEYLATCH_OWNER_RELEASES {
        return invalid("KEYLATCH_OWNER_RELEASES is for sessions: set KEYLATCH_OWNER_SESSION, too".into());
    }
    invalid(format!("{:#x} is not a set of flags of an owner", options.flags))
}

/// Releases by force all that a session holds, as a rollback wants.
///
/// Functions of keylatch_on_lost() are called before this one returns, with KEYLATCH_LOST_FORCED.
///
/// count may be NULL. Writes *count on success: how many locks that were. Errors: KEYLATCH_EINVALID for an owner that is no session;
/// KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any; also from callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_owner_release_all(owner: *mut keylatch_owner, count: *mut usize) -> i32 {
    call(|| {
        let owner = handle::enter_here::<keylatch_owner>(owner.cast())?;
        let Who::Session(session) = &owner.who else {
            return Err(invalid("the owner is a label; only a session has locks of its own".into()));
        };
        annotate::revoking(owner.manager);
        let released = session.release_all();
        if let Some(count) = NonNull::new(count) {
            // SAFETY: the header says what the caller promises.
            unsafe { count.write_unaligned(released) };
        }
        Ok(())
    })
}

/// Frees an owner.
///
/// What it holds stays held, under its name, unless it is a session with KEYLATCH_OWNER_RELEASES. NULL is fine and does
/// nothing.
///
/// Errors: KEYLATCH_EHANDLE, KEYLATCH_EFORKED in a forked child, KEYLATCH_EBUSY from a free_fn that is called inside a
/// call with this owner. Threads: any; waits for calls in progress with this owner, so end their waits first
/// (keylatch_cancel(), keylatch_manager_close()).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_owner_free(owner: *mut keylatch_owner) -> i32 {
    call(|| {
        if !owner.is_null() {
            drop(handle::end::<keylatch_owner>(owner.cast(), |owner| annotate::revoking(owner.manager))?);
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_kept_once() {
        let first = kept_source("replicator");
        assert!(std::ptr::eq(first, kept_source(&String::from("replicator"))));
        assert_eq!(kept_source(&"ü".repeat(300)).len(), 256);
        assert_eq!(kept_source(""), "");
    }

    #[test]
    fn there_is_an_end_to_sources() {
        for number in 0..2 * MAX_SOURCES {
            let text = format!("source {number}");
            let kept = kept_source(&text);
            assert!(kept == text || kept.is_empty());
        }
        assert!(SOURCE_COUNT.load(Ordering::Relaxed) <= MAX_SOURCES);
    }
}
