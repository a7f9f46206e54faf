//! What a pair costs through the C library, beside the Rust one in the same run and what C and C++ programs have without it.
//!
//! The pairs are made by a shared library, `tests/c/bench`, which calls the C library as every program does: through the
//! linker's table, with nothing inlined.

use std::ffi::{CString, c_char};
use std::path::Path;
use std::ptr::NonNull;

use crate::arguments::Options;
use crate::keys::KeySet;
use crate::machine;
use crate::report::{json, table};
use crate::row::Row;
use crate::scenarios::pairs::{exclusive_pair, shared_pair};
use crate::slices::{Figures, Lane, Pace, in_turn};
use crate::subject::{BATCH, Batch as _, Subject as _};
use crate::subjects::keylatch::{Keylatch, Pinned};
use crate::unit::BareWord;

/// The scenario's name, in rows and goals.
pub(crate) const SCENARIO: &str = "c_pair";

/// A library that stays loaded.
struct Library(NonNull<libc::c_void>);

impl Library {
    fn open(path: &Path) -> Result<Self, String> {
        let name = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|error| error.to_string())?;
        // SAFETY: a text that ends with a NUL; what is loaded is what `make bench-c` has built.
        let opened = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW) };
        NonNull::new(opened).map(Self).ok_or_else(|| {
            format!("{} cannot be loaded; `make bench-c` builds it and says where it is", path.display())
        })
    }

    fn find(&self, name: &str) -> Result<NonNull<libc::c_void>, String> {
        let text = CString::new(name).map_err(|error| error.to_string())?;
        // SAFETY: an open library, and a text that ends with a NUL.
        NonNull::new(unsafe { libc::dlsym(self.0.as_ptr(), text.as_ptr()) })
            .ok_or_else(|| format!("there is no {name}"))
    }

    /// Tells the library of a key to lock.
    fn prepare(&self, name: &str, bucket: &str, object: &str) -> Result<(), String> {
        let open = self.find(name)?;
        // Kept for ever: the library goes on pointing to them.
        let [bucket, object] = [bucket, object].map(|part| CString::new(part).map(CString::into_raw));
        let (bucket, object) = (bucket.map_err(|error| error.to_string())?, object.map_err(|error| error.to_string())?);
        // SAFETY: the function has this type in tests/c/bench.
        unsafe {
            let open: unsafe extern "C" fn(*const c_char, *const c_char) = std::mem::transmute(open);
            open(bucket, object);
        }
        Ok(())
    }

    /// Returns a function that makes this number of pairs.
    fn pairs(&self, name: &str) -> Result<impl FnMut(u64) + use<>, String> {
        let found = self.find(name)?;
        // SAFETY: the function has this type in tests/c/bench, and the library stays loaded.
        let pairs: unsafe extern "C" fn(u64) = unsafe { std::mem::transmute(found) };
        // SAFETY: as above; the library has its key already.
        Ok(move |count| unsafe { pairs(count) })
    }
}

pub(crate) fn measure(options: &Options) -> Result<(), String> {
    let path = options.library.as_deref().ok_or("c needs --library; `make bench-c` gives it")?;
    let library = Library::open(path)?;
    let (word, subject, pinned) = (BareWord::new(), Keylatch::<false>::create(), Pinned::create());
    let keys = KeySet::common(1 + BATCH);
    let key = keys.get(0);
    library.prepare("bench_keylatch_open", key.bucket, key.object)?;
    library.prepare("bench_peers_open", key.bucket, key.object)?;
    let sixteen = std::array::from_fn(|number| keys.get(1 + number));
    for key in sixteen {
        library.prepare("bench_keylatch_batch_add", key.bucket, key.object)?;
    }
    let pace = if options.quick { Pace::QUICK } else { Pace::FULL };
    let machine = machine::describe();
    println!("{}", table::heading(&machine));
    let lanes = [
        Lane::new(|count| word.pairs(count)),
        Lane::new(|count| (0..count).for_each(|_| exclusive_pair(&subject, key))),
        Lane::new(|count| (0..count).for_each(|_| shared_pair(&subject, key))),
        Lane::new(library.pairs("bench_keylatch_exclusive")?),
        Lane::new(library.pairs("bench_keylatch_shared")?),
        Lane::new(library.pairs("bench_keylatch_with_owner")?),
        Lane::new(|count| (0..count).for_each(|_| exclusive_pair(&pinned, key))),
        Lane::new(|count| (0..count).for_each(|_| shared_pair(&pinned, key))),
        Lane::new(library.pairs("bench_keylatch_pinned")?),
        Lane::new(library.pairs("bench_keylatch_pinned_shared")?),
        // Counted by keys, like the one from C.
        Lane::new(|count| (0..count).step_by(BATCH).for_each(|_| subject.batch(&sixteen, || ()))),
        Lane::new(library.pairs("bench_keylatch_batch")?),
        Lane::new(library.pairs("bench_pthread_rwlock")?),
        Lane::new(library.pairs("bench_pthread_map")?),
        Lane::new(library.pairs("bench_shared_mutex_map")?),
    ];
    let together = Pace { subject: pace.subject * lanes.len() as u32, ..pace };
    let [unit, exclusive, shared, c_exclusive, c_shared, c_owner, pins @ .., batch, c_batch, bare, c_map, cpp_map] =
        in_turn(&together, lanes);
    let [pin, pin_shared, c_pin, c_pin_shared] = pins;
    let rows = [
        ("keylatch", exclusive, exclusive),
        ("keylatch_shared", shared, shared),
        ("keylatch_c", c_exclusive, exclusive),
        ("keylatch_c_shared", c_shared, shared),
        ("keylatch_c_owner", c_owner, exclusive),
        ("keylatch_pinned", pin, pin),
        ("keylatch_pinned_shared", pin_shared, pin_shared),
        ("keylatch_c_pinned", c_pin, pin),
        ("keylatch_c_pinned_shared", c_pin_shared, pin_shared),
        ("keylatch_batch_16, a key", batch, batch),
        ("keylatch_c_batch_16, a key", c_batch, batch),
        ("pthread_rwlock", bare, exclusive),
        ("pthread_rwlock_map_c", c_map, exclusive),
        ("shared_mutex_map_cpp", cpp_map, exclusive),
    ]
    .map(|(subject, figures, rust)| row(subject, unit, figures, rust));
    let says = "acquire and release one warm key, one thread, alone or in a batch of 16: through the C library, and what C and C++ have without it";
    let columns = [("median_ns", "median ns"), ("versus_rust", "x Rust"), ("versus_rust_by_medians", "by medians")];
    println!("{}", table::block(SCENARIO, says, &columns, &rows).trim_end());
    println!("{}", table::verdict(&rows));
    json::finish(options, "c", &machine, &rows)
}

fn row(subject: &str, unit: Figures, figures: Figures, rust: Figures) -> Row {
    let mut row = Row::new(subject, SCENARIO)
        .with("unit_ns", unit.best)
        .with("median_ns", figures.median)
        .with("versus_rust", figures.best / rust.best)
        .with("versus_rust_by_medians", figures.median / rust.median);
    // What the libraries allocate is not counted here.
    (row.ns, row.ratio, row.ops, row.allocs) = (figures.best, figures.best / unit.best, figures.ops, f64::NAN);
    row
}
