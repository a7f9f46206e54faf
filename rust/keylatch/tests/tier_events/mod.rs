//! The events of a tier, written down for a test that asks the tier itself.

use keylatch::Mode;
use keylatch::tier::{Answer, PermitId, Term, TierEvents};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    Answered(PermitId, Answer),
    Withdrawn(PermitId),
    Recalled(PermitId, Mode),
    Lost(PermitId),
    AllLost(Term),
    Renewed(Term),
}

/// Sends each event to the test.
#[derive(Debug)]
pub(crate) struct Recorder(Mutex<Sender<Event>>);

impl Recorder {
    pub(crate) fn new() -> (Arc<Self>, Receiver<Event>) {
        let (sender, events) = channel();
        (Arc::new(Self(Mutex::new(sender))), events)
    }

    fn send(&self, event: Event) {
        let _ = self.0.lock().expect("no panic").send(event);
    }
}

impl TierEvents for Recorder {
    fn answered(&self, id: PermitId, answer: Answer) {
        self.send(Event::Answered(id, answer));
    }

    fn withdrawn(&self, id: PermitId) {
        self.send(Event::Withdrawn(id));
    }

    fn recalled(&self, id: PermitId, wanted: Mode) {
        self.send(Event::Recalled(id, wanted));
    }

    fn lost(&self, id: PermitId) {
        self.send(Event::Lost(id));
    }

    fn all_lost(&self, over: Term) {
        self.send(Event::AllLost(over));
    }

    fn renewed(&self, term: Term) {
        self.send(Event::Renewed(term));
    }
}
