//! Stores that compare fences, and a check that a store does.
//!
//! A lock with a lease cannot keep a holder from writing late: it may be stopped between its last look at the clock and the
//! write. A store that refuses fences below the greatest it has seen can. [`check_store`] tries a store of your own. The
//! examples `file_store`, `postgres_store` and `object_store` are stores that pass.
//!
//! ```
//! use keylatch_etcd::fenced::{FencedStore, Written, check_store};
//! use std::collections::HashMap;
//! use std::sync::Mutex;
//!
//! #[derive(Default)]
//! struct Memory(Mutex<HashMap<String, (u64, Vec<u8>)>>);
//!
//! impl FencedStore for Memory {
//!     type Error = std::convert::Infallible;
//!
//!     fn write(&self, name: &str, fence: u64, content: &[u8]) -> Result<Written, Self::Error> {
//!         let mut names = self.0.lock().unwrap();
//!         let stored = names.entry(name.into()).or_default();
//!         if fence < stored.0 {
//!             return Ok(Written::Refused);
//!         }
//!         *stored = (fence, content.into());
//!         Ok(Written::Taken)
//!     }
//!
//!     fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Self::Error> {
//!         Ok(self.0.lock().unwrap().get(name).map(|stored| stored.1.clone()))
//!     }
//! }
//!
//! check_store(&Memory::default()).expect("it refuses what comes late");
//! ```

use std::fmt::Display;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// What a store did with a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// The content is stored, and so is the fence.
    Taken,
    /// A greater fence was seen before; nothing has changed.
    Refused,
}

/// A store that compares fences and writes in one step.
pub trait FencedStore {
    /// What can go wrong beside a refusal.
    type Error: Display;

    /// Stores the content, unless the name was written with a greater fence.
    ///
    /// # Errors
    /// What keeps the store from working. Whether the content is stored is not known then.
    fn write(&self, name: &str, fence: u64, content: &[u8]) -> Result<Written, Self::Error>;

    /// The content of a name, if it was ever written.
    ///
    /// # Errors
    /// What keeps the store from working.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Self::Error>;
}

/// Says what a store does wrong.
///
/// It writes under names that begin with `keylatch-check-`, one writer after the other and eight at a time.
///
/// # Errors
/// The first thing that a holder of locks could not rely on.
pub fn check_store<S: FencedStore + Sync>(store: &S) -> Result<(), String> {
    let run = run_name();
    one_after_the_other(store, &format!("keylatch-check-{run}-turns"), &format!("keylatch-check-{run}-other"))?;
    at_a_time(store, &format!("keylatch-check-{run}-crowd"))
}

/// A name that no other run has, on this machine or another.
///
/// The number of a process is used again, and containers have the same ones.
fn run_name() -> String {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // The keys of a hasher are random.
    let random = RandomState::new().hash_one((run, since));
    format!("{random:016x}-{:x}-{run}", since.as_nanos())
}

fn one_after_the_other<S: FencedStore>(store: &S, name: &str, other: &str) -> Result<(), String> {
    let write = |name: &str, fence, content: &str| store.write(name, fence, content.as_bytes()).map_err(error);
    let expect = |what: &str, done: Written, wanted: Written| {
        if done == wanted { Ok(()) } else { Err(format!("{what} was {done:?}, not {wanted:?}")) }
    };
    let contains = |wanted: &str| match store.read(name).map_err(error)? {
        Some(content) if content == wanted.as_bytes() => Ok(()),
        other => Err(format!("{wanted:?} was written last, and {other:?} is stored")),
    };
    expect("the first write", write(name, 10 << 16, "first")?, Written::Taken)?;
    expect("a second write of the same hold", write(name, 10 << 16, "second")?, Written::Taken)?;
    contains("second")?;
    expect("a write of a later hold", write(name, 11 << 16, "third")?, Written::Taken)?;
    expect("a write of a hold that is over", write(name, 10 << 16, "late")?, Written::Refused)?;
    contains("third")?;
    expect("a write of the hold just before", write(name, (11 << 16) - 1, "late")?, Written::Refused)?;
    expect("a write after a new epoch", write(name, 1 << 56, "fourth")?, Written::Taken)?;
    expect("a write of the epoch before", write(name, (1 << 56) - 1, "late")?, Written::Refused)?;
    contains("fourth")?;
    // Half of all fences do not fit in a signed number.
    expect("a write of the last epoch", write(name, 255 << 56, "fifth")?, Written::Taken)?;
    expect("a write of an epoch before 128", write(name, (1 << 63) - 1, "late")?, Written::Refused)?;
    contains("fifth")?;
    expect("a write under another name", write(other, 1, "own")?, Written::Taken)
}

