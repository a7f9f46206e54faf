//! The system calls that the library has no binding for elsewhere: futexes, robust lists, barriers.

pub(crate) mod barrier;
pub(crate) mod clock;
pub(crate) mod filesystem;
pub(crate) mod fork;
pub(crate) mod futex;
pub(crate) mod robust;
pub(crate) mod slice;
