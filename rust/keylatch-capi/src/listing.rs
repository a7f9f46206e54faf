//! LISTINGS
//!
//! What a question about holders and waiters is answered with: parties, each to be fetched once. A listing is a copy that
//! nothing changes any more; it stays as it is when its manager is freed.

use crate::boundary::{Out, SizedOut, call, nanoseconds};
use crate::figures::text;
use crate::handle::{self, Kind, Mark};
use crate::key::{keylatch_key, number_of};
use crate::manager::handed_out;
use crate::party::{
    KEYLATCH_PARTY_HOLDS, KEYLATCH_PARTY_RUNS, KEYLATCH_PARTY_SESSION, KEYLATCH_PARTY_VICTIM, KEYLATCH_PARTY_WAITS,
    flag, keylatch_party,
};
use crate::refusal::Failure;
use crate::status::{KEYLATCH_EEND, KEYLATCH_OK};
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
    Other(Box<dyn Parties>),
}

/// Parties from another source, such as an event.
pub(crate) trait Parties: Debug + Display + Send + Sync {
    fn len(&self) -> usize;

    fn party(&self, position: usize) -> Option<keylatch_party>;
}

/// One party of a link: who waits, or one of those who hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    link: usize,
    /// `None` for the one who waits.
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
            Self::Other(about) => about.len(),
        }
    }

    fn party(&self, position: usize) -> Option<keylatch_party> {
        match self {
            Self::Holders(holders) => holders.get(position).map(keylatch_party::holding),
            Self::Waiters(waiters) => waiters.get(position).map(keylatch_party::waiting),
            Self::Top(keys) => keys.get(position).map(|top| {
                let key = keylatch_key::of(top.key.as_ref());
                let party = top.holder.as_ref().map_or_else(|| keylatch_party::named("", ""), keylatch_party::holding);
                let longest_wait_ns = nanoseconds(top.longest_wait);
                keylatch_party { key, waiters: top.waiters as u64, longest_wait_ns, ..party }
            }),
            Self::Chain { chain, rows, running } => {
                let row = rows.get(position)?;
                let link = chain.links.get(row.link)?;
                let party = match row.place {
                    None => keylatch_party::waiting(link.waiter.as_ref()?),
                    Some(place) => {
                        let hold = link.holders.get(place)?;
                        let runs = flag(running.contains(&hold.grant), KEYLATCH_PARTY_RUNS);
                        keylatch_party::holding(hold).with_flags(runs)
                    }
                };
                let after = link.after.map_or(0, |after| after as u64 + 1);
                Some(keylatch_party { link: row.link as u64 + 1, after, ..party })
            }
            Self::Deadlocks { cycles, rows } => {
                let row = rows.get(position)?;
                let (cycle, place) = (cycles.get(row.link)?, row.place?);
                let party = keylatch_party::linked(cycle.links.get(place)?);
                let victim = flag(place == 0, KEYLATCH_PARTY_VICTIM);
                let (link, time_ns) = (row.link as u64 + 1, nanoseconds(cycle.at));
                Some(keylatch_party { link, time_ns, ..party.with_flags(victim) })
            }
            Self::Orders { reports, rows } => {
                let row = rows.get(position)?;
                let (report, place) = (reports.get(row.link)?, row.place?);
                let (link, time_ns) = (row.link as u64 + 1, nanoseconds(report.at));
                Some(keylatch_party { link, time_ns, ..ordered(report, place)? })
            }
            Self::Other(about) => about.party(position),
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
            Self::Other(about) => lines(&[about]),
        }
    }
}

/// Of each order what was held, and after it what was asked for.
pub(crate) fn ordered(report: &LockOrderReport, place: usize) -> Option<keylatch_party> {
    let link = report.links.get(place / 2)?;
    let (key, mode, role) = match place % 2 {
        0 => (&link.held, link.held_mode, KEYLATCH_PARTY_HOLDS),
        _ => (&link.wanted, link.wanted_mode, KEYLATCH_PARTY_WAITS),
    };
    let party = keylatch_party::named(&link.session, link.source).with_flags(KEYLATCH_PARTY_SESSION);
    Some(keylatch_party { key: keylatch_key::of(key.as_ref()), mode: number_of(mode), role, ..party })
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

/// Fetches the next party.
///
/// Its key and its texts stay where they are until the listing is freed.
///
/// Set party->struct_size first; the rest is written on success. Errors: KEYLATCH_EEND after the last one, which does not count as
/// a failure for keylatch_last_error(); KEYLATCH_ENULL, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads: any; each party is fetched by one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_listing_next(listing: *mut keylatch_listing, party: *mut keylatch_party) -> i32 {
    let mut end = KEYLATCH_OK;
    let status = call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { SizedOut::new(party) }?;
        let listing = handle::enter::<keylatch_listing>(listing.cast())?;
        let next = |at: usize| (at < listing.answer.len()).then_some(at + 1);
        match listing.fetched.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
            Ok(position) => {
                let party = listing.answer.party(position);
                out.write(&party.ok_or_else(|| Failure::new(KEYLATCH_EEND, "the listing is shorter than it said"))?);
            }
            Err(_) => end = KEYLATCH_EEND,
        }
        Ok(())
    });
    if status == KEYLATCH_OK { end } else { status }
}

/// Tells how many parties there are, those that were fetched included.
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

/// Tells all of it for people, a line for each party or for each link.
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