const WRITERS: u64 = 8;
const WRITES: u64 = 40;

fn at_a_time<S: FencedStore + Sync>(store: &S, name: &str) -> Result<(), String> {
    let problems = Mutex::new(Vec::new());
    let report = |problem: String| problems.lock().unwrap_or_else(PoisonError::into_inner).push(problem);
    // The greatest fence whose write has returned: whatever is read later is at least as new.
    let greatest = AtomicU64::new(0);
    let stored = || {
        let content = store.read(name).map_err(error)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&content).into_owned();
        text.parse::<u64>().map_err(|_| format!("{text:?} is stored, which no writer wrote"))
    };
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (report, greatest, stored) = (&report, &greatest, &stored);
            scope.spawn(move || {
                for write in 0..WRITES {
                    // Each writer's fences grow, and those of all writers are mixed.
                    let fence = write * WRITERS + writer + 1;
                    if let Err(problem) = store.write(name, fence, fence.to_string().as_bytes()) {
                        report(error(problem));
                    }
                    greatest.fetch_max(fence, Ordering::SeqCst);
                    let floor = greatest.load(Ordering::SeqCst);
                    match stored() {
                        Ok(stored) if stored >= floor => {}
                        Ok(stored) => report(format!("fence {floor} was written or refused, and {stored} is stored")),
                        Err(problem) => report(problem),
                    }
                }
            });
        }
    });
    match stored() {
        Ok(stored) if stored == WRITERS * WRITES => {}
        other => report(format!("fence {} was the greatest, and {other:?} is stored", WRITERS * WRITES)),
    }
    problems.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().next().map_or(Ok(()), Err)
}

fn error(problem: impl Display) -> String {
    format!("the store failed: {problem}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Fault {
        None,
        Unchecked,
        /// Compares first, and writes in another step.
        TwoSteps,
        /// Refuses the second write of a hold.
        Strict,
        /// Keeps one fence for all names.
        OneFence,
        /// Compares fences as signed numbers.
        Signed,
        /// Refuses a late write, and stores it.
        Stores,
    }

    struct Memory {
        names: Mutex<HashMap<String, (u64, Vec<u8>)>>,
        fault: Fault,
    }

    impl FencedStore for Memory {
        type Error = &'static str;

        fn write(&self, name: &str, fence: u64, content: &[u8]) -> Result<Written, &'static str> {
            let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            let greatest = match self.fault {
                Fault::OneFence => names.values().map(|stored| stored.0).max(),
                _ => names.get(name).map(|stored| stored.0),
            };
            let refuses = match self.fault {
                Fault::Unchecked => false,
                Fault::Strict => greatest.is_some_and(|greatest| fence <= greatest),
                Fault::Signed => greatest.is_some_and(|greatest| fence.cast_signed() < greatest.cast_signed()),
                _ => greatest.is_some_and(|greatest| fence < greatest),
            };
            if refuses && self.fault == Fault::Stores {
                names.entry(name.to_owned()).and_modify(|stored| stored.1 = content.to_vec());
            }
            if refuses {
                return Ok(Written::Refused);
            }
            if self.fault == Fault::TwoSteps {
                drop(names);
                std::thread::sleep(std::time::Duration::from_micros(fence % 5 * 31 % 5 * 400));
                names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            }
            names.insert(name.to_owned(), (fence, content.to_vec()));
            Ok(Written::Taken)
        }

        fn read(&self, name: &str) -> Result<Option<Vec<u8>>, &'static str> {
            Ok(self.names.lock().unwrap_or_else(PoisonError::into_inner).get(name).map(|stored| stored.1.clone()))
        }
    }

    #[test]
    fn check_may_run_twice_on_one_store() {
        let store = Memory { names: Mutex::default(), fault: Fault::None };
        assert_eq!((check_store(&store), check_store(&store)), (Ok(()), Ok(())));
    }

    #[test]
    fn stores_with_faults_refused() {
        let check = |fault| check_store(&Memory { names: Mutex::default(), fault });
        assert_eq!(check(Fault::None), Ok(()));
        let faults = [Fault::Unchecked, Fault::TwoSteps, Fault::Strict, Fault::OneFence, Fault::Signed, Fault::Stores];
        for fault in faults {
            assert!(check(fault).is_err(), "{fault:?}");
        }
    }
}
