//! A `tracing` subscriber that keeps what it is given, for one thread.

use std::fmt::Write;
use std::sync::{Arc, LazyLock, Mutex};
use tracing::field::{Field, Visit};
use tracing::{Dispatch, Event, Level, Metadata, Subscriber, span};

/// `tracing` remembers for each place of an event whether any subscriber wants it.
///
/// While there is one subscriber it asks that of the thread that comes by first, which may be another test's and have none.
/// With two it asks them.
static SECOND: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(Kept::default()));

/// Runs `work` and returns its events: level and fields as text.
pub(crate) fn of(work: impl FnOnce()) -> Vec<(Level, String)> {
    LazyLock::force(&SECOND);
    let kept = Kept::default();
    tracing::subscriber::with_default(kept.clone(), work);
    std::mem::take(&mut *kept.events.lock().unwrap())
}

/// Runs `work` while every event makes the subscriber panic.
pub(crate) fn panicking<R>(work: impl FnOnce() -> R) -> R {
    LazyLock::force(&SECOND);
    tracing::subscriber::with_default(Kept { panics: true, ..Kept::default() }, work)
}

/// Keeps the events of all threads that use it.
#[derive(Clone, Default)]
pub(crate) struct Kept {
    events: Arc<Mutex<Vec<(Level, String)>>>,
    panics: bool,
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, "{field}={value:?} ").unwrap();
    }
}

impl Subscriber for Kept {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        assert!(!self.panics, "deliberate");
        let mut text = Text(String::new());
        event.record(&mut text);
        self.events.lock().unwrap().push((*event.metadata().level(), text.0));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
