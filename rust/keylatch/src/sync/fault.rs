//! Deliberate faults, each of which some check must notice: `make mutants`.
//!
//! Under `--cfg faults` the environment variable `KEYLATCH_FAULT` switches one of them on. Without it the questions below
//! are literals, so that nothing of them is left in the code. `scripts/mutants` says what each of them breaks.

/// Whether this fault is switched on.
macro_rules! fault {
    ($name:literal) => {{
        #[cfg(faults)]
        let on = crate::sync::fault::is_on($name);
        #[cfg(not(faults))]
        let on = false;
        on
    }};
}

/// An ordering, and what a fault weakens it to.
macro_rules! ordering {
    ($usual:expr, $name:literal, $weakened:expr) => {{
        #[cfg(faults)]
        let ordering = if crate::sync::fault::is_on($name) { $weakened } else { $usual };
        #[cfg(not(faults))]
        let ordering = $usual;
        ordering
    }};
}

pub(crate) use {fault, ordering};

#[cfg(faults)]
pub(crate) fn is_on(name: &str) -> bool {
    static CHOSEN: crate::sync::OnceLock<Option<String>> = crate::sync::OnceLock::new();
    CHOSEN.get_or_init(|| std::env::var("KEYLATCH_FAULT").ok()).as_deref() == Some(name)
}
