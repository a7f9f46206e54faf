//! The scenarios: what is done to a subject, and which subjects can do it.

pub(crate) mod hand_off;
mod listing;
pub(crate) mod memory;
mod one_thread;
pub(crate) mod pairs;
mod two_threads;

use crate::row::Row;
use crate::slices::Pace;
use crate::subjects::{Contender, every_async, every_batch, every_exclusive, every_keyed, every_shared, fifo, ours};

/// Measures one subject in one scenario.
pub(crate) type Measure = fn(&Pace) -> Row;

/// One thing to find out.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// What is measured, for the reader of the table.
    pub(crate) says: &'static str,
    /// The figures besides time, ratio and allocations: names in a row, and headings.
    pub(crate) columns: &'static [(&'static str, &'static str)],
    pub(crate) contenders: fn() -> Vec<Contender<Measure>>,
}

/// The columns of one warm key.
const WARM: &[(&str, &str)] = &[
    ("versus_parking_lot", "x parking_lot"),
    ("median_versus_parking_lot", "x by medians"),
    ("median_ns", "median ns"),
];

/// All scenarios, in the order of the table.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "same_key_exclusive",
        says: "acquire and release one warm key, exclusive, one thread",
        columns: WARM,
        contenders: || {
            use one_thread::same_key_exclusive;
            every_exclusive!(same_key_exclusive as Measure)
        },
    },
    Scenario {
        name: "same_key_shared",
        says: "acquire and release one warm key, shared, one thread",
        columns: WARM,
        contenders: || {
            use one_thread::same_key_shared;
            every_shared!(same_key_shared as Measure)
        },
    },
    Scenario {
        name: "key_strings_100k",
        says: "merely reading the key strings of the next scenario; subtracted there",
        columns: &[("median_ns", "median ns"), ("median_ratio", "ratio by medians")],
        contenders: || vec![Contender { name: "key_strings", function: one_thread::key_strings::<100_000> }],
    },
    Scenario {
        name: "keys_100k",
        says: "100,000 keys in turn, exclusive, one thread (the reading of the key strings subtracted)",
        columns: &[
            ("versus_parking_lot", "x parking_lot"),
            ("versus_lockmap", "x lockmap"),
            ("median_ns", "median ns"),
            ("whole_ns", "with strings ns"),
        ],
        contenders: || {
            use one_thread::keys_100k;
            every_keyed!(keys_100k as Measure)
        },
    },
    Scenario {
        name: "key_strings_1m",
        says: "merely reading the key strings of the next scenario; subtracted there",
        columns: &[("median_ns", "median ns"), ("median_ratio", "ratio by medians")],
        contenders: || vec![Contender { name: "key_strings", function: one_thread::key_strings::<1_000_000> }],
    },
    Scenario {
        name: "keys_1m",
        says: "1,000,000 keys in turn, exclusive, one thread (the reading of the key strings subtracted)",
        columns: &[
            ("versus_parking_lot", "x parking_lot"),
            ("versus_lockmap", "x lockmap"),
            ("median_ns", "median ns"),
            ("whole_ns", "with strings ns"),
        ],
        contenders: || {
            use one_thread::keys_1m;
            every_keyed!(keys_1m as Measure)
        },
    },
    Scenario {
        name: "async_same_key",
        says: "acquire one warm key from a future, exclusive, polled by hand: no runtime in the figure",
        columns: &[("versus_parking_lot", "x parking_lot"), ("versus_blocking", "x blocking")],
        contenders: || {
            use one_thread::async_same_key;
            every_async!(async_same_key as Measure)
        },
    },
    Scenario {
        name: "batch_16",
        says: "16 free keys in one call, a batch is one operation",
        columns: &[
            ("versus_parking_lot", "x parking_lot"),
            ("versus_16_singles", "x 16 singles"),
            ("singles_ns", "16 singles ns"),
        ],
        contenders: || {
            use one_thread::batch_16;
            every_batch!(batch_16 as Measure)
        },
    },
    Scenario {
        name: "leased",
        says: "one warm key, exclusive, with a lease of a minute",
        columns: &[
            ("versus_parking_lot", "x parking_lot"),
            ("versus_plain", "x a plain pair"),
            ("plain_ns", "plain pair ns"),
        ],
        contenders: || {
            use one_thread::leased;
            ours!(leased as Measure)
        },
    },
    Scenario {
        name: "session",
        says: "begin a session and end it, without a lock in between",
        columns: &[
            ("versus_parking_lot", "x parking_lot"),
            ("versus_plain", "x a plain pair"),
            ("plain_ns", "plain pair ns"),
        ],
        contenders: || {
            use one_thread::session;
            ours!(session as Measure)
        },
    },
    Scenario {
        name: "disjoint_2t",
        says: "two threads, each on a key of its own, exclusive: cost to each thread",
        columns: &[("versus_alone", "x alone"), ("alone_ns", "alone ns")],
        contenders: || {
            use two_threads::disjoint;
            every_keyed!(disjoint as Measure)
        },
    },
    Scenario {
        name: "hot_exclusive_2t",
        says: "two threads on one key, exclusive: time between two pairs, by either thread",
        columns: &[("versus_parking_lot", "x parking_lot"), ("median_versus_parking_lot", "x by medians")],
        contenders: || {
            use two_threads::hot_exclusive;
            let mut all = every_exclusive!(hot_exclusive as Measure);
            all.extend(fifo!(hot_exclusive as Measure));
            all
        },
    },
    Scenario {
        name: "hot_shared_2t",
        says: "two threads on one key, shared: time between two pairs, by either thread",
        columns: &[("versus_parking_lot", "x parking_lot"), ("median_versus_parking_lot", "x by medians")],
        contenders: || {
            use two_threads::hot_shared;
            let mut all = every_shared!(hot_shared as Measure);
            all.extend(fifo!(hot_shared as Measure));
            all
        },
    },
    Scenario {
        name: "handoff",
        says: "release to a thread that is parked, until it holds the lock: median; beside it a parking_lot mutex",
        columns: &[
            ("versus_control", "x control"),
            ("p99_ns", "p99 ns"),
            ("max_ns", "max ns"),
            ("above_5ms", "above 5 ms"),
            ("control_ns", "control ns"),
            ("control_above_5ms", "control above 5 ms"),
        ],
        contenders: || {
            use hand_off::hand_off;
            let mut all = every_exclusive!(hand_off as Measure);
            all.extend(fifo!(hand_off as Measure));
            all
        },
    },
    Scenario {
        name: "listing_2t",
        says: "one thread locks while another lists 100,000 held locks over and over: what is left of its throughput",
        columns: &[
            ("share", "share, warm key"),
            ("in_turn_share", "share, keys in turn"),
            ("alone_ns", "warm alone ns"),
            ("in_turn_alone_ns", "in turn alone ns"),
            ("listing_ms", "a listing ms"),
        ],
        contenders: || {
            use listing::listing;
            ours!(listing as Measure)
        },
    },
    Scenario {
        name: "bytes_held",
        says: "1,000,000 locks with 48-byte keys held together: resident memory a lock; time is that of acquiring",
        columns: &[("bytes", "bytes"), ("bytes_small_pages", "bytes, no huge pages")],
        contenders: || {
            use memory::bytes_held;
            every_keyed!(bytes_held as Measure)
        },
    },
    Scenario {
        name: "bytes_left",
        says: "after all of them are released: resident memory above a fresh manager; time is that of releasing",
        columns: &[("mib", "MiB"), ("mib_trimmed", "MiB, heap trimmed"), ("mib_small_pages", "MiB, no huge pages")],
        contenders: || {
            use memory::bytes_left;
            every_keyed!(bytes_left as Measure)
        },
    },
    Scenario {
        name: "create",
        says: "a manager made in a fresh process: time and resident memory",
        columns: &[("kib", "KiB"), ("kib_small_pages", "KiB, no huge pages")],
        contenders: || {
            use memory::create;
            every_keyed!(create as Measure)
        },
    },
];

/// Adds what needs another subject's row.
///
/// It is the time of keys in turn as a multiple of lockmap's.
pub(crate) fn relate(rows: &mut [Row]) {
    let bare = |row: &Row| row.figure("versus_parking_lot");
    let in_turn = |row: &Row| row.scenario.starts_with("keys_");
    let Some(lockmap) = rows.iter().find(|row| row.subject == "lockmap" && in_turn(row)).and_then(bare) else { return };
    for row in rows {
        if let Some(ours) = bare(row) {
            row.more.insert("versus_lockmap".into(), ours / lockmap);
        }
    }
}

/// Returns the scenario of that name.
pub(crate) fn named(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}
