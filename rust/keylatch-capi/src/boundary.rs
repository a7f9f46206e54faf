//! How a call comes in and goes out.

use crate::annotate;
use crate::last_error;
use crate::refusal::{Failure, invalid, null};
use crate::status::{KEYLATCH_EPANIC, KEYLATCH_ESTRUCT};
use std::borrow::Cow;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::time::Duration;

/// Runs the inside of a function: stops a panic, and notes a failure.
///
/// Failures are noted for the thread.
#[inline(always)]
pub(crate) fn call(inside: impl FnOnce() -> Result<(), Failure>) -> i32 {
    let _unwatched = annotate::Unwatched::enter();
    match catch_unwind(AssertUnwindSafe(inside)) {
        Ok(Ok(())) => 0,
        Ok(Err(failure)) => last_error::note(failure),
        Err(panic) => panicked(panic),
    }
}

#[cold]
#[inline(never)]
fn panicked(panic: Box<dyn std::any::Any + Send>) -> i32 {
    let said = match panic.downcast::<&'static str>() {
        Ok(said) => said.to_string(),
        Err(panic) => match panic.downcast::<String>() {
            Ok(said) => *said,
            Err(other) => {
                // Dropping what was thrown could throw again.
                std::mem::forget(other);
                "no message".into()
            }
        },
    };
    let message = format!("keylatch has failed inside; please report this: {said}");
    last_error::note(Failure::owned(KEYLATCH_EPANIC, message))
}

/// Where a result goes, and only when there is one.
pub(crate) struct Out<T>(NonNull<T>);

impl<T> Out<T> {
    /// # Safety
    /// The pointer is NULL, or can be written to until the call returns.
    #[inline(always)]
    pub(crate) unsafe fn new(pointer: *mut T) -> Result<Self, Failure> {
        match NonNull::new(pointer) {
            Some(pointer) => Ok(Self(pointer)),
            None => Err(null("the place for the result")),
        }
    }

    #[inline(always)]
    pub(crate) fn write(self, value: T) {
        // SAFETY: promised to `new`. Unaligned, because nothing is gained by asking that of the caller.
        unsafe { self.0.write_unaligned(value) }
    }
}

/// A time for C; `u64::MAX` is more than 584 years.
pub(crate) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A bit of a `flags` field, or 0.
pub(crate) fn flag(is_set: bool, flag: u32) -> u32 {
    if is_set { flag } else { 0 }
}

/// Bytes of the caller's. NULL is fine when there are none.
///
/// # Safety
/// The pointer is NULL, or that many bytes can be read until the call returns.
#[inline(always)]
pub(crate) unsafe fn bytes<'a>(pointer: *const c_void, length: usize, what: &str) -> Result<&'a [u8], Failure> {
    if length == 0 {
        return Ok(&[]);
    }
    if pointer.is_null() || length > isize::MAX as usize {
        return Err(no_bytes(pointer.is_null(), length, what));
    }
    // SAFETY: promised, and neither NULL nor too long.
    Ok(unsafe { std::slice::from_raw_parts(pointer.cast(), length) })
}

#[cold]
fn no_bytes(is_null: bool, length: usize, what: &str) -> Failure {
    if is_null {
        invalid(format!("the {what} is NULL and has {length} bytes"))
    } else {
        invalid(format!("the {what} cannot have {length} bytes"))
    }
}

/// Text of the caller's; what is not UTF-8 in it is replaced.
///
/// # Safety
/// As [`bytes`].
pub(crate) unsafe fn text<'a>(pointer: *const c_void, length: usize, what: &str) -> Result<Cow<'a, str>, Failure> {
    // SAFETY: promised.
    Ok(String::from_utf8_lossy(unsafe { bytes(pointer, length, what) }?))
}

/// A struct that starts with its size in bytes as the caller knows it.
///
/// # Safety
/// Made of integers, floats and raw pointers without padding, so that all zeros is a value; `repr(C)`, and its first field is the `usize`.
pub(crate) unsafe trait Versioned: Copy {
    /// The size of the first version that was published.
    const FIRST_SIZE: usize;
    const NAME: &'static str;
}

