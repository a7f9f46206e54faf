//! Requests whose answer comes by a callback or a completion queue.

use super::acquire::Answer;
use super::core::Core;
use super::wanted::Wanted;
use crate::error::LockError;
use crate::hold::Grant;
use crate::request::Limit;
use crate::sync::fault::fault;
use crate::sync::thread::{self, Running};
use crate::wait::{CallbackThread, Delivery, Ending, Letter, Mailbox, Phase, Purpose, Ticket, without_panic};
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::waiting::Ended;

/// What a request by mail comes to at once.
#[derive(Debug)]
pub(crate) enum Posted {
    Granted(Grant),
    Waiting(Ticket),
}

impl Core {
    /// Asks for the lock; if it is held, `answer` is given the result later by whoever empties the mailbox.
    pub(crate) fn post(
        self: &Arc<Self>,
        wanted: &Wanted<'_>,
        limit: Limit,
        mailbox: &Arc<Mailbox>,
        answer: impl FnOnce(Ticket, Result<Grant, LockError>) + Send + 'static,
    ) -> Result<Posted, LockError> {
        let local = self.local();
        if wanted.lease == 0
            && let Ok(grant) = self.acquire_fast(local, wanted)
        {
            self.note_hold_and_look(wanted.owner, wanted.hash, grant);
            return Ok(Posted::Granted(grant));
        }
        let limit = self.decided(limit);
        if self.has_no_time(limit) {
            return self.try_out_of_time(local, *wanted, limit).map(Posted::Granted);
        }
        let deadline = self.deadline(limit);
        let letter = self.letter(wanted, limit, deadline, answer);
        match self.acquire_slow(local, wanted, Some(Delivery::Mail(Arc::clone(mailbox), letter)))? {
            Answer::Granted(grant) => Ok(Posted::Granted(grant)),
            Answer::Queued(ticket) => {
                self.keep_time_of(ticket, deadline);
                Ok(Posted::Waiting(ticket))
            }
        }
    }

    fn keep_time_of(&self, ticket: Ticket, deadline: Option<Instant>) {
        if let Some(deadline) = deadline {
            self.set_timer(deadline, ticket, Purpose::GiveUp);
            // The answer may have come already, and looked for the deadline before it was set.
            if !self.waiters.is_current(ticket) && !fault!("answered-deadline-kept") {
                self.timer.unset_end(deadline, ticket);
            }
        }
        self.begin_to_look(ticket);
    }

    /// Upgrades a grant that the caller has caught, at once or by mail: a ticket says that `answer` will be called. The
    /// grant is the answer's then; if it is not upgraded it is let loose before that.
    pub(crate) fn post_upgrade(
        self: &Arc<Self>,
        grant: Grant,
        limit: Limit,
        mailbox: &Arc<Mailbox>,
        answer: impl FnOnce(Ticket, Result<Grant, LockError>) + Send + 'static,
    ) -> Result<Option<Ticket>, LockError> {
        let limit = self.decided(limit);
        if self.has_no_time(limit) {
            return self.try_upgrade(grant).map(|()| None).map_err(|error| match self.key_and_mode(grant) {
                Ok((key, _)) => self.as_timeout(error, limit, self.hash(&key.as_ref())),
                Err(lost) => lost,
            });
        }
        let deadline = self.deadline(limit);
        let core = Arc::clone(self);
        let letter: Letter = Box::new(move |waiter| {
            let ticket = core.waiters.get(waiter).ticket(waiter);
            let look = core.waiters.get(waiter).first_look();
            let ended = core.finish(core.local(), waiter);
            // As in `letter`.
            core.forget_moments(deadline, look, ticket);
            let upgraded = core.upgrade_ended(grant, ended, limit);
            if upgraded.is_err() {
                core.let_loose(grant);
            }
            answer(ticket, upgraded.map(|()| grant));
        });
        let queued = self.begin_upgrade(grant, Delivery::Mail(Arc::clone(mailbox), letter))?;
        Ok(queued.map(|(ticket, _)| {
            self.keep_time_of(ticket, deadline);
            ticket
        }))
    }

    fn letter(
        self: &Arc<Self>,
        wanted: &Wanted<'_>,
        limit: Limit,
        deadline: Option<Instant>,
        answer: impl FnOnce(Ticket, Result<Grant, LockError>) + Send + 'static,
    ) -> Letter {
        let core = Arc::clone(self);
        let key = wanted.key.to_owned();
        Box::new(move |waiter| {
            let ticket = core.waiters.get(waiter).ticket(waiter);
            let look = core.waiters.get(waiter).first_look();
            let ended = core.finish(core.local(), waiter);
            // After the ticket is void: whoever sets a moment later sees that.
            core.forget_moments(deadline, look, ticket);
            let result = match ended {
                Ended::Granted(Some(grant)) => Ok(grant),
                Ended::Granted(None) => Err(LockError::Closed),
                Ended::Failed { why, error } => Err(core.failure((why, error), limit, &key.as_ref())),
            };
            answer(ticket, result);
        })
    }

    /// Opens the oldest letter of a mailbox. `false` if it is empty.
    pub(crate) fn open_letter(&self, mailbox: &Mailbox) -> bool {
        if self.is_forked() {
            return false;
        }
        let Some(waiter) = mailbox.fetch(&self.waiters) else { return false };
        if let Delivery::Mail(_, letter) = self.waiters.get(waiter).take_delivery() {
            letter(waiter);
        }
        true
    }

