//! The lock of a file: what `keylatch.filelock.FileLock` is made of.
//!
//! A hold is the file's key in the table, and then the lock of the file itself, which `lock_file` keeps for the next time.

use crate::pending::Pending;
use crate::shared::failure::OrRaise;
use crate::shared::holds::{Ended, Holds, Whose};
use crate::shared::joining::{Came, JoinOrTurn, Joinable, Joiners};
use crate::shared::open_files::{self, OpenFile, os_error};
use crate::shared::per_process::PerProcess;
use crate::shared::{processes, wait};
use crate::wait::wait_until;
use keylatch::Mode;
use keylatch_shm::{Entered, OwnedSharedLockGuard, ShmError};
use pyo3::exceptions::PyDeprecationWarning;
use pyo3::prelude::*;
use pyo3::types::PyBool;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// What `keylatch.filelock.FileLock` is made of.
#[pyclass(frozen, subclass, weakref, name = "FileLock", module = "keylatch._keylatch")]
pub(crate) struct FileLock {
    path: PathBuf,
    mode: Option<u32>,
    /// Of each thread, or of all threads together.
    whose: Whose,
    table: PathBuf,
    state: PerProcess<Mutex<State>>,
}

/// What this process has of it.
///
/// No Python code runs while its mutex is held: that may ask for this lock.
struct State {
    open: Option<OpenFile>,
    holds: Holds<Turn>,
    /// Threads and tasks that wait until they can join a hold.
    joiners: Joiners,
}

/// The file's key, held, and the file.
///
/// Dropping it gives the key back as if none had had it.
struct Turn {
    open: OpenFile,
    guard: Option<OwnedSharedLockGuard>,
}

impl Turn {
    /// Leaves the file and releases the key.
    fn release(mut self) -> Result<(), ShmError> {
        let Some(guard) = self.guard.take() else { return Ok(()) };
        // The file first: the next holder of the key finds it as it is kept.
        self.open.file.leave(guard.fence());
        guard.try_release()
    }

    /// The same, off the interpreter if it takes system calls. No mutex may be held.
    #[inline]
    fn release_off(mut self, py: Python<'_>) -> Result<(), ShmError> {
        match self.guard.take_if(|guard| self.open.file.leave_kept(guard.fence())) {
            Some(guard) => guard.try_release(),
            None => py.detach(|| self.release()),
        }
    }

    fn is_valid(&self) -> bool {
        self.guard.as_ref().is_some_and(OwnedSharedLockGuard::is_valid)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(guard) = self.guard.take() {
            guard.give_back();
        }
    }
}

/// A place in line that has come, for a task that locks the file.
#[pyclass(frozen, module = "keylatch._keylatch")]
pub(crate) struct FileTurn(Mutex<Option<Turn>>);

/// The longest pause between two tries of a file that another program has locked.
const PAUSE: Duration = Duration::from_millis(20);

#[pymethods]
impl FileTurn {
    /// Gives the turn to the next, if it was not used.
    fn close(&self) {
        drop(self.take());
    }
}

impl FileTurn {
    fn take(&self) -> Option<Turn> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// How a try went.
enum Tried {
    Held,
    /// The key is held, or the file is not open yet.
    Blocked,
    /// Another program has the file.
    Busy(Turn),
}

impl FileLock {
    #[inline]
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.get().lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the lock if it is free and the file is open, or has it once more.
    #[inline]
    fn try_acquire(&self, py: Python<'_>) -> PyResult<Tried> {
        let mut state = self.state();
        if state.holds.again(self.whose, Turn::is_valid) {
            return Ok(Tried::Held);
        }
        let Some(open) = state.open.clone() else { return Ok(Tried::Blocked) };
        drop(state);
        let Some(guard) = open.key.try_acquire(Mode::Exclusive, "").or_raise(py)? else { return Ok(Tried::Blocked) };
        self.enter(py, Turn { open, guard: Some(guard) })
    }

