//! LISTINGS
//!
//! The answer to a question about holders and waiters: entries, each to be fetched once. A listing is a copy. It stays as
//! it is, also when its manager is freed.
//!
//! What an entry is follows from the question; each kind has its own function to fetch it. Of another kind,
//! KEYLATCH_EINVALID names the right function, and the entry stays to be fetched.

#![expect(clippy::result_large_err, reason = "an entry of another kind goes back by value")]

use crate::boundary::{Out, SizedOut, Versioned, call, nanoseconds};
use crate::figures::text;
use crate::handle::{self, Kind, Mark};
use crate::listed::{keylatch_chain_link, keylatch_holder, keylatch_tier_hold, keylatch_top_key, keylatch_waiter};
use crate::manager::handed_out;
use crate::refusal::{Failure, invalid};
use crate::status::{KEYLATCH_EEND, KEYLATCH_OK};
use keylatch::tier::RemoteHold;
use keylatch::{BlockingChain, Cycle, Grant, HolderInfo, LockOrderReport, TopKey, WaiterInfo};
use std::collections::HashSet;
use std::ffi::c_char;
use std::fmt::{Debug, Display, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};

/// An answer; freed by keylatch_listing_free().
#[derive(Debug)]
pub struct keylatch_listing {
    answer: Answer,
    /// How many were fetched.
    fetched: AtomicUsize,
}

impl Kind for keylatch_listing {
    const MARK: &'static Mark = {
        static MARK: Mark = Mark::new();
        &MARK
    };
    const NAME: &'static str = "keylatch_listing";
}

/// The answer, as the core gave it.
#[derive(Debug)]
pub(crate) enum Answer {
    Holders(Vec<HolderInfo>),
    Waiters(Vec<WaiterInfo>),
    Top(Vec<TopKey>),
    Chain { chain: BlockingChain, rows: Vec<Row>, running: HashSet<Grant> },
    Deadlocks { cycles: Vec<Cycle>, rows: Vec<Row> },
    Orders { reports: Vec<LockOrderReport>, rows: Vec<Row> },
    Tier(Vec<RemoteHold>),
    Other(Box<dyn Entries>),
}

/// Entries from another source, such as an event.
pub(crate) trait Entries: Debug + Display + Send + Sync {
    fn len(&self) -> usize;

    fn entry(&self, position: usize) -> Option<Entry>;
}

/// An entry of a listing, as C sees it.
#[derive(Debug)]
pub(crate) enum Entry {
    Holder(keylatch_holder),
    Waiter(keylatch_waiter),
    Link(keylatch_chain_link),
    TopKey(keylatch_top_key),
    TierHold(keylatch_tier_hold),
}

impl Entry {
    /// The name of the function that fetches it.
    fn fetched_by(&self) -> &'static str {
        match self {
            Self::Holder(_) => "keylatch_listing_next_holder()",
            Self::Waiter(_) => "keylatch_listing_next_waiter()",
            Self::Link(_) => "keylatch_listing_next_link()",
            Self::TopKey(_) => "keylatch_listing_next_key()",
            Self::TierHold(_) => "keylatch_listing_next_tier_hold()",
        }
    }
}

/// An entry of a link: its waiter, or one of its holders.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    link: usize,
    /// `None` for the waiter.
    place: Option<usize>,
}

impl Answer {
    pub(crate) fn chain(chain: BlockingChain) -> Self {
        let rows_of = |(link, answer): (usize, &keylatch::ChainLink)| {
            let waits = answer.waiter.is_some().then_some(Row { link, place: None });
            waits.into_iter().chain((0..answer.holders.len()).map(move |place| Row { link, place: Some(place) }))
        };
        let rows = chain.links.iter().enumerate().flat_map(rows_of).collect();
        let running = chain.running.iter().map(|hold| hold.grant).collect();
        Self::Chain { chain, rows, running }
    }

    pub(crate) fn deadlocks(cycles: Vec<Cycle>) -> Self {
        let rows_of =
            |(link, cycle): (usize, &Cycle)| (0..cycle.links.len()).map(move |place| Row { link, place: Some(place) });
        let rows = cycles.iter().enumerate().flat_map(rows_of).collect();
        Self::Deadlocks { cycles, rows }
    }

    pub(crate) fn orders(reports: Vec<LockOrderReport>) -> Self {
        let rows_of = |(link, report): (usize, &LockOrderReport)| {
            (0..2 * report.links.len()).map(move |place| Row { link, place: Some(place) })
        };
        let rows = reports.iter().enumerate().flat_map(rows_of).collect();
        Self::Orders { reports, rows }
    }

    fn len(&self) -> usize {
        match self {
            Self::Holders(holders) => holders.len(),
            Self::Waiters(waiters) => waiters.len(),
            Self::Top(keys) => keys.len(),
            Self::Chain { rows, .. } | Self::Deadlocks { rows, .. } | Self::Orders { rows, .. } => rows.len(),
            Self::Tier(holds) => holds.len(),
            Self::Other(about) => about.len(),
        }
    }

