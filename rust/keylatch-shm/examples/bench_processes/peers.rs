//! Locks of a library that is loaded: Boost's, and keylatch through C. `scripts/bench_processes.sh` builds it.

use crate::natives::Native;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

type Pair = unsafe extern "C" fn();

/// Two functions that each lock and unlock one key.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    exclusive: Pair,
    shared: Pair,
}

impl Native for Peer {
    fn exclusive(&self, _: usize) {
        // SAFETY: the library is open, and stays loaded.
        unsafe { (self.exclusive)() };
    }

    fn shared(&self, _: usize) {
        // SAFETY: as above.
        unsafe { (self.shared)() };
    }
}

/// What the library has. Dropping it removes what it made.
pub(crate) struct Peers {
    pub(crate) all: Vec<Peer>,
    close: Pair,
}

impl Drop for Peers {
    fn drop(&mut self) {
        // SAFETY: the library is open, and none of its functions is called after this.
        unsafe { (self.close)() };
    }
}

fn symbol(library: *mut c_void, name: &CStr) -> *mut c_void {
    // SAFETY: the library is loaded, and the name is a C string.
    let found = unsafe { libc::dlsym(library, name.as_ptr()) };
    assert!(!found.is_null(), "the library has no {name:?}");
    found
}

/// Loads the library; its locks of keylatch are in the table of that path.
pub(crate) fn load(library: &Path, table: &Path) -> Peers {
    let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).expect("no zero byte");
    // SAFETY: a C string. What the library runs when it is loaded is C++'s own.
    let loaded = unsafe { libc::dlopen(text(library).as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    assert!(!loaded.is_null(), "{} could not be loaded", library.display());
    // SAFETY: the library defines these with these types.
    unsafe {
        let pair = |name: &CStr| std::mem::transmute::<*mut c_void, Pair>(symbol(loaded, name));
        let open: unsafe extern "C" fn(*const c_char, c_int) -> c_int =
            std::mem::transmute(symbol(loaded, c"bench_open"));
        let has_boost = open(text(table).as_ptr(), std::process::id() as c_int) != 0;
        let mut all = vec![Peer {
            name: "keylatch, from C",
            exclusive: pair(c"bench_c_exclusive"),
            shared: pair(c"bench_c_shared"),
        }];
        if has_boost {
            let (exclusive, shared) = (pair(c"bench_boost_exclusive"), pair(c"bench_boost_shared"));
            all.push(Peer { name: "Boost named_sharable_mutex (one)", exclusive, shared });
        }
        Peers { all, close: pair(c"bench_close") }
    }
}