    /// Cancels all requests whose answer would come to a mailbox.
    pub(crate) fn cancel_all_of(&self, mailbox: &Arc<Mailbox>) {
        let mut tickets = Vec::new();
        self.waiters
            .for_each_at_rest(|index, waiter| tickets.extend(waiter.is_for(mailbox).then(|| waiter.ticket(index))));
        for ticket in tickets {
            self.cancel(ticket);
        }
    }

    /// Ends the wait of a ticket. `false` if it waits no more, or is not one that was given out.
    pub(crate) fn cancel(&self, ticket: Ticket) -> bool {
        self.end_by_ticket(ticket, Phase::Cancelled, |waiter| waiter.asking().by_mail)
    }

    /// The mailbox of the callbacks, with its thread running.
    pub(crate) fn callbacks(self: &Arc<Self>) -> Result<Arc<Mailbox>, LockError> {
        self.service()?;
        let desk = Arc::clone(self.dispatcher.desk.get_or_init(Arc::default));
        let mailbox = self.dispatcher.mailbox.get_or_init(|| {
            let desk = Arc::clone(&desk);
            Mailbox::new(move || {
                desk.state.lock().rung = true;
                desk.changed.notify_one();
            })
        });
        let mut state = desk.state.lock();
        if state.stopping {
            return Err(LockError::Closed);
        }
        if state.thread.is_none() {
            let (core, mailbox, desk) = (Arc::clone(self), Arc::clone(mailbox), Arc::clone(&desk));
            let run = move || core.call_back(&desk, &mailbox);
            let thread = thread::spawn("keylatch-callbacks", run).map_err(|error| LockError::InvalidConfig {
                setting: "callbacks",
                problem: format!("no thread for them: {error}"),
            })?;
            state.thread = Some(thread);
        }
        state.owed += 1;
        Ok(Arc::clone(mailbox))
    }

    /// A callback that was promised by `callbacks` has been called, or will not be needed.
    pub(crate) fn callback_settled(&self) {
        if let Some(desk) = self.dispatcher.desk.get() {
            desk.state.lock().owed -= 1;
            desk.changed.notify_one();
        }
    }

    /// Ends this when the manager is closed; now, if it is.
    pub(crate) fn ends_with_it(&self, ending: &Arc<impl Ending + 'static>) {
        if self.is_forked() {
            // The mutex may be locked for ever here, and nothing will end the parent's manager.
            return;
        }
        let weak = Arc::downgrade(ending);
        let mut all = self.ends_with_it.all.lock();
        all.retain(|other| other.strong_count() > 0);
        all.push(weak);
        drop(all);
        // After it was noted: whoever closed the manager before has not found it.
        if self.is_closed() {
            ending.end();
        }
    }

    pub(crate) fn end_what_ends_with_it(&self) {
        let all = std::mem::take(&mut *self.ends_with_it.all.lock());
        all.iter().filter_map(Weak::upgrade).for_each(|ending| ending.end());
    }

    /// Lets the thread end once every callback has been called.
    pub(crate) fn stop_callbacks(&self) {
        if let Some(desk) = self.dispatcher.desk.get() {
            desk.state.lock().stopping = true;
            desk.changed.notify_one();
        }
    }

    /// Waits until the manager's own threads have ended. Call `close` before, and not from one of them.
    pub(crate) fn join_threads(&self) {
        if self.is_forked() {
            return;
        }
        self.timer.join();
        let thread = self.dispatcher.desk.get().and_then(|desk| desk.state.lock().thread.take());
        thread.into_iter().for_each(Running::join);
    }

    fn call_back(&self, desk: &CallbackThread, mailbox: &Mailbox) {
        let mut state = desk.state.lock();
        loop {
            if state.rung {
                state.rung = false;
                drop(state);
                // A callback that panics is the caller's bug; its guard is dropped with it, and the others go on.
                while without_panic(|| self.open_letter(mailbox)).unwrap_or(true) {}
                state = desk.state.lock();
            } else if state.stopping && state.owed == 0 {
                return;
            } else {
                desk.changed.wait(&mut state);
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::OnceLock;
    use crate::{Fairness, FastObjectLockManager, LockConfig, LockRequest};
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};
    use std::time::Duration;

    /// A letter that is opened by whoever posts it, before the request for it has got as far as its deadline.
    #[test]
    fn no_deadline_outlives_its_request() {
        let config = LockConfig { fairness: Fairness::Fifo, ..LockConfig::default() };
        let locks = FastObjectLockManager::with_config(config).unwrap();
        let core = locks.core();
        let (weak, slot) = (Arc::downgrade(core), Arc::new(OnceLock::<Arc<Mailbox>>::new()));
        let opened_at_once = Arc::downgrade(&slot);
        let bell = move || {
            let slot = opened_at_once.upgrade().unwrap();
            while weak.upgrade().unwrap().open_letter(slot.get().unwrap()) {}
        };
        let mailbox = slot.get_or_init(|| Mailbox::new(bell));

        // A writer waits for a reader. Another reader, of higher priority, lines up in front of it and goes in.
        let _held = locks.acquire_read_lock_blocking("b", "o", "holder").unwrap();
        let mut writer = pin!(locks.acquire_write_lock("b", "o", "writer"));
        assert!(writer.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let wanted = core.wanted(core.local(), &LockRequest::read(("b", "o")).priority(9));
        let (answer, answered) = std::sync::mpsc::channel();
        let limit = Limit::after(Duration::from_secs(3600));
        let posted = core.post(&wanted, limit, mailbox, move |_, result| answer.send(result).unwrap());
        assert!(matches!(posted, Ok(Posted::Waiting(_))), "{posted:?}");
        core.release_guard(answered.try_recv().expect("answered already").unwrap());
        assert_eq!(core.timer.len(), 0);
    }
}
