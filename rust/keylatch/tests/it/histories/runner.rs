//! Runs a program and writes down what happens.

use super::event::{By, Clock, Event, Log, What};
use super::program::{Actor, Holding, Program, Step};
use super::task;
use super::verdict::AtRest;
use keylatch::{
    CompletionQueue, FastObjectLockManager, LockError, LockGuard, LockRequest, ManagerRef, Mode, OwnedLockGuard,
    Submitted,
};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// Nothing here takes this long unless it hangs.
const FOREVER: Duration = Duration::from_secs(180);

/// Requests that wait before a user of a completion queue fetches an answer.
const MOST_QUEUED: usize = 4;

/// What the actors of a program share.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) locks: FastObjectLockManager,
    keys: Vec<String>,
}

impl Stage {
    fn of(program: &Program) -> Self {
        let locks = FastObjectLockManager::with_config(program.config()).expect("programs have good settings");
        Self { locks, keys: (0..program.keys).map(|key| format!("key {key}")).collect() }
    }

    pub(crate) fn request(&self, step: &Step) -> LockRequest<'_> {
        let request = LockRequest::new(("b", &self.keys[step.key]), step.mode).priority(step.priority);
        step.limit.map_or(request, |limit| request.timeout(limit))
    }
}

/// Returns the history of a program, and what is left after it.
pub(crate) fn run(program: &Program) -> (Vec<Event>, AtRest) {
    let stage = Arc::new(Stage::of(program));
    let clock = Clock::new();
    let logs: Vec<Log> = program.actors.iter().map(|_| Log::new(&clock)).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("threads for tasks");
    std::thread::scope(|scope| {
        let cast: Vec<_> = program.actors.iter().zip(&logs).collect();
        let (tasks, threads): (Vec<_>, Vec<_>) = cast.into_iter().partition(|(actor, _)| actor.by == By::Task);
        let tasks: Vec<_> = tasks
            .into_iter()
            .map(|(actor, log)| runtime.spawn(task::act(Arc::clone(&stage), actor.steps.clone(), log.clone())))
            .collect();
        for (actor, log) in threads {
            let stage = &stage;
            scope.spawn(move || act(stage, actor, log));
        }
        tasks.into_iter().for_each(|task| runtime.block_on(task).expect("no task panics"));
    });
    drop(runtime);
    let at_rest = AtRest::of(&stage.locks.get_metrics().shard_metrics);
    (logs.into_iter().flat_map(Log::into_events).collect(), at_rest)
}

fn act(stage: &Stage, actor: &Actor, log: &Log) {
    match actor.by {
        By::Thread => actor.steps.iter().for_each(|step| thread(stage, step, log)),
        By::Try => actor.steps.iter().for_each(|step| attempt(stage, step, log)),
        By::Callback => actor.steps.iter().for_each(|step| callback(stage, step, log)),
        By::Queue => queue(stage, &actor.steps, log),
        By::Task => unreachable!("tasks are spawned"),
    }
}

fn thread(stage: &Stage, step: &Step, log: &Log) {
    let request = log.asking(step.key, step.mode, step.priority, By::Thread);
    match stage.locks.lock(stage.request(step)).blocking() {
        Ok(guard) => hold(&stage.locks, request, guard, step, log),
        Err(error) => gave_up(request, &error, log),
    }
}

fn attempt(stage: &Stage, step: &Step, log: &Log) {
    let request = log.asking(step.key, step.mode, step.priority, By::Try);
    match stage.locks.lock(stage.request(step)).try_now() {
        Ok(guard) => hold(&stage.locks, request, guard, step, log),
        Err(_) => log.note(request, What::GaveUp),
    }
}

fn callback(stage: &Stage, step: &Step, log: &Log) {
    let request = log.asking(step.key, step.mode, step.priority, By::Callback);
    let (called, answered) = mpsc::channel();
    let (locks, callbacks_step, callbacks_log) = (stage.locks.clone(), *step, log.clone());
    let submitted = stage.locks.lock(stage.request(step)).with_callback(move |answer| {
        answer_arrived(&locks, request, answer, &callbacks_step, &callbacks_log);
        // The program goes on without an answer that comes too late; the history shows it.
        let _ = called.send(());
    });
    if settle_submitted(stage, request, submitted, step, log) {
        answered.recv_timeout(FOREVER).expect("an answer");
    }
}