    /// Locks the file for a turn that has come.
    fn enter(&self, py: Python<'_>, turn: Turn) -> PyResult<Tried> {
        let hold = turn.guard.as_ref().map_or(0, OwnedSharedLockGuard::fence);
        let entered = match turn.open.file.enter_kept(hold) {
            Some(entered) => Ok(entered),
            None => py.detach(|| turn.open.file.enter(hold)),
        };
        match entered.map_err(|error| os_error(py, &self.path, &error))? {
            Entered::Yes => {
                let mut state = self.state();
                if turn.open.file.is_shared() {
                    state.open = Some(turn.open.clone());
                }
                state.holds.push(turn);
                let joiners = state.joiners.take();
                drop(state);
                joiners.into_iter().for_each(Waker::wake);
                Ok(Tried::Held)
            }
            Entered::Busy => Ok(Tried::Busy(turn)),
            Entered::Stale => {
                open_files::forget(&self.path, &turn.open);
                self.state().open = None;
                Ok(Tried::Blocked)
            }
        }
    }

    /// Opens the file, or finds it open.
    fn open(&self, py: Python<'_>) -> PyResult<OpenFile> {
        if let Some(open) = &self.state().open {
            return Ok(open.clone());
        }
        let open = open_files::open(py, &self.path, self.mode, &self.table)?;
        if open.file.is_shared() {
            self.state().open = Some(open.clone());
        }
        Ok(open)
    }

    /// The same turn, with the file opened again where each try has to.
    fn reopened(&self, py: Python<'_>, turn: Turn) -> PyResult<Option<Turn>> {
        if turn.open.file.is_shared() {
            return Ok(Some(turn));
        }
        let mut turn = turn;
        let open = open_files::open(py, &self.path, self.mode, &self.table)?;
        if open.file.id() != turn.open.file.id() {
            return Ok(None);
        }
        turn.open = open;
        Ok(Some(turn))
    }

    /// Waits until the deadline; without one, for as long as it takes.
    ///
    /// Without patience it tries once.
    #[cold]
    #[inline(never)]
    fn wait(slf: &Bound<'_, Self>, patience: Option<Option<Instant>>) -> PyResult<bool> {
        let (py, this) = (slf.py(), slf.get());
        loop {
            let open = this.open(py)?;
            let guard = match patience {
                None => open.key.try_acquire(Mode::Exclusive, "").or_raise(py)?,
                Some(deadline) if this.whose == Whose::Mine => {
                    wait::acquire(py, &open.key, Mode::Exclusive, "", deadline)?
                }
                Some(deadline) => {
                    match wait_until(py, JoinOrTurn::new(slf.clone().unbind(), &open.key, deadline), deadline)? {
                        Some(Came::ToJoin) => {
                            if matches!(this.try_acquire(py)?, Tried::Held) {
                                return Ok(true);
                            }
                            continue;
                        }
                        Some(Came::Turn(guard)) => Some(guard),
                        Some(Came::Failed(error)) => return Err(error).or_raise(py),
                        Some(Came::Late) | None => None,
                    }
                }
            };
            let Some(guard) = guard else { return Ok(false) };
            let mut next = Some(Turn { open, guard: Some(guard) });
            let mut pause = Duration::from_millis(1);
            while let Some(turn) = next.take() {
                match this.enter(py, turn)? {
                    Tried::Held => return Ok(true),
                    // The name stands for another file: from the start.
                    Tried::Blocked => {}
                    Tried::Busy(turn) => {
                        let left = patience.map(|deadline| {
                            deadline.map_or(PAUSE, |deadline| deadline.saturating_duration_since(Instant::now()))
                        });
                        let Some(left) = left.filter(|left| !left.is_zero()) else { return Ok(false) };
                        py.detach(|| std::thread::sleep(pause.min(left)));
                        py.check_signals()?;
                        pause = (pause * 2).min(PAUSE);
                        next = this.reopened(py, turn)?;
                    }
                }
            }
            py.check_signals()?;
        }
    }

