//! What has to outlive the server: the epoch, the highest fence, the longest promise.
//!
//! Each value is raised on disk before it is used, in steps, so that no request waits for the disk in the ordinary case.
//! A file that cannot be read stops the server: guessing could give out a fence for a second time.

use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::machine::Start;

/// Fences that one write makes safe.
const RANGE: u64 = 1 << 20;
/// Numbers above this are not exact in every JSON reader.
const MOST_FENCES: u64 = 1 << 53;

/// The file's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    /// Of this layout; there is one so far.
    format: u32,
    epoch: u64,
    /// Every fence that was given out is lower.
    fence: u64,
    /// No client was promised more than this.
    promise_ms: u64,
    /// Whether the last server stopped with every lock free.
    clean: bool,
}

/// Why the marks cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum MarksError {
    /// The disk says no.
    Io(PathBuf, io::Error),
    /// Another server has them.
    InUse(PathBuf),
    /// The file is not what a server wrote.
    Damaged(PathBuf, String),
}

impl std::fmt::Display for MarksError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(path, error) => write!(f, "{}: {error}; give a writable path with --state", path.display()),
            Self::InUse(path) => {
                write!(f, "{}: another server uses this file; give each server its own with --state", path.display())
            }
            Self::Damaged(path, problem) => write!(
                f,
                "{}: {problem}; restore the file from a copy, or set its \"fence\" above every fence that your stores \
                 have seen",
                path.display()
            ),
        }
    }
}

impl std::error::Error for MarksError {}

/// The marks of a running server.
#[derive(Debug)]
pub struct Marks {
    content: Content,
    /// `None` for a server that keeps nothing.
    file: Option<Place>,
}

#[derive(Debug)]
struct Place {
    path: PathBuf,
    /// Held while the server runs.
    _lock: File,
}

impl Marks {
    /// Opens the marks in a file, or makes them, and begins a new epoch.
    ///
    /// # Errors
    /// [`MarksError`].
    pub fn open(path: &Path) -> Result<(Self, Start), MarksError> {
        let io = |error| MarksError::Io(path.to_owned(), error);
        let lock_path = beside(path, "lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path).map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(MarksError::InUse(path.to_owned())),
            Err(std::fs::TryLockError::Error(error)) => return Err(io(error)),
        }
        let before = read(path)?;
        // After a crash the promise stays as it was: the next crash may come within the same quiet period.
        let promise_ms = if before.clean { 0 } else { before.promise_ms };
        let content = Content {
            epoch: before.epoch + 1,
            fence: before.fence + RANGE,
            promise_ms,
            clean: false,
            ..before.clone()
        };
        let marks = Self { content, file: Some(Place { path: path.to_owned(), _lock: lock }) };
        marks.write().map_err(io)?;
        let quiet = Duration::from_millis(promise_ms);
        let start = Start { epoch: marks.content.epoch, fences: before.fence..marks.content.fence, quiet };
        Ok((marks, start))
    }