fn queue(stage: &Stage, steps: &[Step], log: &Log) {
    let queue = stage.locks.completion_queue().expect("a descriptor");
    let mut waiting = 0;
    // The token names the request and, by its place, the step.
    let mut requests = Vec::new();
    for (place, step) in steps.iter().enumerate() {
        let request = log.asking(step.key, step.mode, step.priority, By::Queue);
        requests.push(request);
        let submitted = stage.locks.lock(stage.request(step)).with_queue(&queue, place as u64);
        waiting += usize::from(settle_submitted(stage, request, submitted, step, log));
        while waiting >= MOST_QUEUED {
            fetch(stage, &queue, steps, &requests, log);
            waiting -= 1;
        }
    }
    (0..waiting).for_each(|_| fetch(stage, &queue, steps, &requests, log));
    while let Some(unexpected) = queue.try_next() {
        log.note(requests[unexpected.token as usize], What::Answered);
    }
}

fn fetch(stage: &Stage, queue: &CompletionQueue, steps: &[Step], requests: &[u64], log: &Log) {
    let completion = queue.next(Some(FOREVER)).expect("a descriptor to wait on").expect("an answer");
    let place = completion.token as usize;
    answer_arrived(&stage.locks, requests[place], completion.result, &steps[place], log);
}

/// Returns whether an answer is to come.
fn settle_submitted(
    stage: &Stage,
    request: u64,
    submitted: Result<Submitted, LockError>,
    step: &Step,
    log: &Log,
) -> bool {
    match submitted {
        Ok(Submitted::Granted(guard)) => {
            hold(&stage.locks, request, guard, step, log);
            false
        }
        Ok(Submitted::Waiting(ticket)) => {
            log.note(request, What::InLine);
            if step.give_up_after.is_some() {
                cancelling(request, step, log);
                stage.locks.cancel(ticket);
            }
            true
        }
        Err(error) => {
            gave_up(request, &error, log);
            false
        }
    }
}

fn answer_arrived(
    locks: &FastObjectLockManager,
    request: u64,
    answer: Result<OwnedLockGuard, LockError>,
    step: &Step,
    log: &Log,
) {
    log.note(request, What::Answered);
    match answer {
        // A callback does not wait.
        Ok(guard) => hold(locks, request, guard, &Step { hold: Holding::Short(50), ..*step }, log),
        Err(error) => gave_up(request, &error, log),
    }
}

/// Notes the coming cancellation of a request that would wait on.
///
/// One with a limit may have ended by itself.
pub(crate) fn cancelling(request: u64, step: &Step, log: &Log) {
    if step.limit.is_none() {
        log.note(request, What::Cancelling);
    }
}

pub(crate) fn gave_up(request: u64, error: &LockError, log: &Log) {
    let expected = matches!(error, LockError::Timeout { .. } | LockError::Cancelled { .. });
    assert!(expected, "request {request} ended with {error:?}");
    log.note(request, What::GaveUp);
}

/// The time with the lock.
pub(crate) fn hold<M: ManagerRef>(
    locks: &FastObjectLockManager,
    request: u64,
    mut guard: LockGuard<M>,
    step: &Step,
    log: &Log,
) {
    log.note(request, What::Granted { fence: guard.fence() });
    match step.hold {
        Holding::Short(turns) => (0..turns).for_each(|_| std::hint::spin_loop()),
        Holding::Pausing => std::thread::sleep(Duration::from_micros(100)),
        Holding::AsGrant => {
            let grant = guard.into_grant();
            log.note(request, What::Releasing);
            return locks.release(grant).expect("it is held");
        }
        Holding::Changing => {
            if guard.mode() == Mode::Exclusive {
                change(request, &mut guard, log, |guard| guard.downgrade());
                std::hint::spin_loop();
            }
            change(request, &mut guard, log, |guard| {
                // Held shared as before if it cannot be had. A task keeps its thread for that long on purpose.
                let upgraded = || guard.upgrade_blocking(Some(Duration::from_micros(100)));
                let _ = tokio::task::block_in_place(upgraded);
            });
        }
    }
    log.note(request, What::Releasing);
    drop(guard);
}

fn change<M: ManagerRef>(request: u64, guard: &mut LockGuard<M>, log: &Log, how: impl FnOnce(&mut LockGuard<M>)) {
    log.note(request, What::Changing);
    how(guard);
    log.note(request, What::Changed { mode: guard.mode(), fence: guard.fence() });
}