    fn entry(&self, position: usize) -> Option<Entry> {
        match self {
            Self::Holders(holders) => holders.get(position).map(|hold| Entry::Holder(keylatch_holder::of(hold))),
            Self::Waiters(waiters) => waiters.get(position).map(|wait| Entry::Waiter(keylatch_waiter::of(wait))),
            Self::Top(keys) => keys.get(position).map(|top| Entry::TopKey(keylatch_top_key::of(top))),
            Self::Chain { chain, rows, running } => {
                let row = rows.get(position)?;
                let link = chain.links.get(row.link)?;
                let found = match row.place {
                    None => keylatch_chain_link::waiting(link.waiter.as_ref()?),
                    Some(place) => keylatch_chain_link::holding(link, place, running)?,
                };
                let after = link.after.map_or(0, |after| after as u64 + 1);
                Some(Entry::Link(keylatch_chain_link { link: row.link as u64 + 1, after, ..found }))
            }
            Self::Deadlocks { cycles, rows } => {
                let row = rows.get(position)?;
                let cycle = cycles.get(row.link)?;
                let found = keylatch_chain_link::of_deadlock(&cycle.links, row.place?)?;
                let (link, time_ns) = (row.link as u64 + 1, nanoseconds(cycle.at));
                Some(Entry::Link(keylatch_chain_link { link, time_ns, ..found }))
            }
            Self::Orders { reports, rows } => {
                let row = rows.get(position)?;
                let report = reports.get(row.link)?;
                let found = keylatch_chain_link::of_order(report, row.place?)?;
                let (link, time_ns) = (row.link as u64 + 1, nanoseconds(report.at));
                Some(Entry::Link(keylatch_chain_link { link, time_ns, ..found }))
            }
            Self::Tier(holds) => holds.get(position).map(|hold| Entry::TierHold(keylatch_tier_hold::of(hold))),
            Self::Other(about) => about.entry(position),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Holders(holders) => lines(holders),
            Self::Waiters(waiters) => lines(waiters),
            Self::Top(keys) => keys.iter().fold(String::new(), |mut text, top| {
                let _ = write!(text, "{}: {} wait, the first for {:?}", top.key, top.waiters, top.longest_wait);
                let _ = match &top.holder {
                    Some(hold) => writeln!(text, "; {hold}"),
                    None => writeln!(text),
                };
                text
            }),
            Self::Chain { chain, .. } => lines(std::slice::from_ref(chain)),
            Self::Deadlocks { cycles, .. } => lines(cycles),
            Self::Orders { reports, .. } => lines(reports),
            Self::Tier(holds) => lines(holds),
            Self::Other(about) => lines(&[about]),
        }
    }
}

fn lines(all: &[impl Display]) -> String {
    all.iter().fold(String::new(), |mut text, one| {
        let _ = writeln!(text, "{one}");
        text
    })
}

/// A handle for an answer.
pub(crate) fn answered(answer: Answer) -> Result<*mut keylatch_listing, Failure> {
    Ok(handed_out(handle::create(keylatch_listing { answer, fetched: AtomicUsize::new(0) })?))
}

/// Fetches the next entry if `as_wanted` gives it.
///
/// # Safety
/// As for the functions that call it: the place is NULL, or a struct that says its size.
unsafe fn next<T: Versioned>(
    listing: *mut keylatch_listing,
    place: *mut T,
    as_wanted: impl Fn(Entry) -> Result<T, Entry>,
) -> i32 {
    let mut end = KEYLATCH_OK;
    let status = call(|| {
        // SAFETY: promised by the caller.
        let out = unsafe { SizedOut::new(place) }?;
        let listing = handle::enter::<keylatch_listing>(listing.cast())?;
        let mut position = listing.fetched.load(Ordering::Relaxed);
        loop {
            let Some(entry) = listing.answer.entry(position) else {
                end = KEYLATCH_EEND;
                return Ok(());
            };
            let found =
                as_wanted(entry).map_err(|other| invalid(format!("the next entry is for {}", other.fetched_by())))?;
            // Relaxed: the number alone says which thread fetches which entry; the entries never change.
            match listing.fetched.compare_exchange_weak(position, position + 1, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => {
                    out.write(&found);
                    return Ok(());
                }
                Err(now) => position = now,
            }
        }
    });
    if status == KEYLATCH_OK { end } else { status }
}

