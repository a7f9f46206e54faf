//! The command line.

use keylatch::Fairness;
use std::str::FromStr;
use std::time::Duration;

pub(crate) const HELP: &str = "\
soak: a lock manager under load and faults, watched

usage: soak [OPTIONS]

options:
  --minutes N     how long, from 0.01 to 100000 (default 1); each fault comes at least once, however short
  --seed S        what is done by whom, as a number (default: another one each time)
  --threads N     threads of ordinary load, from 1 to 256 (default 4)
  --fairness F    eventual, fifo, writer-first or reader-first (default eventual)
  --sabotage      write without a lock now and then, to see that it is noticed
  --help          this text

It ends with 0 if nothing was violated, with 1 if something was, and with 2 if the options make no sense.";

/// What the program is to do.
#[derive(Debug)]
pub(crate) enum Command {
    Help,
    Run(Options),
}

#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) duration: Duration,
    pub(crate) seed: u64,
    pub(crate) threads: u32,
    pub(crate) fairness: Fairness,
    pub(crate) sabotage: bool,
}

/// Reads the words after the program's name, or says what is wrong with them.
pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Result<Command, String> {
    let mut words = words.into_iter();
    let seed = u64::from(std::process::id()) ^ crate::random::unpredictable();
    let mut options =
        Options { duration: Duration::from_secs(60), seed, threads: 4, fairness: Fairness::default(), sabotage: false };
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
            "--minutes" => {
                options.duration = Duration::from_secs_f64(60.0 * number(&name, &value()?, 0.01, 100_000.0)?)
            }
            "--seed" => options.seed = number(&name, &value()?, 0, u64::MAX)?,
            "--threads" => options.threads = number(&name, &value()?, 1, 256)?,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Command, String> {
        parse(words.iter().map(|word| (*word).to_owned()))
    }

    #[test]
    fn good_words_are_understood() {
        let Ok(Command::Run(options)) = parsed(&["--minutes", "0.2", "--seed=7", "--fairness", "fifo"]) else {
            panic!("these are fine")
        };
        assert_eq!((options.duration, options.seed), (Duration::from_secs(12), 7));
        assert_eq!(options.fairness, Fairness::Fifo);
        assert!(matches!(parsed(&["--help"]), Ok(Command::Help)));
    }

    #[test]
    fn others_are_refused() {
        for words in [
            &["--minutes"][..],
            &["--minutes", "0"],
            &["--minutes", "NaN"],
            &["--minutes", "inf"],
            &["--seed", "-1"],
            &["--threads", "0"],
            &["--fairness", "none"],
            &["--help=1"],
            &["soak"],
        ] {
            assert!(parsed(words).is_err(), "{words:?}");
        }
    }
}
