//! REQUESTS
//!
//! What a request can say besides its key, its mode and how long it waits.

use crate::boundary::{Versioned, read, text};
use crate::handle::{self, Entered, Inside, Kind};
use crate::manager::{KEYLATCH_NEVER, keylatch_manager};
use crate::owner::{KeptOwner, keylatch_owner};
use crate::refusal::{Failure, invalid};
use crate::status::KEYLATCH_EHANDLE;
use keylatch::{KeyRef, LockError, LockRequest, Mode, OwnerRef};
use std::borrow::Cow;
use std::ffi::{c_char, c_void};
use std::ptr::{NonNull, null};
use std::time::Duration;

/// For a timeout: for as long as it takes.
pub const KEYLATCH_WAIT_FOREVER: u64 = u64::MAX;
/// For a timeout: as the manager is set.
pub const KEYLATCH_WAIT_DEFAULT: u64 = u64::MAX - 1;

/// For a batch: take those locks that can be had in time, rather than all or none.
pub const KEYLATCH_BEST_EFFORT: u32 = 1;

/// What a request says of itself.
///
/// Everything that is 0 is the default, and a NULL for the whole is all defaults.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct keylatch_request_options {
    /// sizeof(keylatch_request_options)
    pub struct_size: usize,
    /// Who asks; NULL for owner_name.
    pub owner: *const keylatch_owner,
    /// Who asks, by name, if owner is NULL: a label. No bytes for none.
    pub owner_name: *const c_char,
    pub owner_name_len: usize,
    /// 0 for a hold that lasts until it is released; otherwise a lease.
    ///
    /// That long after the grant a waiter may take the lock, unless the lease is renewed.
    pub ttl_ns: u64,
    /// For sessions: a number of the caller's for this request, not 0.
    ///
    /// While its grant is held, a request of the same session with the same number is answered with the same grant.
    /// While it waits, such a request waits for the same answer in a thread; one by callback or queue gets
    /// KEYLATCH_EWOULDBLOCK, because the answer goes to the first. Should the first one end without a lock, the next
    /// one asks.
    pub request_id: u64,
    /// 0 to 255.
    ///
    /// A request waits ahead of those of lower priority, which it may overtake overtake_limit times.
    pub priority: u32,
    /// KEYLATCH_BEST_EFFORT, or 0.
    pub flags: u32,
}

// SAFETY: integers and pointers without padding.
unsafe impl Versioned for keylatch_request_options {
    const FIRST_SIZE: usize = 56;
    const NAME: &'static str = "keylatch_request_options";
}

const _: () = assert!(size_of::<keylatch_request_options>() == 56);

/// The options of a request, read.
pub(crate) struct Given<'a> {
    owner: Option<Entered<keylatch_owner>>,
    name: Cow<'a, str>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) request_id: Option<u64>,
    pub(crate) priority: u8,
    pub(crate) flags: u32,
}

impl<'a> Given<'a> {
    /// # Safety
    /// As the header says of keylatch_request_options.
    #[inline(always)]
    pub(crate) unsafe fn read(
        options: *const keylatch_request_options,
        manager: &keylatch_manager,
        flags: u32,
    ) -> Result<Self, Failure> {
        let Some(options) = NonNull::new(options.cast_mut()) else {
            return Ok(Self {
                owner: None,
                name: Cow::Borrowed(""),
                ttl: None,
                request_id: None,
                priority: 0,
                flags: 0,
            });
        };
        // SAFETY: promised.
        let options = unsafe { read(options) }?;
        if options.flags & !flags != 0 || options.priority > 255 {
            return Err(no_such_options(&options));
        }
        let owner = if options.owner.is_null() {
            None
        } else {
            let owner = handle::enter::<keylatch_owner>(options.owner.cast())?;
            if owner.manager != manager.number {
                return Err(Failure::new(
                    KEYLATCH_EHANDLE,
                    "the owner belongs to another manager; make one with keylatch_owner_new() of this one",
                ));
            }
            Some(owner)
        };
        // SAFETY: promised.
        let name = unsafe { text(options.owner_name.cast::<c_void>(), options.owner_name_len, "owner_name") }?;
        let or_none = |number: u64| (number != 0).then_some(number);
        Ok(Self {
            owner,
            name,
            ttl: ttl_of(options.ttl_ns)?,
            request_id: or_none(options.request_id),
            priority: options.priority as u8,
            flags: options.flags,
        })
    }

    #[inline(always)]
    pub(crate) fn owner(&self) -> OwnerRef<'_> {
        match &self.owner {
            Some(owner) => owner.as_ref(),
            None => OwnerRef::Named(&self.name),
        }
    }

    /// The owner, for a request that is made later.
    pub(crate) fn kept_owner(&self) -> KeptOwner {
        match &self.owner {
            Some(owner) => owner.kept(),
            None => KeptOwner::Named(self.name.clone().into_owned()),
        }
    }

    #[inline(always)]
    pub(crate) fn request<'k>(&'k self, key: KeyRef<'k>, mode: Mode) -> LockRequest<'k> {
        let mut request = LockRequest::new(key, mode).owner(self.owner()).priority(self.priority);
        if let Some(ttl) = self.ttl {
            request = request.ttl(ttl);
        }
        if let Some(request_id) = self.request_id {
            request = request.request_id(request_id);
        }
        request
    }
}

