//! The command line.

use std::path::PathBuf;

use crate::scenarios::{self, SCENARIOS};

pub(crate) const HELP: &str = "\
keylatch-bench: side-by-side measurements of keylatch and its peers

usage: keylatch-bench [OPTIONS]                times, allocations and memory (about five minutes)
       keylatch-bench instructions [OPTIONS]   instructions a pair, counted by valgrind's callgrind
       keylatch-bench c --library PATH         a pair through the C library, beside Rust and C peers (make bench-c)
       keylatch-bench atomics [OPTIONS]        locked read-modify-writes a pair, executed ones, by callgrind and objdump
       keylatch-bench scale [--json PATH]      1,000 to 8,000,000 locks, threads, waiters, long keys (make bench-scale)
       keylatch-bench readers [--json PATH]    readers of one key, with slots and without (make bench-readers)

options:
  --quick              under a minute: shorter slices, fewer peers
  --only A,B           only these scenarios (may be repeated)
  --subjects A,B       only these subjects (may be repeated)
  --json PATH          where the JSON goes (target/bench/full.json, quick.json, c.json, scale.json, readers.json, instructions.json or atomics.json)
  --list               names of scenarios and subjects, and who does what
  --help               this text

Every time is also given as a multiple of the unit: one uncontended compare-and-swap and one release on a hot cache line,
measured in the same run. Progress goes to standard error, the table to standard output.";

/// What the program is to do.
#[derive(Debug, PartialEq)]
pub(crate) enum Command {
    Help,
    List,
    Measure(Options),
    Instructions(Options),
    Atomics(Options),
    C(Options),
    Scale(Options),
    Readers(Options),
    /// A process started by this program itself, with the words that say what for.
    Child(Vec<String>),
}

/// What is measured and where it goes.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Options {
    pub(crate) quick: bool,
    /// Empty: all.
    pub(crate) scenarios: Vec<String>,
    /// Empty: all, or the quick selection.
    pub(crate) subjects: Vec<String>,
    pub(crate) json: Option<PathBuf>,
    /// The pairs in C, for `c`.
    pub(crate) library: Option<PathBuf>,
}

impl Options {
    pub(crate) fn wants_subject(&self, name: &str) -> bool {
        if self.subjects.is_empty() {
            !self.quick || name == "key_strings" || crate::subjects::QUICK.contains(&name)
        } else {
            self.subjects.iter().any(|wanted| wanted == name)
        }
    }

    pub(crate) fn wants_scenario(&self, name: &str) -> bool {
        self.scenarios.is_empty() || self.scenarios.iter().any(|wanted| wanted == name)
    }
}

/// Every subject that takes part in some scenario of this build.
pub(crate) fn subject_names() -> Vec<&'static str> {
    let mut names: Vec<&'static str> = Vec::new();
    for scenario in SCENARIOS {
        for contender in (scenario.contenders)() {
            if !names.contains(&contender.name) {
                names.push(contender.name);
            }
        }
    }
    names
}

/// Reads the words after the program's name, or says what is wrong with them.
pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Result<Command, String> {
    let mut words = words.into_iter().peekable();
    let command: fn(Options) -> Command = match words.peek().map(String::as_str) {
        Some("child") => return Ok(Command::Child(words.skip(1).collect())),
        Some("instructions") => Command::Instructions,
        Some("atomics") => Command::Atomics,
        Some("c") => Command::C,
        Some("scale") => Command::Scale,
        Some("readers") => Command::Readers,
        _ => Command::Measure,
    };
    let counting =
        words.next_if(|word| ["instructions", "atomics", "c", "scale", "readers"].contains(&&**word)).is_some();
    let mut options = Options::default();
    while let Some(word) = words.next() {
        let (name, attached) = match word.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (word, None),
        };
        let mut value = |what: &str| {
            attached
                .clone()
                .or_else(|| words.next_if(|next| !next.starts_with("--")))
                .filter(|value| !value.is_empty())
                .ok_or_else(|| format!("{name} needs {what}"))
        };
        match name.as_str() {
            "--help" | "-h" => return Ok(Command::Help),
            "--list" => return Ok(Command::List),
            "--quick" => options.quick = true,
            "--json" => options.json = Some(value("a path")?.into()),
            "--library" => options.library = Some(value("a path")?.into()),
            "--only" if counting => {
                return Err("--only does not go with instructions, atomics, c, scale and readers".into());
            }
            "--only" => {
                for wanted in value("the name of a scenario")?.split(',') {
                    if scenarios::named(wanted).is_none() {
                        return Err(format!("there is no scenario {wanted:?}; --list shows them"));
                    }
                    options.scenarios.push(wanted.to_owned());
                }
            }
            "--subjects" => {
                for wanted in value("names of subjects")?.split(',') {
                    if !subject_names().contains(&wanted) {
                        return Err(format!("there is no subject {wanted:?} in this build; --list shows them"));
                    }
                    options.subjects.push(wanted.to_owned());
                }
            }
            _ => return Err(format!("{name:?} is not understood; --help shows what is")),
        }
        if attached.is_some() && matches!(name.as_str(), "--quick") {
            return Err(format!("{name} takes no value"));
        }
    }
    Ok(command(options))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Command, String> {
        parse(text.split_whitespace().map(String::from))
    }

    #[test]
    fn options_are_understood() {
        let Ok(Command::Measure(options)) = parsed("--quick --only keys_1m,handoff --subjects=std --json a/b.json")
        else {
            panic!("this is a valid command line");
        };
        assert!(options.quick);
        assert!(options.wants_scenario("handoff") && !options.wants_scenario("create"));
        assert!(options.wants_subject("std") && !options.wants_subject("saa"));
        assert_eq!(options.json, Some("a/b.json".into()));
        assert_eq!(parsed("atomics"), Ok(Command::Atomics(Options::default())));
        assert_eq!(parsed("scale"), Ok(Command::Scale(Options::default())));
        assert_eq!(parsed("readers"), Ok(Command::Readers(Options::default())));
        let library = Some("a.so".into());
        assert_eq!(parsed("c --library a.so"), Ok(Command::C(Options { library, ..Options::default() })));
        assert_eq!(parsed("--list"), Ok(Command::List));
        assert_eq!(parsed("instructions --help"), Ok(Command::Help));
    }

    #[test]
    fn bad_options_are_named() {
        for (text, part) in [
            ("--only nowhere", "no scenario \"nowhere\""),
            ("--subjects missing", "no subject \"missing\""),
            ("--only", "needs the name of a scenario"),
            ("--only --quick", "needs the name of a scenario"),
            ("--json", "needs a path"),
            ("--quick=yes", "takes no value"),
            ("quick", "is not understood"),
            ("atomics --only keys_1m", "does not go with"),
            ("scale --only keys_1m", "does not go with"),
        ] {
            let problem = parsed(text).expect_err(text);
            assert!(problem.contains(part), "{text}: {problem}");
        }
    }
}