    /// Acquires within that many seconds.
    ///
    /// Without any it tries once, and infinity is for as long as it takes.
    ///
    /// No Python code runs once the lock is held: an exception of a signal's handler would lose it.
    fn acquire_within(slf: &Bound<'_, Self>, seconds: f64) -> PyResult<bool> {
        if let Tried::Held = slf.get().try_acquire(slf.py())? {
            return Ok(true);
        }
        let wait = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX);
        Self::wait(slf, (!wait.is_zero()).then(|| Instant::now().checked_add(wait)))
    }

    /// Ends a hold, or counts one release.
    #[inline]
    fn end(&self, py: Python<'_>, force: bool) -> PyResult<()> {
        let mut state = self.state();
        if !force {
            let ended = state.holds.end(self.whose);
            drop(state);
            return match ended {
                Ended::Last(turn) => turn.release_off(py).or_raise(py),
                Ended::StillHeld | Ended::NotHeld => Ok(()),
            };
        }
        let turns: Vec<_> = std::iter::from_fn(|| state.holds.take(self.whose)).collect();
        drop(state);
        turns.into_iter().map(|turn| turn.release_off(py)).fold(Ok(()), Result::and).or_raise(py)
    }
}

impl Joinable for Py<FileLock> {
    fn joins(&self, waker: &Waker) -> bool {
        let this = self.get();
        if this.whose == Whose::Mine {
            return false;
        }
        let mut state = this.state();
        let is_held = state.holds.of(Whose::Any).is_some_and(|held| held.hold.is_valid());
        if !is_held {
            state.joiners.add(waker);
        }
        is_held
    }

    fn joins_no_more(&self, waker: &Waker) {
        self.get().state().joiners.remove(waker);
    }
}

impl State {
    fn new() -> Self {
        Self { open: None, holds: Holds::new(), joiners: Joiners::default() }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        while let Some(turn) = self.holds.take(Whose::Any) {
            let _ = turn.release();
        }
    }
}

#[pymethods]
impl FileLock {
    #[new]
    #[pyo3(signature = (path, mode, thread_local, table = None))]
    fn new(path: PathBuf, mode: Option<u32>, thread_local: bool, table: Option<PathBuf>) -> PyResult<Self> {
        // As it is meant now, whatever folder the process goes to.
        let path = std::path::absolute(path)?;
        let whose = if thread_local { Whose::Mine } else { Whose::Any };
        let state = PerProcess::new(|| Mutex::new(State::new()));
        Ok(Self { path, mode, whose, table: processes::path(table)?, state })
    }