/// How long a lease is to last; `None` for 0, which asks for none.
#[inline(always)]
pub(crate) fn ttl_of(ttl_ns: u64) -> Result<Option<Duration>, Failure> {
    match ttl_ns {
        0 => Ok(None),
        KEYLATCH_NEVER => Err(no_lease()),
        nanoseconds => Ok(Some(Duration::from_nanos(nanoseconds))),
    }
}

#[cold]
fn no_lease() -> Failure {
    let problem =
        "KEYLATCH_NEVER is no length of a lease; a request with a ttl_ns of 0 is granted until it is released";
    LockError::InvalidConfig { setting: "ttl_ns", problem: problem.into() }.into()
}

#[cold]
fn no_such_options(options: &keylatch_request_options) -> Failure {
    if options.priority > u8::MAX.into() {
        return invalid(format!("a priority is from 0 to 255, not {}", options.priority));
    }
    if options.flags == KEYLATCH_BEST_EFFORT {
        return invalid("KEYLATCH_BEST_EFFORT is for a batch; keylatch_try() takes one lock if it is free".into());
    }
    invalid(format!("{:#x} is not a set of flags of this request", options.flags))
}

/// What a fast path reads of options: an owner's handle and a priority.
pub(crate) struct Plain {
    owner: Option<Inside<keylatch_owner>>,
    pub(crate) priority: u8,
}

impl Plain {
    #[inline(always)]
    pub(crate) fn owner(&self) -> OwnerRef<'_> {
        self.owner.as_ref().map_or(OwnerRef::Named(""), |owner| owner.as_ref())
    }
}

/// The options of a request on a fast path; `None` for more than these.
///
/// The caller knows whether there are any. Another version of the struct is `None` too.
///
/// # Safety
/// As the header says of keylatch_request_options.
#[inline(always)]
pub(crate) unsafe fn plain<const OWNED: bool, T: Kind>(
    options: *const keylatch_request_options,
    inside: &Inside<T>,
    manager: u64,
) -> Option<Plain> {
    if !OWNED {
        return Some(Plain { owner: None, priority: 0 });
    }
    // SAFETY: promised.
    let (owner, priority) = unsafe { plain_fields(options, 0) }?;
    let owner = inside.and::<keylatch_owner>(owner.cast())?;
    (owner.manager == manager).then_some(Plain { owner: Some(owner), priority })
}

/// As [`plain`] for a batch.
///
/// A batch is slower than another version's conversion would be. What is free needs no effort, so that a best effort is
/// plain too.
///
/// # Safety
/// As [`plain`].
#[inline(always)]
pub(crate) unsafe fn plain_of_batch(
    options: *const keylatch_request_options,
    manager: &Inside<keylatch_manager>,
) -> Option<Plain> {
    if options.is_null() {
        return Some(Plain { owner: None, priority: 0 });
    }
    // SAFETY: promised.
    let (owner, priority) = unsafe { plain_fields(options, KEYLATCH_BEST_EFFORT) }?;
    if owner.is_null() {
        return Some(Plain { owner: None, priority });
    }
    let owner = manager.and::<keylatch_owner>(owner.cast())?;
    (owner.manager == manager.number).then_some(Plain { owner: Some(owner), priority })
}

/// Owner and priority, if there is nothing else but these flags.
///
/// # Safety
/// As [`plain`].
#[inline(always)]
unsafe fn plain_fields(options: *const keylatch_request_options, flags: u32) -> Option<(*const keylatch_owner, u8)> {
    // SAFETY: promised; the size is the first field.
    if unsafe { options.cast::<usize>().read_unaligned() } != size_of::<keylatch_request_options>() {
        return None;
    }
    // SAFETY: as large as ours. Field by field: a copy of the whole goes through memory.
    let (owner, more, priority) = unsafe {
        (
            (&raw const (*options).owner).read_unaligned(),
            (&raw const (*options).owner_name_len).read_unaligned() as u64
                | (&raw const (*options).ttl_ns).read_unaligned()
                | (&raw const (*options).request_id).read_unaligned()
                | u64::from((&raw const (*options).flags).read_unaligned() & !flags),
            (&raw const (*options).priority).read_unaligned(),
        )
    };
    (more == 0 && priority <= 255).then_some((owner, priority as u8))
}

/// The request, waiting as long as a number of the caller's says.
#[inline(always)]
pub(crate) fn waiting(request: LockRequest<'_>, timeout_ns: u64) -> LockRequest<'_> {
    match timeout_ns {
        KEYLATCH_WAIT_DEFAULT => request,
        KEYLATCH_WAIT_FOREVER => request.no_timeout(),
        nanoseconds => request.timeout(Duration::from_nanos(nanoseconds)),
    }
}

impl keylatch_request_options {
    /// All defaults.
    #[must_use]
    pub fn defaults() -> Self {
        Self {
            struct_size: size_of::<Self>(),
            owner: null(),
            owner_name: null(),
            owner_name_len: 0,
            ttl_ns: 0,
            request_id: 0,
            priority: 0,
            flags: 0,
        }
    }
}
