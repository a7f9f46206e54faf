//! Waiters that cannot sleep: futures, and requests whose answer comes by mail.

use super::*;
use crate::engine::completion::Posted;
use crate::engine::waiting::Polled;
use crate::request::Limit;
use crate::sync::Park;
use crate::sync::atomic::Ordering;
use crate::wait::CompletionList;
use crate::wait::Phase;
use std::task::{Context, Poll, Wake, Waker};

/// What a task's executor sleeps on.
#[derive(Default)]
struct Alarm(Park);

impl Alarm {
    fn ring(&self) {
        self.0.store(1, Ordering::Release);
        self.0.wake();
    }

    /// Sleeps until it was rung since the last time.
    fn wait(&self) {
        // No swap: the model checker does not know that nothing comes between what it reads and what it writes.
        while self.0.compare_exchange(1, 0).is_err() {
            let _ = self.0.park(0, None);
        }
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.ring();
    }
}

/// Joins the line as a future does.
fn queue(model: &Model, mode: Mode) -> Polled {
    let wanted = model.wanted(0, mode);
    let wait = Wait::InLine(crate::wait::Delivery::Task(None));
    match model.core().acquire_slow(model.core().local(), &wanted, wait) {
        Ok(Answer::Queued(ticket)) => Polled::new(&model.0.core, ticket, wanted.hash, None),
        other => panic!("{other:?} though it is held"),
    }
}

/// Runs the task to its end.
fn run(model: &Model, task: &Polled) -> Ended {
    let alarm = Arc::new(Alarm::default());
    let waker = Waker::from(Arc::clone(&alarm));
    loop {
        match task.poll(model.core(), &Context::from_waker(&waker)) {
            Poll::Ready(ended) => return ended,
            Poll::Pending => alarm.wait(),
        }
    }
}

fn use_up(model: &Model, ended: Ended) -> bool {
    match ended {
        Ended::Granted(Some(grant)) => {
            model.work(0, EXCLUSIVE);
            model.release(grant);
            true
        }
        Ended::Granted(None) => panic!("no upgrade"),
        Ended::Failed { .. } => false,
    }
}

/// Would catch: a change between a task's look at its phase and its waker.
///
/// Or a waker that the first wake has used up and the second one misses.
#[test]
fn a_task_is_polled_while_the_lock_is_released() {
    for fairness in [Fairness::Fifo, HANDED, NEVER, SOON] {
        check(move || {
            let model = Model::new(fairness);
            let held = model.lock(0, EXCLUSIVE);
            let task = queue(&model, EXCLUSIVE);
            let task = model.spawn(move |model| use_up(model, run(model, &task)));
            // Takes the lock again, perhaps ahead of the task, which is then woken twice.
            model.release(held);
            model.lock_and_work(0, EXCLUSIVE);
            assert!(task.join().unwrap());
            assert_eq!(model.worked(0), 2);
            model.assert_nothing_left();
        });
    }
}

/// Would catch: a future dropped after its grant that keeps the lock.
///
/// Or a notified one that is dropped and forgets the waiter behind it.
#[test]
fn a_task_is_dropped_while_the_lock_is_released() {
    for fairness in [Fairness::Fifo, NEVER, SOON] {
        check(move || {
            let model = Model::new(fairness);
            let held = model.lock(0, EXCLUSIVE);
            let task = queue(&model, EXCLUSIVE);
            let behind = model.queue(0, EXCLUSIVE);
            let task = model.spawn(move |model| {
                let waker = Waker::from(Arc::new(Alarm::default()));
                let ended = match task.poll(model.core(), &Context::from_waker(&waker)) {
                    Poll::Ready(ended) => ended,
                    Poll::Pending => task.abandon(model.core()),
                };
                use_up(model, ended);
            });
            let behind = model.spawn(move |model| model.wait_and_work(behind, 0, EXCLUSIVE));
            model.release(held);
            task.join().unwrap();
            behind.join().unwrap();
            model.assert_nothing_left();
        });
    }
}

/// Would catch: a completion that comes twice, never, or with a wrong result.
#[test]
fn completion_cancelled_during_release() {
    for fairness in [Fairness::Fifo, NEVER] {
        check(move || {
            let model = Model::new(fairness);
            let held = model.lock(0, EXCLUSIVE);
            let alarm = Arc::new(Alarm::default());
            let bell = Arc::clone(&alarm);
            let completions = CompletionList::new(move || bell.ring());
            let answers = Arc::new(std::sync::Mutex::new(Vec::new()));
            let arrived = Arc::clone(&answers);
            let wanted = model.wanted(0, EXCLUSIVE);
            let posted = model.0.core.post(&wanted, Limit::Never, &completions, move |ticket, result| {
                arrived.lock().unwrap().push((ticket, result));
            });
            let Ok(Posted::Waiting(ticket)) = posted else { panic!("{posted:?} though it is held") };
            let canceller = model.spawn(move |model| model.core().end_by_ticket(ticket, Phase::Cancelled, |_| true));
            let releaser = model.spawn(move |model| {
                model.work(0, EXCLUSIVE);
                model.release(held);
            });
            alarm.wait();
            while model.core().run_completion(&completions) {}
            let cancelled = canceller.join().unwrap();
            releaser.join().unwrap();
            assert!(!model.core().run_completion(&completions));
            let answers = std::mem::take(&mut *answers.lock().unwrap());
            match answers.as_slice() {
                [(of, Ok(grant))] if *of == ticket && !cancelled => {
                    model.work(0, EXCLUSIVE);
                    model.release(*grant);
                }
                [(of, Err(LockError::Cancelled { .. }))] if *of == ticket && cancelled => {}
                other => panic!("{other:?}, cancelled: {cancelled}"),
            }
            model.assert_nothing_left();
        });
    }
}
