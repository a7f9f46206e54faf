//! Requests whose answer comes by a callback or a completion queue.

use super::acquire::{Answer, Wait};
use super::core::Core;
use super::wanted::Wanted;
use crate::error::LockError;
use crate::hold::Grant;
use crate::request::Limit;
use crate::sync::thread::{self, Running};
use crate::wait::{
    CallbackThread, CompletionFn, CompletionList, Delivery, Ending, Phase, Purpose, Ticket, without_panic,
};
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::waiting::Ended;

/// The immediate answer to a request with a callback or a completion queue.
#[derive(Debug)]
pub(crate) enum Posted {
    Granted(Grant),
    Waiting(Ticket),
}

impl Core {
    /// Asks for the lock; if it is held, `answer` gets the result later.
    ///
    /// The thread that reads the list of finished waiters calls it.
    pub(crate) fn post(
        self: &Arc<Self>,
        wanted: &Wanted<'_>,
        limit: Limit,
        completions: &Arc<CompletionList>,
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
        let has_time = !self.has_no_time(limit);
        let deadline = if has_time { self.deadline(limit) } else { None };
        let completion_fn = self.completion_fn(wanted, limit, deadline, answer);
        let delivery = Delivery::Completion(Arc::clone(completions), completion_fn);
        let wait = if has_time { Wait::InLine(delivery) } else { Wait::ForTier(delivery) };
        let answer = self.acquire_slow(local, wanted, wait);
        match answer.map_err(|error| self.as_timeout(error, limit, wanted.hash))? {
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
            // The request may have ended already, and removed the deadline before it was set.
            if !self.waiters.is_current(ticket) {
                self.timer.unset_end(deadline, ticket);
            }
        }
        self.begin_to_look(ticket);
    }

    /// Upgrades a grant that the caller has adopted, immediately or later.
    ///
    /// A ticket means that `answer` will be called and has the grant then. If the upgrade fails, the grant is detached
    /// before.
    pub(crate) fn post_upgrade(
        self: &Arc<Self>,
        grant: Grant,
        limit: Limit,
        completions: &Arc<CompletionList>,
        answer: impl FnOnce(Ticket, Result<Grant, LockError>) + Send + 'static,
    ) -> Result<Option<Ticket>, LockError> {
        let limit = self.decided(limit);
        let has_time = !self.has_no_time(limit);
        let deadline = if has_time { self.deadline(limit) } else { None };
        let core = Arc::clone(self);
        let completion_fn: CompletionFn = Box::new(move |waiter| {
            let ticket = core.waiters.get(waiter).ticket(waiter);
            let look = core.waiters.get(waiter).first_look();
            let ended = core.finish(core.local(), waiter);
            // As in `completion_fn`.
            core.forget_moments(deadline, look, ticket);
            let upgraded = core.upgrade_ended(grant, ended, limit);
            let upgraded = upgraded.map_err(|error| core.upgrade_as_timeout(error, limit));
            if upgraded.is_err() {
                core.detach(grant);
            }
            answer(ticket, upgraded.map(|()| grant));
        });
        let delivery = Delivery::Completion(Arc::clone(completions), completion_fn);
        let queued = match has_time {
            true => self.begin_upgrade(grant, delivery),
            false => self.begin_to_try_upgrade(grant, || delivery),
        };
        let queued = queued.map_err(|error| self.upgrade_as_timeout(error, limit))?;
        Ok(queued.map(|(ticket, _)| {
            self.keep_time_of(ticket, deadline);
            ticket
        }))
    }

    /// As `as_timeout`, for an upgrade.
    fn upgrade_as_timeout(&self, error: LockError, limit: Limit) -> LockError {
        let LockError::WouldBlock { key, .. } = &error else { return error };
        let hash = self.hash(&key.as_ref());
        self.as_timeout(error, limit, hash)
    }

    fn completion_fn(
        self: &Arc<Self>,
        wanted: &Wanted<'_>,
        limit: Limit,
        deadline: Option<Instant>,
        answer: impl FnOnce(Ticket, Result<Grant, LockError>) + Send + 'static,
    ) -> CompletionFn {
        let core = Arc::clone(self);
        let (key, hash) = (wanted.key.to_owned(), wanted.hash);
        Box::new(move |waiter| {
            let ticket = core.waiters.get(waiter).ticket(waiter);
            let look = core.waiters.get(waiter).first_look();
            let ended = core.finish(core.local(), waiter);
            // After the ticket is void: a thread that sets a moment later sees that.
            core.forget_moments(deadline, look, ticket);
            let result = match ended {
                Ended::Granted(Some(grant)) => Ok(grant),
                Ended::Granted(None) => Err(LockError::Closed),
                Ended::Failed { why, error } => {
                    Err(core.as_timeout(core.failure((why, error), limit, &key.as_ref()), limit, hash))
                }
            };
            answer(ticket, result);
        })
    }

    /// Calls the completion function of the oldest finished waiter; `false` if none.
    pub(crate) fn run_completion(&self, completions: &CompletionList) -> bool {
        if self.is_forked() {
            return false;
        }
        let Some(waiter) = completions.fetch(&self.waiters) else { return false };
        if let Delivery::Completion(_, completion_fn) = self.waiters.get(waiter).take_delivery() {
            completion_fn(waiter);
        }
        true
    }