    /// Acquire the lock, and return what releases it at the end of a `with` block.
    ///
    /// timeout is in seconds; None is the lock's own, and below zero it is for as long as it takes. blocking=False tries
    /// once. cancel_check ends the wait when it returns true. Raises Timeout.
    #[pyo3(signature = (
        timeout = None, poll_interval = None, *, poll_intervall = None, blocking = None, cancel_check = None
    ))]
    fn acquire<'py>(
        slf: &Bound<'py, Self>,
        timeout: Option<Bound<'py, PyAny>>,
        poll_interval: Option<f64>,
        poll_intervall: Option<f64>,
        blocking: Option<Bound<'py, PyAny>>,
        cancel_check: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        if poll_intervall.is_some() {
            let category = py.get_type::<PyDeprecationWarning>();
            PyErr::warn(py, &category, c"use poll_interval instead of poll_intervall", 1)?;
        }
        let seconds: f64 = slf.call_method1("_patience", (timeout, blocking))?.extract()?;
        // Made first: when the lock is held no Python code runs any more.
        let proxy = slf.getattr("_proxy")?.call1((slf,))?;
        let acquired = match cancel_check {
            None => Self::acquire_within(slf, seconds)?,
            Some(is_cancelled) => {
                let slice: f64 = slf.call_method1("_slice", (poll_interval.or(poll_intervall),))?.extract()?;
                let begun = Instant::now();
                loop {
                    let left = (seconds - begun.elapsed().as_secs_f64()).max(0.0);
                    if Self::acquire_within(slf, slice.min(left))? {
                        break true;
                    }
                    if begun.elapsed().as_secs_f64() >= seconds || is_cancelled.call0()?.is_truthy()? {
                        break false;
                    }
                }
            }
        };
        if acquired { Ok(proxy) } else { Err(slf.call_method0("_late").map_or_else(|why| why, PyErr::from_value)) }
    }

    /// Acquires the lock, and says whether it did.
    fn _acquire(slf: &Bound<'_, Self>, seconds: f64) -> PyResult<bool> {
        Self::acquire_within(slf, seconds)
    }

    /// Begins what a task waits for: `None` if it has the lock.
    ///
    /// Else it ends with a turn, with `False` when the time is over, or with `True` when it is to try again.
    fn _begin<'py>(slf: &Bound<'py, Self>, seconds: f64) -> PyResult<Option<Bound<'py, Pending>>> {
        let (py, this) = (slf.py(), slf.get());
        if let Tried::Held = this.try_acquire(py)? {
            return Ok(None);
        }
        let open = this.open(py)?;
        let deadline =
            Duration::try_from_secs_f64(seconds.max(0.0)).ok().and_then(|wait| Instant::now().checked_add(wait));
        let mut future = JoinOrTurn::new(slf.clone().unbind(), &open.key, deadline);
        let pending = Pending::new(move |py, context| {
            let Poll::Ready(came) = Pin::new(&mut future).poll(context) else { return Poll::Pending };
            Poll::Ready(match came {
                Came::Turn(guard) => {
                    let turn = Turn { open: open.clone(), guard: Some(guard) };
                    Bound::new(py, FileTurn(Mutex::new(Some(turn)))).map(|turn| turn.into_any().unbind())
                }
                Came::Failed(error) => Err(error).or_raise(py),
                Came::ToJoin | Came::Late => {
                    Ok(PyBool::new(py, matches!(came, Came::ToJoin)).to_owned().into_any().unbind())
                }
            })
        });
        Bound::new(py, pending).map(Some)
    }

    /// Locks the file for a turn.
    ///
    /// `None` if another program has it; `False` if the turn was for another file.
    fn _enter(&self, py: Python<'_>, turn: &Bound<'_, FileTurn>) -> PyResult<Option<bool>> {
        let Some(taken) = turn.get().take() else { return Ok(Some(false)) };
        let Some(taken) = self.reopened(py, taken)? else { return Ok(Some(false)) };
        Ok(match self.enter(py, taken)? {
            Tried::Held => Some(true),
            Tried::Blocked => Some(false),
            Tried::Busy(again) => {
                *turn.get().0.lock().unwrap_or_else(PoisonError::into_inner) = Some(again);
                None
            }
        })
    }

    /// Release the lock.
    ///
    /// It is free when it was released as often as it was acquired. With force=True it is free. Does nothing if this thread does not hold it.
    #[pyo3(signature = (force = false))]
    fn release(&self, py: Python<'_>, force: bool) -> PyResult<()> {
        self.end(py, force)
    }

    fn __enter__<'py>(slf: Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        if !matches!(slf.get().try_acquire(slf.py())?, Tried::Held) {
            // How long to wait is Python's to say.
            slf.call_method0("acquire")?;
        }
        Ok(slf)
    }

    #[pyo3(signature = (kind, value, traceback, /))]
    fn __exit__(
        &self,
        py: Python<'_>,
        kind: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let _ = (value, traceback);
        let released = self.end(py, false);
        // An exception of the block goes on instead.
        if kind.is_none() { released } else { Ok(()) }
    }

    /// Whether this thread holds it, or any thread if it is not thread-local.
    #[getter]
    fn is_locked(&self) -> bool {
        self.lock_counter() > 0
    }

    /// How often this thread holds it, or any thread if it is not thread-local.
    #[getter]
    fn lock_counter(&self) -> usize {
        self.state().holds.count(self.whose)
    }

    /// Whether the last process that held it was killed while it did.
    ///
    /// False while this object does not hold it. Of a process that locks the file without this package nothing is known.
    #[getter]
    fn previous_holder_died(&self) -> bool {
        let state = self.state();
        let guard = state.holds.of(Whose::Any).and_then(|held| held.hold.guard.as_ref());
        guard.is_some_and(OwnedSharedLockGuard::previous_holder_died)
    }
}