/// Fetches the next holder.
///
/// For the listings of keylatch_holders(), keylatch_force_release() and keylatch_expire(), and for events. Its key and its texts stay where they are until the listing is freed.
///
/// Set holder->struct_size first; the rest is written on success. Errors: KEYLATCH_EEND after the last entry, which does
/// not count as a failure for keylatch_last_error(); KEYLATCH_EINVALID if the next entry is of another kind;
/// KEYLATCH_ENULL, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads: any; each entry is fetched by one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_listing_next_holder(
    listing: *mut keylatch_listing,
    holder: *mut keylatch_holder,
) -> i32 {
    // SAFETY: the header says what the caller promises.
    unsafe {
        next(listing, holder, |entry| match entry {
            Entry::Holder(holder) => Ok(holder),
            other => Err(other),
        })
    }
}

/// Fetches the next waiter.
///
/// For the listings of keylatch_waiters(), and for events. Its key and its texts stay where they are until the listing is freed.
///
/// Set waiter->struct_size first; the rest is written on success. Errors: KEYLATCH_EEND after the last entry, which does
/// not count as a failure for keylatch_last_error(); KEYLATCH_EINVALID if the next entry is of another kind;
/// KEYLATCH_ENULL, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads: any; each entry is fetched by one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_listing_next_waiter(
    listing: *mut keylatch_listing,
    waiter: *mut keylatch_waiter,
) -> i32 {
    // SAFETY: the header says what the caller promises.
    unsafe {
        next(listing, waiter, |entry| match entry {
            Entry::Waiter(waiter) => Ok(waiter),
            other => Err(other),
        })
    }
}

/// Fetches the next link of a chain.
///
/// For the listings of keylatch_blocking_chain(), keylatch_recent_deadlocks() and keylatch_lock_orders(), and for events. Its key and its texts stay where they are until the listing is freed.
///
/// Set link->struct_size first; the rest is written on success. Errors: KEYLATCH_EEND after the last entry, which does
/// not count as a failure for keylatch_last_error(); KEYLATCH_EINVALID if the next entry is of another kind;
/// KEYLATCH_ENULL, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads: any; each entry is fetched by one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_listing_next_link(
    listing: *mut keylatch_listing,
    link: *mut keylatch_chain_link,
) -> i32 {
    // SAFETY: the header says what the caller promises.
    unsafe {
        next(listing, link, |entry| match entry {
            Entry::Link(link) => Ok(link),
            other => Err(other),
        })
    }
}

/// Fetches the next key that stands out.
///
/// For the listings of keylatch_top(). Its key and its texts stay where they are until the listing is freed.
///
/// Set key->struct_size first; the rest is written on success. Errors: KEYLATCH_EEND after the last entry, which does
/// not count as a failure for keylatch_last_error(); KEYLATCH_EINVALID if the next entry is of another kind;
/// KEYLATCH_ENULL, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads: any; each entry is fetched by one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_listing_next_key(listing: *mut keylatch_listing, key: *mut keylatch_top_key) -> i32 {
    // SAFETY: the header says what the caller promises.
    unsafe {
        next(listing, key, |entry| match entry {
            Entry::TopKey(key) => Ok(key),
            other => Err(other),
        })
    }
}

/// Fetches the next hold or request of a process.
///
/// For the listings of keylatch_tier_holds(). Its key and its texts stay where they are until the listing is freed.
///
/// Set hold->struct_size first; the rest is written on success. Errors: KEYLATCH_EEND after the last entry, which does
/// not count as a failure for keylatch_last_error(); KEYLATCH_EINVALID if the next entry is of another kind;
/// KEYLATCH_ENULL, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads: any; each entry is fetched by one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_listing_next_tier_hold(
    listing: *mut keylatch_listing,
    hold: *mut keylatch_tier_hold,
) -> i32 {
    // SAFETY: the header says what the caller promises.
    unsafe {
        next(listing, hold, |entry| match entry {
            Entry::TierHold(hold) => Ok(hold),
            other => Err(other),
        })
    }
}

/// Says how many entries there are, those that were fetched included.
///
/// Writes *count on success. Errors: KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_listing_count(listing: *const keylatch_listing, count: *mut usize) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(count) }?;
        out.write(handle::enter::<keylatch_listing>(listing.cast())?.answer.len());
        Ok(())
    })
}

/// Writes all of it for people, a line for each entry or for each link.
///
/// Writes *for_people on success; it ends with a NUL and is the caller's, to be freed with keylatch_text_free(). Errors: KEYLATCH_ENULL,
/// KEYLATCH_EHANDLE. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_listing_text(listing: *const keylatch_listing, for_people: *mut *mut c_char) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(for_people) }?;
        out.write(text(handle::enter::<keylatch_listing>(listing.cast())?.answer.text()));
        Ok(())
    })
}

/// Frees a listing. NULL is fine and does nothing.
///
/// Errors: KEYLATCH_EHANDLE, KEYLATCH_EFORKED in a forked child. Threads: any; waits for calls in progress on this listing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_listing_free(listing: *mut keylatch_listing) -> i32 {
    call(|| {
        if !listing.is_null() {
            drop(handle::end::<keylatch_listing>(listing.cast(), |_| ())?);
        }
        Ok(())
    })
}
