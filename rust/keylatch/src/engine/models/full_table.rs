//! A table becomes full while a thread takes an entry that it keeps.

use super::*;
use crate::memory::{Arena, Cache, NONE};
use crate::table::Entry;

/// Would catch: more entries in use than the limit.
///
/// A thread takes the entry that was just counted as kept.
#[test]
fn kept_entry_is_taken_as_the_table_is_full() {
    check_deeper(3, || {
        let arena = Arc::new(Arena::<Entry>::reserve(2, 1).expect("two entries"));
        let (cache, own) = (Arc::new(Cache::default()), Cache::default());
        let first = arena.take(&cache);
        arena.put(&cache, first);
        let taker = {
            let (arena, cache) = (Arc::clone(&arena), Arc::clone(&cache));
            loom::thread::spawn(move || u32::from(arena.take(&cache) != NONE))
        };
        arena.begin_scarcity(|| cache.kept());
        let taken = (0..3).filter(|_| arena.take(&own) != NONE).count() as u32;
        assert!(taken + taker.join().unwrap() <= 2, "the limit is two");
    });
}
