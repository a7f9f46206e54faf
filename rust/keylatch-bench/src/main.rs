//! `keylatch-bench`: keylatch beside its peers, in one run, on this machine.
//!
//! ```text
//! cargo run --release -p keylatch-bench -- --quick
//! cargo run --release -p keylatch-bench --features rustfs --ignore-rust-version
//! ```
//!
//! How to read the code: [`subject`] says what can be measured and `subjects/` has one file for each family of
//! them; [`slices`] and [`two_threads`] are the two ways of measuring; `scenarios/` puts subjects through them;
//! [`goals`] and `report/` tell what came out. `inspection/` counts instructions and atomics instead of time.
//! `c` measures the C library, `scale` how figures change with sizes, `readers` the readers of one key, and `beside` is
//! asked by another language's bench.

#![allow(clippy::print_stdout)]

mod allocations;
mod arguments;
#[cfg(feature = "keylatch")]
mod beside;
#[cfg(feature = "keylatch")]
mod c;
mod goals;
mod inspection;
mod keys;
mod machine;
mod polling;
#[cfg(feature = "keylatch")]
mod readers;
mod report;
mod row;
#[cfg(feature = "keylatch")]
mod scale;
mod scenarios;
mod slices;
mod subject;
mod subjects;
mod two_threads;
mod unit;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Instant;

use arguments::{Command, HELP, Options};
use report::{json, table};
use row::Row;
use scenarios::SCENARIOS;
use slices::Pace;

fn main() -> ExitCode {
    let done = match arguments::parse(std::env::args().skip(1)) {
        Ok(Command::Help) => {
            println!("{HELP}");
            Ok(())
        }
        Ok(Command::List) => {
            list();
            Ok(())
        }
        Ok(Command::Measure(options)) => measure(&options),
        Ok(Command::Instructions(options)) => inspection::instructions(&options),
        Ok(Command::Atomics(options)) => inspection::atomics(&options),
        #[cfg(feature = "keylatch")]
        Ok(Command::C(options)) => c::measure(&options),
        #[cfg(not(feature = "keylatch"))]
        Ok(Command::C(_)) => Err("this build measures the peers alone".into()),
        #[cfg(feature = "keylatch")]
        Ok(Command::Scale(options)) => scale::run(&options),
        #[cfg(not(feature = "keylatch"))]
        Ok(Command::Scale(_)) => Err("this build measures the peers alone".into()),
        #[cfg(feature = "keylatch")]
        Ok(Command::Readers(options)) => readers::measure(&options),
        #[cfg(not(feature = "keylatch"))]
        Ok(Command::Readers(_)) => Err("this build measures the peers alone".into()),
        Ok(Command::Child(words)) => child(&words),
        Err(problem) => {
            eprintln!("keylatch-bench: {problem}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("keylatch-bench: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn list() {
    for scenario in SCENARIOS {
        println!("{}\n    {}", scenario.name, scenario.says);
        let names: Vec<_> = (scenario.contenders)().iter().map(|contender| contender.name).collect();
        println!("    {}\n", names.join(", "));
    }
}

/// Runs the scenarios in order; each block of the table appears when complete.
fn measure(options: &Options) -> Result<(), String> {
    let pace = if options.quick { Pace::QUICK } else { Pace::FULL };
    let machine = machine::describe();
    let began = Instant::now();
    println!("{}", table::heading(&machine));
    let mut rows = Vec::new();
    for scenario in SCENARIOS.iter().filter(|scenario| options.wants_scenario(scenario.name)) {
        let contenders: Vec<_> =
            (scenario.contenders)().into_iter().filter(|contender| options.wants_subject(contender.name)).collect();
        let mut measured: Vec<Row> = Vec::new();
        for contender in &contenders {
            eprintln!("[{:>4} s] {} {}", began.elapsed().as_secs(), scenario.name, contender.name);
            measured.push((contender.function)(&pace));
        }
        scenarios::relate(&mut measured);
        if !measured.is_empty() {
            println!("{}", table::block(scenario.name, scenario.says, scenario.columns, &measured).trim_end());
            let _ = std::io::stdout().flush();
        }
        rows.extend(measured);
    }
    println!("{}", table::verdict(&rows));
    json::finish(options, if options.quick { "quick" } else { "full" }, &machine, &rows)
}

/// Returns what a process does that this program started itself.
fn child(words: &[String]) -> Result<(), String> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["memory", subject, extent, pages] => {
            let rows = scenarios::memory::in_child(subject, extent == "all", pages == "small")
                .ok_or_else(|| format!("there is no subject {subject:?} for memory"))?;
            for row in rows {
                println!("{}", row.to_json());
            }
            Ok(())
        }
        ["pairs", subject, mode, count] => inspection::in_child(subject, mode, count),
        #[cfg(feature = "keylatch")]
        ["scale", part, size] => {
            let row = size.parse().ok().and_then(|size| scale::in_child(part, size));
            println!("{}", row.ok_or_else(|| format!("there is no part {part:?} of size {size:?}"))?.to_json());
            Ok(())
        }
        #[cfg(feature = "keylatch")]
        ["beside"] => beside::answer(),
        _ => Err("`child` is for this program's own use".into()),
    }
}