    /// Cancels all requests that would finish through a list.
    pub(crate) fn cancel_all_of(&self, completions: &Arc<CompletionList>) {
        let mut tickets = Vec::new();
        self.waiters
            .for_each_at_rest(|index, waiter| tickets.extend(waiter.is_for(completions).then(|| waiter.ticket(index))));
        for ticket in tickets {
            self.cancel(ticket);
        }
    }

    /// Ends the wait of a ticket; `false` if it does not wait, or was not given out.
    pub(crate) fn cancel(&self, ticket: Ticket) -> bool {
        self.end_by_ticket(ticket, Phase::Cancelled, |waiter| waiter.asking().by_completion)
    }

    /// Returns the list of the callbacks, with its thread running.
    pub(crate) fn callbacks(self: &Arc<Self>) -> Result<Arc<CompletionList>, LockError> {
        self.service()?;
        let callbacks_state = Arc::clone(self.dispatcher.callbacks_state.get_or_init(Arc::default));
        let completions = self.dispatcher.completions.get_or_init(|| {
            let callbacks_state = Arc::clone(&callbacks_state);
            CompletionList::new(move || {
                callbacks_state.state.lock().signalled = true;
                callbacks_state.changed.notify_one();
            })
        });
        let mut state = callbacks_state.state.lock();
        if state.stopping {
            return Err(LockError::Closed);
        }
        if state.thread.is_none() {
            let (core, completions, callbacks_state) =
                (Arc::clone(self), Arc::clone(completions), Arc::clone(&callbacks_state));
            let run = move || core.call_back(&callbacks_state, &completions);
            let thread = thread::spawn("keylatch-callbacks", run).map_err(|error| LockError::InvalidConfig {
                setting: "callbacks",
                problem: format!("no thread for them: {error}"),
            })?;
            state.thread = Some(thread);
        }
        state.outstanding += 1;
        Ok(Arc::clone(completions))
    }

    /// Notes that a callback of `callbacks` was called, or will not be needed.
    pub(crate) fn callback_settled(&self) {
        if let Some(callbacks_state) = self.dispatcher.callbacks_state.get() {
            callbacks_state.state.lock().outstanding -= 1;
            callbacks_state.changed.notify_one();
        }
    }

    /// Has `ending` end when the manager is closed, or now if it is.
    pub(crate) fn ends_with_it(&self, ending: &Arc<impl Ending + 'static>) {
        if self.is_forked() {
            // A forked child takes no mutex, and does not end the parent's manager.
            return;
        }
        let weak = Arc::downgrade(ending);
        let mut all = self.ends_with_it.all.lock();
        all.retain(|other| other.strong_count() > 0);
        all.push(weak);
        drop(all);
        // After it was noted: a thread that closed the manager before did not find it.
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
        if let Some(callbacks_state) = self.dispatcher.callbacks_state.get() {
            callbacks_state.state.lock().stopping = true;
            callbacks_state.changed.notify_one();
        }
    }

    /// Waits until the manager's own threads have ended, after `close`.
    ///
    /// Not from one of these threads.
    pub(crate) fn join_threads(&self) {
        if self.is_forked() {
            return;
        }
        self.timer.join();
        let thread = self
            .dispatcher
            .callbacks_state
            .get()
            .and_then(|callbacks_state| callbacks_state.state.lock().thread.take());
        thread.into_iter().for_each(Running::join);
    }

    fn call_back(&self, callbacks_state: &CallbackThread, completions: &CompletionList) {
        let mut state = callbacks_state.state.lock();
        loop {
            if state.signalled {
                state.signalled = false;
                drop(state);
                // A callback that panics drops its guard; the other callbacks are called nevertheless.
                while without_panic(|| self.run_completion(completions)).unwrap_or(true) {}
                state = callbacks_state.state.lock();
            } else if state.stopping && state.outstanding == 0 {
                return;
            } else {
                callbacks_state.changed.wait(&mut state);
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

    /// A completion function that is called by the thread that finishes the waiter.
    ///
    /// It comes before the request has set its deadline.
    #[test]
    fn no_deadline_outlives_its_request() {
        let config = LockConfig { fairness: Fairness::Fifo, ..LockConfig::default() };
        let locks = FastObjectLockManager::with_config(config).unwrap();
        let core = locks.core();
        let (weak, slot) = (Arc::downgrade(core), Arc::new(OnceLock::<Arc<CompletionList>>::new()));
        let opened = Arc::downgrade(&slot);
        let bell = move || {
            let slot = opened.upgrade().unwrap();
            while weak.upgrade().unwrap().run_completion(slot.get().unwrap()) {}
        };
        let completions = slot.get_or_init(|| CompletionList::new(bell));

        // A writer waits for a reader. Another reader, of higher priority, lines up in front of it and goes in.
        let _held = locks.acquire_read_lock_blocking("b", "o", "holder").unwrap();
        let mut writer = pin!(locks.acquire_write_lock("b", "o", "writer"));
        assert!(writer.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let wanted = core.wanted(core.local(), &LockRequest::read(("b", "o")).priority(9));
        let (answer, answered) = std::sync::mpsc::channel();
        let limit = Limit::after(Duration::from_secs(3600));
        let posted = core.post(&wanted, limit, completions, move |_, result| answer.send(result).unwrap());
        assert!(matches!(posted, Ok(Posted::Waiting(_))), "{posted:?}");
        core.release_guard(answered.try_recv().expect("answered already").unwrap());
        assert_eq!(core.timer.len(), 0);
    }
}
