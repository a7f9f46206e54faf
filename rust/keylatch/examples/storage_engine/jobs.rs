//! What there is to do, and how often each of it.

use crate::random::Random;
use crate::store::{Place, Store, VERSIONS};

/// Objects that get more than their share of attention.
const POPULAR: u32 = 64;

/// Declares the kinds of jobs, each with its name in the report.
macro_rules! kinds {
    ($($(#[$says:meta])* $kind:ident = $name:literal,)*) => {
        /// A kind of job.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Kind { $($(#[$says])* $kind,)* }

        impl Kind {
            pub(crate) const ALL: &[Kind] = &[$(Kind::$kind,)*];

            pub(crate) fn name(self) -> &'static str {
                match self { $(Kind::$kind => $name,)* }
            }
        }
    };
}

kinds! {
    /// Share the latest version of an object.
    Read = "read",
    /// Hold it alone.
    Write = "write",
    /// Share one version.
    ReadVersion = "read a version",
    /// Hold a version and the latest alone, both together.
    Publish = "publish a version",
    /// Write, then go on reading what was written, while others may read too.
    Revise = "write, downgrade",
    /// Read, then change what was read.
    ReadModify = "read, upgrade",
    /// Hold eight objects alone and share the list of objects.
    DeleteBatch = "delete 8 as a batch",
    /// Read or change the list of objects.
    Hot = "hot object",
    /// Write, unless it takes longer than a moment.
    Impatient = "write within 100 us",
    /// Hold an object alone for a millisecond, as for rewriting its file.
    Compact = "compact for 1 ms",
    /// The tasks' reads.
    TaskRead = "task: read",
    /// The tasks' writes; a lock is kept while others run.
    TaskWrite = "task: write",
    /// The tasks' futures that are dropped when they have to wait.
    TaskAbandon = "task: drop if busy",
}

/// How many of a thousand jobs of a thread are of each kind; the rest are reads.
const OFTEN: [(Kind, u32); 8] = [
    (Kind::Write, 150),
    (Kind::ReadVersion, 120),
    (Kind::Hot, 60),
    (Kind::Publish, 40),
    (Kind::Revise, 20),
    (Kind::ReadModify, 20),
    (Kind::Impatient, 20),
    (Kind::DeleteBatch, 10),
];

/// Returns the next job of a thread.
pub(crate) fn next(random: &mut Random) -> Kind {
    let mut drawn = random.below(1000);
    for (kind, often) in OFTEN {
        if drawn < often {
            return kind;
        }
        drawn -= often;
    }
    Kind::Read
}

/// Returns an object: every third time a popular one.
pub(crate) fn object(store: &Store, random: &mut Random) -> Place {
    if random.below(3) == 0 { popular(store, random) } else { store.latest(random.below(store.objects())) }
}

/// One of the few that many want.
pub(crate) fn popular(store: &Store, random: &mut Random) -> Place {
    store.latest(random.below(POPULAR.min(store.objects())))
}

/// Returns an object that is not wanted more than others, and a version of it.
pub(crate) fn versioned(store: &Store, random: &mut Random) -> (Place, Place) {
    let object = random.below(store.objects());
    (store.latest(object), store.version(object, 1 + random.below(VERSIONS.len() as u32)))
}
