//! The lock of a file: what `keylatch.filelock.FileLock` is made of.
//!
//! A hold is the file's key in the table, and then the lock of the file itself, which `lock_file` keeps for the next time.

use crate::fork::Process;
use crate::pending::Pending;
use crate::shared::failure::OrRaise;
use crate::shared::open_files::{self, OpenFile, os_error};
use crate::shared::thread::this_thread;
use crate::shared::{processes, wait};
use keylatch::Mode;
use keylatch_shm::{Entered, OwnedSharedLockGuard};
use pyo3::prelude::*;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

/// What `keylatch.filelock.FileLock` is made of.
#[pyclass(frozen, subclass, weakref, name = "FileLock", module = "keylatch._keylatch")]
pub(crate) struct FileLock {
    path: PathBuf,
    mode: Option<u32>,
    /// Whether each thread has the lock for itself, or all threads have it together.
    thread_local: bool,
    table: PathBuf,
    state: Mutex<State>,
}

/// What this process has of it.
struct State {
    process: Process,
    open: Option<OpenFile>,
    hold: Option<Hold>,
}

struct Hold {
    turn: Turn,
    thread: usize,
    depth: usize,
}

/// The file's key, held, and the file.
///
/// Dropping it gives the key back as if none had had it.
struct Turn {
    open: OpenFile,
    guard: Option<OwnedSharedLockGuard>,
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
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
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
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.process.is_forked() {
            // What the parent of a forked child had it has still.
            std::mem::forget(std::mem::replace(&mut *state, State::new()));
        }
        state
    }

    /// Counts another hold of the thread that has the lock.
    #[inline]
    fn again(&self, state: &mut State) -> bool {
        match &mut state.hold {
            Some(hold) if !self.thread_local || hold.thread == this_thread() => {
                hold.depth += 1;
                true
            }
            _ => false,
        }
    }

    /// Takes the lock if it is free and the file is open.
    #[inline]
    fn try_acquire(&self, py: Python<'_>) -> PyResult<Tried> {
        let mut state = self.state();
        if self.again(&mut state) {
            return Ok(Tried::Held);
        }
        let Some(open) = state.open.clone() else { return Ok(Tried::Blocked) };
        let Some(guard) = open.key.try_acquire(Mode::Exclusive, "").or_raise(py)? else { return Ok(Tried::Blocked) };
        drop(state);
        self.enter(py, Turn { open, guard: Some(guard) })
    }

    /// Locks the file for a turn that has come.
    fn enter(&self, py: Python<'_>, turn: Turn) -> PyResult<Tried> {
        match turn.open.file.enter().map_err(|error| os_error(py, &self.path, &error))? {
            Entered::Yes => {
                let mut state = self.state();
                if turn.open.file.is_shared() {
                    state.open = Some(turn.open.clone());
                }
                state.hold = Some(Hold { turn, thread: this_thread(), depth: 1 });
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
    fn wait(&self, py: Python<'_>, patience: Option<Option<Instant>>) -> PyResult<bool> {
        loop {
            let open = self.open(py)?;
            let guard = match patience {
                Some(deadline) => wait::acquire(py, &open.key, Mode::Exclusive, "", deadline)?,
                None => open.key.try_acquire(Mode::Exclusive, "").or_raise(py)?,
            };
            let Some(guard) = guard else { return Ok(false) };
            let mut next = Some(Turn { open, guard: Some(guard) });
            let mut pause = Duration::from_millis(1);
            while let Some(turn) = next.take() {
                match self.enter(py, turn)? {
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
                        next = self.reopened(py, turn)?;
                    }
                }
            }
            py.check_signals()?;
        }
    }

    /// Ends the hold of the calling thread, or one of several.
    #[inline]
    fn end(&self, py: Python<'_>, force: bool) -> PyResult<()> {
        let mut state = self.state();
        let Some(hold) = &mut state.hold else { return Ok(()) };
        if self.thread_local && hold.thread != this_thread() {
            return Ok(());
        }
        hold.depth -= 1;
        if hold.depth > 0 && !force {
            return Ok(());
        }
        let hold = state.hold.take();
        drop(state);
        hold.map_or(Ok(()), Hold::release).or_raise(py)
    }
}

impl Hold {
    #[inline]
    fn release(mut self) -> Result<(), keylatch_shm::ShmError> {
        // The file first: the next holder of the key finds it as it is kept.
        self.turn.open.file.leave();
        self.turn.guard.take().map_or(Ok(()), OwnedSharedLockGuard::try_release)
    }
}

impl State {
    fn new() -> Self {
        Self { process: Process::this(), open: None, hold: None }
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let state = std::mem::replace(state, State::new());
        if state.process.is_forked() {
            std::mem::forget(state);
        } else if let Some(hold) = state.hold {
            let _ = hold.release();
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
        let table = table.unwrap_or_else(processes::default_path);
        Ok(Self { path, mode, thread_local, table, state: Mutex::new(State::new()) })
    }

    /// Acquires the lock, and says whether it did.
    ///
    /// Without a time it tries once; infinity is for as long as it takes.
    fn _acquire(&self, py: Python<'_>, seconds: f64) -> PyResult<bool> {
        if let Tried::Held = self.try_acquire(py)? {
            return Ok(true);
        }
        let wait = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX);
        self.wait(py, (!wait.is_zero()).then(|| Instant::now().checked_add(wait)))
    }

    /// Begins what a task waits for: `None` if it has the lock.
    ///
    /// Else it ends with a turn, or with `None` when the time is over.
    fn _begin<'py>(&self, py: Python<'py>, seconds: f64) -> PyResult<Option<Bound<'py, Pending>>> {
        if let Tried::Held = self.try_acquire(py)? {
            return Ok(None);
        }
        let open = self.open(py)?;
        let deadline =
            Duration::try_from_secs_f64(seconds.max(0.0)).ok().and_then(|wait| Instant::now().checked_add(wait));
        let mut future = open.key.acquire_until(Mode::Exclusive, "", deadline);
        let pending = Pending::new(move |py, context| {
            let Poll::Ready(held) = Pin::new(&mut future).poll(context) else { return Poll::Pending };
            Poll::Ready(held.or_raise(py).and_then(|held| match held {
                Some(guard) => {
                    let turn = Turn { open: open.clone(), guard: Some(guard) };
                    Ok(Bound::new(py, FileTurn(Mutex::new(Some(turn))))?.into_any().unbind())
                }
                None => Ok(py.None()),
            }))
        });
        Bound::new(py, pending).map(Some)
    }

    /// Locks the file for a turn.
    ///
    /// `None` if another program has it; `False` if the turn was for another file.
    fn _enter(&self, py: Python<'_>, turn: &Bound<'_, FileTurn>) -> PyResult<Option<bool>> {
        let mut place = turn.get().0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(taken) = place.take() else { return Ok(Some(false)) };
        let Some(taken) = self.reopened(py, taken)? else { return Ok(Some(false)) };
        Ok(match self.enter(py, taken)? {
            Tried::Held => Some(true),
            Tried::Blocked => Some(false),
            Tried::Busy(again) => {
                *place = Some(again);
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
        let here = this_thread();
        let state = self.state();
        state.hold.as_ref().filter(|hold| !self.thread_local || hold.thread == here).map_or(0, |hold| hold.depth)
    }

    /// Whether the last process that held it was killed while it did.
    ///
    /// False while this object does not hold it. Of a process that locks the file without this package nothing is known.
    #[getter]
    fn previous_holder_died(&self) -> bool {
        let state = self.state();
        let guard = state.hold.as_ref().and_then(|hold| hold.turn.guard.as_ref());
        guard.is_some_and(OwnedSharedLockGuard::previous_holder_died)
    }
}