/// The largest size of a struct: a size beyond it is a mistake.
///
/// It is not a newer version.
const LARGEST: usize = 4096;

/// Reads a struct of the caller's, which may be of an older or newer version.
///
/// # Safety
/// The pointer can be read as far as the size says that it starts with.
#[inline(always)]
pub(crate) unsafe fn read<T: Versioned>(pointer: NonNull<T>) -> Result<T, Failure> {
    // SAFETY: promised; the size is the first field.
    let size = unsafe { pointer.cast::<usize>().read_unaligned() };
    if size == size_of::<T>() {
        // SAFETY: as large as ours.
        return Ok(unsafe { pointer.read_unaligned() });
    }
    // SAFETY: promised.
    unsafe { read_slow(pointer, size) }
}

/// # Safety
/// As [`read`].
#[cold]
#[inline(never)]
unsafe fn read_slow<T: Versioned>(pointer: NonNull<T>, size: usize) -> Result<T, Failure> {
    check_size::<T>(size)?;
    // SAFETY: promised.
    let given = unsafe { std::slice::from_raw_parts(pointer.as_ptr().cast::<u8>(), size) };
    if let Some(position) = given.iter().skip(size_of::<T>()).position(|byte| *byte != 0) {
        let position = position + size_of::<T>();
        let message = format!(
            "{} has something set at byte {position}, which this library does not know; it knows {} bytes",
            T::NAME,
            size_of::<T>()
        );
        return Err(Failure::owned(KEYLATCH_ESTRUCT, message));
    }
    // SAFETY: all zeros is a value of these structs.
    let mut value: T = unsafe { std::mem::zeroed() };
    // SAFETY: as many bytes as both have, and any bytes are a value.
    unsafe { std::ptr::copy_nonoverlapping(given.as_ptr(), (&raw mut value).cast(), size.min(size_of::<T>())) };
    Ok(value)
}

fn check_size<T: Versioned>(size: usize) -> Result<(), Failure> {
    // An older version ends with a field of its own; a pointer of which some bytes are there points nowhere.
    let ends_in_field = size < size_of::<T>() && !size.is_multiple_of(align_of::<T>());
    if (T::FIRST_SIZE..=LARGEST).contains(&size) && !ends_in_field {
        return Ok(());
    }
    let message = format!("{}.struct_size is {size}; set it to sizeof({})", T::NAME, T::NAME);
    Err(Failure::owned(KEYLATCH_ESTRUCT, message))
}

/// Where a struct goes that starts with its size as the caller knows it.
pub(crate) struct SizedOut<T: Versioned> {
    pointer: NonNull<T>,
    size: usize,
}

impl<T: Versioned> SizedOut<T> {
    /// # Safety
    /// The pointer is NULL, or can be read and written as far as the size says that it starts with.
    pub(crate) unsafe fn new(pointer: *mut T) -> Result<Self, Failure> {
        let pointer = NonNull::new(pointer).ok_or_else(|| null(T::NAME))?;
        // SAFETY: promised; the size is the first field.
        let size = unsafe { pointer.cast::<usize>().read_unaligned() };
        check_size::<T>(size)?;
        Ok(Self { pointer, size })
    }

    /// Fills in as much as the caller knows; the rest of its struct becomes zeros.
    ///
    /// `struct_size` stays.
    pub(crate) fn write(self, value: &T) {
        let first = size_of::<usize>();
        let known = self.size.min(size_of::<T>());
        let target = self.pointer.as_ptr().cast::<u8>();
        // SAFETY: promised to `new`, and both are at least as long.
        unsafe {
            std::ptr::copy_nonoverlapping(
                std::ptr::from_ref(value).cast::<u8>().add(first),
                target.add(first),
                known - first,
            );
            target.add(known).write_bytes(0, self.size - known);
        }
    }
}
