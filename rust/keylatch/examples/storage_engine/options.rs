//! The command line.

use keylatch::{Fairness, LockConfig};
use std::str::FromStr;
use std::time::Duration;

pub(crate) const HELP: &str = "\
storage_engine: a storage engine's locking at full speed, checking itself

usage: storage_engine [OPTIONS]

options:
  --seconds S     how long, from 0.1 to 86400 (default 5)
  --threads N     threads that read, write and delete, from 1 to 1024 (default: two a core, at least 4)
  --objects N     objects in the bucket, from 16 to 1000000 (default 10000)
  --fairness F    eventual, fifo, writer-first or reader-first (default eventual)
  --shards N      parts of the lock table, a power of two from 1 to 65536 (default 1024)
  --sabotage      make one write in a thousand without its lock, to see that the check notices
  --help          this text

It ends with 0 if no two holders ever met that must not and nothing stayed locked, with 1 if not, and with 2 if the
options make no sense.";

/// What the program is to do.
#[derive(Debug)]
pub(crate) enum Command {
    Help,
    Run(Options),
}

/// How the workload runs.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) duration: Duration,
    pub(crate) threads: u32,
    pub(crate) objects: u32,
    pub(crate) fairness: Fairness,
    pub(crate) shards: u32,
    pub(crate) sabotage: bool,
}

impl Default for Options {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            duration: Duration::from_secs(5),
            threads: u32::try_from(2 * cores).unwrap_or(1024).clamp(4, 1024),
            objects: 10_000,
            fairness: Fairness::default(),
            shards: LockConfig::default().shards,
            sabotage: false,
        }
    }
}

impl Options {
    /// Returns what the lock manager is asked to be; it judges the values itself.
    pub(crate) fn lock_config(&self) -> LockConfig {
        LockConfig { shards: self.shards, fairness: self.fairness, ..LockConfig::default() }
    }

    pub(crate) fn fairness_name(&self) -> &'static str {
        match self.fairness {
            Fairness::Eventual { .. } => "eventual",
            Fairness::Fifo => "fifo",
            Fairness::WriterFirst => "writer-first",
            Fairness::ReaderFirst => "reader-first",
        }
    }
}

/// Reads the words after the program's name, or says what is wrong with them.
pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Result<Command, String> {
    let mut words = words.into_iter();
    let mut options = Options::default();
    while let Some(word) = words.next() {
        let (name, attached) = match word.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (word, None),
        };
        if matches!(name.as_str(), "--help" | "-h" | "--sabotage") && attached.is_some() {
            return Err(format!("{name} takes no value"));
        }
        let mut value = || attached.clone().or_else(|| words.next()).ok_or_else(|| format!("{name} needs a value"));
        match name.as_str() {
            "--help" | "-h" => return Ok(Command::Help),
            "--sabotage" => options.sabotage = true,
            "--seconds" => options.duration = Duration::from_secs_f64(number(&name, &value()?, 0.1, 86_400.0)?),
            "--threads" => options.threads = number(&name, &value()?, 1, 1024)?,
            "--objects" => options.objects = number(&name, &value()?, 16, 1_000_000)?,
            "--shards" => options.shards = number(&name, &value()?, 1, 65_536)?,
            "--fairness" => options.fairness = fairness(&value()?)?,
            _ => return Err(format!("{name:?} is not understood")),
        }
    }
    Ok(Command::Run(options))
}

fn number<T: FromStr + PartialOrd + std::fmt::Display>(name: &str, text: &str, least: T, most: T) -> Result<T, String> {
    match text.parse() {
        Ok(value) if value >= least && value <= most => Ok(value),
        _ => Err(format!("{name} takes a number from {least} to {most}, not {text:?}")),
    }
}

fn fairness(name: &str) -> Result<Fairness, String> {
    match name {
        "eventual" => Ok(Fairness::default()),
        "fifo" => Ok(Fairness::Fifo),
        "writer-first" => Ok(Fairness::WriterFirst),
        "reader-first" => Ok(Fairness::ReaderFirst),
        _ => Err(format!("--fairness takes eventual, fifo, writer-first or reader-first, not {name:?}")),
    }
}
