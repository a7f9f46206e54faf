//! The command line.

use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

pub(crate) const HELP: &str = "\
node_registry: one registry of nodes that heartbeats update and jobs select from, before and after

usage: node_registry [OPTIONS]

500 nodes report every 15 s (divided by --scale), and jobs select a node 2,000 times a second, in open loop: latency
counts from the moment at which a selection was due. After each heartbeat the snapshot that jobs select from is brought
up to date, and the node is assigned to a pool, for which a remote store is asked seven times (lognormal, median 20 ms,
p99 400 ms).

  before   one tokio RwLock around the registry, one around the snapshot, look-ups while a read lock is held
  after    keylatch-typed: a Snapshot for those who select, a lock a node, one read, look-ups without any lock, updates
           deferred and applied together, timeouts that fall back to the last snapshot
  floor    no registry: the same requests, answered without doing anything, which is what the machine takes

options:
  --seconds S      how long each of the three runs, from 1 to 3600 (default 15)
  --nodes N        nodes, from 8 to 100000 (default 500)
  --selections N   selections a second, from 1 to 100000 (default 2000)
  --scale X        how much faster than once in 15 s each node reports, from 0.1 to 1000 (default 3)
  --redis          look up in a real redis-server, started here on loopback, behind the same simulated network
  --redis-server P the program to start (default: redis-server, or REDIS_SERVER)
  --only R         before or after instead of both, beside the floor
  --svg FILE       where the plot goes (default target/registry/latency.svg)
  --seed N         another course of events (default 1)
  --lenient        end with 0 whatever was measured
  --help           this text

It ends with 0 if before shows its symptom (waits for a lock above 1 s) and after meets its goals, with 1 if not, and
with 2 if the options make no sense or redis-server does not start.";

/// What the program is to do.
#[derive(Debug)]
pub(crate) enum Command {
    Help,
    Run(Options),
}

/// Which registries run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Only {
    Both,
    Before,
    After,
}

/// How the workload runs.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) duration: Duration,
    pub(crate) nodes: usize,
    pub(crate) selections_per_second: u32,
    pub(crate) scale: f64,
    /// The program to start for look-ups.
    pub(crate) redis: Option<String>,
    pub(crate) only: Only,
    pub(crate) svg: PathBuf,
    pub(crate) seed: u64,
    pub(crate) lenient: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            nodes: 500,
            selections_per_second: 2000,
            scale: 3.0,
            redis: None,
            only: Only::Both,
            svg: PathBuf::from("target/registry/latency.svg"),
            seed: 1,
            lenient: false,
        }
    }
}

impl Options {
    /// Returns the time between two heartbeats of a node.
    pub(crate) fn period(&self) -> Duration {
        Duration::from_secs_f64(15.0 / self.scale)
    }

    /// Returns the time between two heartbeats of any node.
    pub(crate) fn heartbeat_gap(&self) -> Duration {
        self.period() / self.nodes as u32
    }

    pub(crate) fn selection_gap(&self) -> Duration {
        Duration::from_secs(1) / self.selections_per_second
    }
}

/// Parses the words after the program's name, or says what is wrong with them.
pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Result<Command, String> {
    let mut words = words.into_iter();
    let mut options = Options::default();
    let (mut redis, mut program) = (false, std::env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".into()));
    while let Some(word) = words.next() {
        let (name, attached) = match word.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (word, None),
        };
        let mut value = || attached.clone().or_else(|| words.next()).ok_or_else(|| format!("{name} needs a value"));
        match name.as_str() {
            "--help" | "-h" => return Ok(Command::Help),
            "--redis" | "--lenient" if attached.is_some() => return Err(format!("{name} takes no value")),
            "--redis" => redis = true,
            "--lenient" => options.lenient = true,
            "--redis-server" => (redis, program) = (true, value()?),
            "--seconds" => options.duration = Duration::from_secs_f64(number(&name, &value()?, 1.0, 3600.0)?),
            "--nodes" => options.nodes = number(&name, &value()?, 8, 100_000)?,
            "--selections" => options.selections_per_second = number(&name, &value()?, 1, 100_000)?,
            "--scale" => options.scale = number(&name, &value()?, 0.1, 1000.0)?,
            "--seed" => options.seed = number(&name, &value()?, 0, u64::MAX)?,
            "--svg" => options.svg = value()?.into(),
            "--only" => {
                options.only = match value()?.as_str() {
                    "before" => Only::Before,
                    "after" => Only::After,
                    other => return Err(format!("--only takes before or after, not {other:?}")),
                }
            }
            _ => return Err(format!("{name:?} is not understood")),
        }
    }
    options.redis = redis.then_some(program);
    Ok(Command::Run(options))
}

fn number<T: FromStr + PartialOrd + Display>(name: &str, text: &str, least: T, most: T) -> Result<T, String> {
    match text.parse() {
        Ok(value) if value >= least && value <= most => Ok(value),
        _ => Err(format!("{name} takes a number from {least} to {most}, not {text:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Options, String> {
        match parse(line.split_whitespace().map(str::to_owned))? {
            Command::Run(options) => Ok(options),
            Command::Help => Err("help".to_owned()),
        }
    }

    #[test]
    fn defaults_are_those_of_the_help() {
        let options = parsed("").unwrap();
        assert_eq!((options.nodes, options.selections_per_second, options.redis.is_some()), (500, 2000, false));
        assert_eq!(options.period(), Duration::from_secs(5));
        assert_eq!(options.heartbeat_gap(), Duration::from_millis(10));
        assert_eq!(options.selection_gap(), Duration::from_micros(500));
    }

    #[test]
    fn words_are_understood_in_both_forms() {
        let options = parsed("--seconds=2 --nodes 8 --only after --redis-server /bin/x --lenient --scale 1.5").unwrap();
        assert_eq!((options.duration, options.nodes, options.only), (Duration::from_secs(2), 8, Only::After));
        assert_eq!((options.redis.as_deref(), options.lenient), (Some("/bin/x"), true));
        assert_eq!(options.period(), Duration::from_secs(10));
    }

    #[test]
    fn nonsense_is_refused_with_advice() {
        for (line, says) in [
            ("--seconds 0", "from 1 to 3600"),
            ("--seconds", "needs a value"),
            ("--nodes many", "not \"many\""),
            ("--scale NaN", "from 0.1"),
            ("--only neither", "before or after"),
            ("--redis=yes", "takes no value"),
            ("--frobnicate", "not understood"),
            ("--help", "help"),
        ] {
            let refused = parsed(line).unwrap_err();
            assert!(refused.contains(says), "{line}: {refused}");
        }
    }
}
