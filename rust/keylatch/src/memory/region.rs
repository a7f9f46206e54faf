//! Memory that is reserved once, named by index, costs nothing until touched, and can be given back in parts.

use std::io;

/// What a [`Region`] may hold.
///
/// # Safety
/// Memory of all zero bytes must be a valid value that needs no drop: a fresh or given-back part of a region reads so.
pub(crate) unsafe trait Vacant: Send + Sync {
    /// The value that all zero bytes are; built by hand under the model checker.
    ///
    /// There memory cannot be conjured up.
    #[cfg(loom)]
    fn vacant() -> Self;

    /// Makes this value vacant again, for the model checker.
    #[cfg(loom)]
    fn vacate(&self);
}

pub(crate) use backing::Region;

#[cfg(not(loom))]
mod backing {
    use super::{Vacant, io};
    use std::marker::PhantomData;
    use std::ptr::NonNull;

    /// `len` values of `T` at fixed addresses, all vacant at first.
    #[derive(Debug)]
    pub(crate) struct Region<T: Vacant> {
        start: NonNull<T>,
        len: u32,
        mapped_bytes: usize,
        owns: PhantomData<T>,
    }

    // SAFETY: the region gives out only `&T`, and `T` is `Send + Sync` by its trait.
    unsafe impl<T: Vacant> Send for Region<T> {}
    // SAFETY: as above.
    unsafe impl<T: Vacant> Sync for Region<T> {}

    impl<T: Vacant> Region<T> {
        /// Reserves address space for `len` values, which use no memory until touched.
        pub(crate) fn reserve(len: u32) -> io::Result<Self> {
            const { assert!(size_of::<T>() > 0 && align_of::<T>() <= 4096) };
            let mapped_bytes = (len as usize).max(1).checked_mul(size_of::<T>()).ok_or(io::ErrorKind::OutOfMemory)?;
            // SAFETY: an anonymous private mapping at an address of the kernel's choice touches nothing of ours.
            let address = unsafe {
                libc::mmap(
                    std::ptr::null_mut(),
                    mapped_bytes,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                    -1,
                    0,
                )
            };
            if address == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            // Huge pages would make the first touch of a mostly empty region expensive and giving back in parts
            // impossible; if the advice is not taken the region still works.
            #[cfg(target_os = "linux")]
            // SAFETY: the mapping is ours, just made, and of this length.
            unsafe {
                libc::madvise(address, mapped_bytes, libc::MADV_NOHUGEPAGE);
            }
            let start = NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
            Ok(Self { start, len, mapped_bytes, owns: PhantomData })
        }

        #[inline]
        pub(crate) fn len(&self) -> u32 {
            self.len
        }

        /// Returns the value at `index`.
        #[inline]
        pub(crate) fn get(&self, index: u32) -> &T {
            debug_assert!(index < self.len, "index {index} of {}", self.len);
            // SAFETY: every index that is stored anywhere in the crate was made by counting up to `len`, and indexes
            // that come from outside are compared with `len` first. The memory is mapped for as long as `self` lives,
            // is zero or was written as a `T`, and either is a `T` by the trait's contract.
            unsafe { self.start.add(index as usize).as_ref() }
        }

        /// Gives the memory of `count` values from `first` on back to the system.
        ///
        /// They are vacant afterwards. A thread that still looks at them sees them turn vacant at some moment, value by
        /// value.
        pub(crate) fn give_back(&self, first: u32, count: u32) {
            assert!(first.checked_add(count).is_some_and(|end| end <= self.len), "{first} + {count} of {}", self.len);
            // SAFETY: the range is inside our mapping (just checked) and its pages hold nothing but vacant-able values;
            // racing readers use atomics and see old values or zero, both valid.
            unsafe {
                let from = self.start.add(first as usize).as_ptr();
                libc::madvise(from.cast(), count as usize * size_of::<T>(), libc::MADV_DONTNEED);
            }
        }
    }

    impl<T: Vacant> Drop for Region<T> {
        fn drop(&mut self) {
            // SAFETY: mapped by `reserve` with this length, unmapped only here, and no `&T` outlives `self`.
            unsafe {
                libc::munmap(self.start.as_ptr().cast(), self.mapped_bytes);
            }
        }
    }
}

#[cfg(loom)]
mod backing {
    use super::{Vacant, io};

    #[derive(Debug)]
    pub(crate) struct Region<T: Vacant>(Vec<T>);

    impl<T: Vacant> Region<T> {
        pub(crate) fn reserve(len: u32) -> io::Result<Self> {
            Ok(Self((0..len).map(|_| T::vacant()).collect()))
        }

        pub(crate) fn len(&self) -> u32 {
            self.0.len() as u32
        }

        pub(crate) fn get(&self, index: u32) -> &T {
            &self.0[index as usize]
        }

        pub(crate) fn give_back(&self, first: u32, count: u32) {
            for value in &self.0[first as usize..(first + count) as usize] {
                value.vacate();
            }
        }
    }
}