    /// Marks that are kept in memory only.
    ///
    /// Epoch and fences then rest on the wall clock.
    #[must_use]
    pub fn in_memory() -> (Self, Start) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::from_secs(1));
        let fence = (since.as_micros() as u64).min(MOST_FENCES / 2);
        let epoch = since.as_millis() as u64;
        let content = Content { format: 1, epoch, fence: fence + RANGE, promise_ms: 0, clean: false };
        (Self { content, file: None }, Start { epoch, fences: fence..fence + RANGE, quiet: Duration::ZERO })
    }

    /// Makes another range of fences safe.
    ///
    /// # Errors
    /// What the disk says. The range is not to be used then.
    pub fn raise_fences(&mut self) -> io::Result<Range<u64>> {
        let range = self.content.fence..self.content.fence + RANGE;
        self.change(Content { fence: range.end, ..self.content.clone() })?;
        Ok(range)
    }

    /// Makes a promise of this length safe.
    ///
    /// A crash is followed by as long a time without grants, so the mark is close.
    ///
    /// # Errors
    /// What the disk says. The promise is not to be made then.
    pub fn raise_promise(&mut self, promise: Duration) -> io::Result<Duration> {
        let promise_ms = promise.as_millis() as u64;
        if promise_ms > self.content.promise_ms {
            self.change(Content { promise_ms, ..self.content.clone() })?;
        }
        Ok(Duration::from_millis(self.content.promise_ms))
    }

    /// Notes that every lock is free and no more will be granted.
    ///
    /// # Errors
    /// What the disk says. The next start then waits as after a crash.
    pub fn stop_clean(&mut self) -> io::Result<()> {
        self.change(Content { clean: true, ..self.content.clone() })
    }

    fn change(&mut self, content: Content) -> io::Result<()> {
        let before = std::mem::replace(&mut self.content, content);
        let written = self.write();
        if written.is_err() {
            self.content = before;
        }
        written
    }

    /// Replaces the file in one step, and waits for the disk.
    fn write(&self) -> io::Result<()> {
        let Some(place) = &self.file else { return Ok(()) };
        let next = beside(&place.path, "next");
        let mut file = File::create(&next)?;
        file.write_all(serde_json::to_string_pretty(&self.content)?.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        std::fs::rename(&next, &place.path)?;
        let folder = place.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

fn read(path: &Path) -> Result<Content, MarksError> {
    let mut text = String::new();
    match File::open(path) {
        Ok(mut file) => file.read_to_string(&mut text).map_err(|error| MarksError::Io(path.to_owned(), error))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Content { format: 1, epoch: 0, fence: 1, promise_ms: 0, clean: true });
        }
        Err(error) => return Err(MarksError::Io(path.to_owned(), error)),
    };
    let damaged = |problem: String| MarksError::Damaged(path.to_owned(), problem);
    let content: Content = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
    match content {
        Content { format, .. } if format != 1 => Err(damaged(format!("its format is {format}, this version reads 1"))),
        Content { fence, .. } if fence == 0 || fence >= MOST_FENCES => {
            Err(damaged(format!("its fence is {fence}, which no server reaches")))
        }
        content => Ok(content),
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("keylatch-marks-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn each_start_has_a_new_epoch_and_higher_fences() {
        let folder = folder("starts");
        let path = folder.join("state");
        let mut highest = 0;
        for epoch in 1..=4 {
            let (mut marks, start) = Marks::open(&path).unwrap();
            assert_eq!(start.epoch, epoch);
            assert!(start.fences.start > highest);
            highest = start.fences.end - 1;
            // Those of the start are safe, whether or not it raises them later.
            if epoch % 2 == 0 {
                assert_eq!(start.fences.end, marks.raise_fences().unwrap().start);
                highest = marks.content.fence - 1;
            }
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn only_a_crash_leaves_a_quiet_period() {
        let folder = folder("quiet");
        let path = folder.join("state");
        let (mut marks, start) = Marks::open(&path).unwrap();
        assert_eq!(start.quiet, Duration::ZERO);
        assert_eq!(marks.raise_promise(Duration::from_secs(7)).unwrap(), Duration::from_secs(7));
        assert_eq!(marks.raise_promise(Duration::from_secs(3)).unwrap(), Duration::from_secs(7));
        drop(marks);
        let (marks, start) = Marks::open(&path).unwrap();
        assert_eq!(start.quiet, Duration::from_secs(7));
        drop(marks);
        let (mut marks, start) = Marks::open(&path).unwrap();
        assert_eq!(start.quiet, Duration::from_secs(7), "a second crash within the quiet period");
        marks.stop_clean().unwrap();
        drop(marks);
        assert_eq!(Marks::open(&path).unwrap().1.quiet, Duration::ZERO);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn second_server_and_damaged_file_are_refused() {
        let folder = folder("refused");
        let path = folder.join("state");
        let first = Marks::open(&path).unwrap();
        assert!(matches!(Marks::open(&path), Err(MarksError::InUse(_))));
        drop(first);
        for wrong in ["", "{}", "{\"format\":2,\"epoch\":1,\"fence\":1,\"promise_ms\":0,\"clean\":true}"] {
            std::fs::write(&path, wrong).unwrap();
            let error = Marks::open(&path).unwrap_err();
            assert!(matches!(error, MarksError::Damaged(..)), "{wrong}: {error}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
