//! The command line.

mod bench;
mod bench_rows;
mod child;
mod claim;
mod config;
mod crowd;
mod events;
mod exit;
mod force;
mod guardian;
mod hold;
mod list;
mod options;
mod serve;
mod top;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use std::future::Future;
use std::io::Write as _;

/// Returns the whole command line, for parsing, completions and the man page.
#[must_use]
pub fn command() -> Command {
    let show = Arg::new("show-config")
        .long("show-config")
        .action(ArgAction::SetTrue)
        .help("Prints every setting, its value and where that comes from, and ends");
    let json = Arg::new("json").long("json").action(ArgAction::SetTrue).help("Prints JSON");
    let serve = config::add_settings(Command::new("serve").about("Runs the lock service")).args([show, json]).after_help(
        "Each setting is also an environment variable (KEYLATCH_MAX_KEYS for --max-keys) and a line of the file (max_keys = 7). \
         A flag goes before the variable, that before the file, that before the default. SIGHUP reads tokens and \
         certificates anew; SIGTERM waits for holders, then stops.",
    );
    let shell = Arg::new("shell").required(true).value_parser(clap::value_parser!(clap_complete::Shell));
    Command::new("keylatch")
        .about("Locks between machines: leases, places that are kept, fences that grow")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .after_help(exit::HELP)
        .subcommand(serve)
        .subcommand(hold::HoldArgs::augment_args(Command::new("hold")).about("Runs a command while a lock is held"))
        .subcommand(
            claim::ClaimArgs::augment_args(Command::new("claim"))
                .about("Runs a command once among all machines")
                .after_help(claim::HELP),
        )
        .subcommand(list::ListArgs::augment_args(Command::new("list")).about("Lists locks, waiting requests or claims"))
        .subcommand(events::EventsArgs::augment_args(Command::new("events")).about("Follows what happens"))
        .subcommand(force::ForceArgs::augment_args(Command::new("force-release")).about("Releases locks by force"))
        .subcommand(top::TopArgs::augment_args(Command::new("top")).about("Shows locks, waiters and claims live"))
        .subcommand(bench::BenchArgs::augment_args(Command::new("bench")).about("Measures a server"))
        .subcommand(Command::new("completions").about("Prints completions for a shell").arg(shell))
        .subcommand(Command::new("man").about("Prints the man page"))
}

/// Runs the program. Returns the exit status.
///
/// The process has one thread when this is called.
#[must_use]
pub fn run() -> u8 {
    let matches = match command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return refuse(&error),
    };
    match matches.subcommand() {
        Some(("serve", matches)) => serve::run(matches),
        Some(("hold", matches)) => parsed(matches, hold::run),
        Some(("claim", matches)) => parsed(matches, claim::run),
        Some(("list", matches)) => parsed(matches, |args| on_runtime(list::run(args))),
        Some(("events", matches)) => parsed(matches, |args| on_runtime(events::run(args))),
        Some(("force-release", matches)) => parsed(matches, |args| on_runtime(force::run(args))),
        Some(("top", matches)) => parsed(matches, |args| on_runtime(top::run(args))),
        Some(("bench", matches)) => parsed(matches, |args| on_runtime(bench::run(args))),
        Some(("completions", matches)) => completions(matches),
        Some(("man", _)) => man(),
        _ => 2,
    }
}

fn parsed<A: FromArgMatches>(matches: &ArgMatches, run: impl FnOnce(A) -> u8) -> u8 {
    match A::from_arg_matches(matches) {
        Ok(args) => run(args),
        Err(error) => refuse(&error),
    }
}

/// Prints what is wrong with the command line, or the help.
///
/// Returns the exit status.
fn refuse(error: &clap::Error) -> u8 {
    let arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    let long: Vec<_> = arguments.filter(|argument| argument.len() > LONG_ARGUMENT).collect();
    // With colours on a terminal. It fails only if standard error is closed.
    if long.is_empty() {
        let _ = error.print();
    } else {
        let _ = write!(std::io::stderr(), "{}", shortened(error.to_string(), &long));
    }
    error.exit_code() as u8
}

/// Bytes of an argument that a message repeats whole.
const LONG_ARGUMENT: usize = 200;

fn shortened(mut text: String, long: &[String]) -> String {
    for argument in long {
        let begins: String = argument.chars().take(60).collect();
        text = text.replace(argument, &format!("{begins}…({} bytes)", argument.len()));
    }
    text
}

fn on_runtime(run: impl Future<Output = u8>) -> u8 {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(run),
        Err(error) => exit::say(exit::SYSTEM, format_args!("{error}")),
    }
}

fn completions(matches: &ArgMatches) -> u8 {
    let Some(shell) = matches.get_one::<clap_complete::Shell>("shell") else { return 2 };
    let mut text = Vec::new();
    clap_complete::generate(*shell, &mut command(), "keylatch", &mut text);
    exit::print(&text)
}

/// Returns the man page: the program, then each of its commands.
fn man() -> u8 {
    let mut text = Vec::new();
    let mut root = command();
    root.build();
    let mut rendered = clap_mangen::Man::new(root.clone()).render(&mut text);
    for subcommand in root.get_subcommands() {
        let page = clap_mangen::Man::new(subcommand.clone());
        rendered = rendered
            .and_then(|()| writeln!(text, ".SH \"{}\"", subcommand.get_name().to_uppercase()))
            .and_then(|()| page.render_synopsis_section(&mut text))
            .and_then(|()| page.render_options_section(&mut text))
            .and_then(|()| page.render_extra_section(&mut text));
    }
    rendered.map_or(exit::SYSTEM, |()| exit::print(&text))
}
