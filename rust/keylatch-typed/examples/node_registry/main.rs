//! One registry of nodes, before and after: see `--help`.
#![allow(clippy::print_stdout, reason = "a program that reports to people")]

mod after;
mod before;
mod floor;
mod load;
mod measures;
mod node;
mod options;
mod plot;
mod random;
mod redis;
mod registry;
mod remote;
mod report;

use measures::Measures;
use options::{Command, Only, Options};
use plot::Series;
use remote::Remote;
use report::Found;
use std::process::ExitCode;
use std::sync::Arc;

fn main() -> ExitCode {
    match options::parse(std::env::args().skip(1)) {
        Ok(Command::Help) => {
            println!("{}", options::HELP);
            ExitCode::SUCCESS
        }
        Ok(Command::Run(options)) => match run(&options) {
            Ok(missed) if missed.is_empty() || options.lenient => ExitCode::SUCCESS,
            Ok(_) => ExitCode::from(1),
            Err(problem) => {
                eprintln!("node_registry: {problem}");
                ExitCode::from(2)
            }
        },
        Err(problem) => {
            eprintln!("node_registry: {problem}; --help says what there is");
            ExitCode::from(2)
        }
    }
}

/// Runs what was asked for and reports. Returns the goals that were missed.
fn run(options: &Options) -> Result<Vec<String>, String> {
    let server = options.redis.as_deref().map(redis::Server::start).transpose()?;
    if let Some(server) = &server {
        fill(server, options.nodes)?;
        println!("redis-server answers look-ups on {}", server.address);
    }
    let remote =
        || server.as_ref().map_or(Remote::Simulated, |server| Remote::Redis(redis::Connections::new(server.address)));
    let (nodes, period) = (options.nodes, options.period());
    println!(
        "{nodes} nodes, each heard of every {period:?}; {} selections a second; {:?} each",
        options.selections_per_second, options.duration
    );
    let wanted = |registry: Only| options.only == Only::Both || options.only == registry;
    let before = wanted(Only::Before).then(|| {
        let measures = Arc::new(Measures::new());
        let make = || before::Before::new(node::all_nodes(nodes, options.seed), remote(), Arc::clone(&measures));
        let asked = load::run(options, &measures, make);
        Found::new(&measures, asked)
    });
    let after = wanted(Only::After).then(|| {
        let measures = Arc::new(Measures::new());
        let make = || after::After::new(node::all_nodes(nodes, options.seed), remote(), Arc::clone(&measures));
        let asked = load::run(options, &measures, make);
        Found::new(&measures, asked)
    });
    let floor = {
        let measures = Arc::new(Measures::new());
        let asked = load::run(options, &measures, || floor::Floor);
        Found::new(&measures, asked)
    };
    println!("\n{}", report::table(before.as_ref(), after.as_ref(), &floor));
    draw(options, before.as_ref(), after.as_ref())?;
    let report::Verdict { missed, hidden } = report::verdict(before.as_ref(), after.as_ref(), &floor);
    hidden.iter().for_each(|hidden| println!("this machine cannot show the goal: {hidden}"));
    missed.iter().for_each(|missed| println!("MISSED {missed}"));
    if missed.is_empty() {
        println!("symptoms and goals are as they should be");
    }
    Ok(missed)
}

fn fill(server: &redis::Server, nodes: usize) -> Result<(), String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    runtime.block_on(server.fill(nodes)).map_err(|error| format!("redis-server did not take the nodes: {error}"))
}

fn draw(options: &Options, before: Option<&Found>, after: Option<&Found>) -> Result<(), String> {
    let mut series = Vec::new();
    if let Some(found) = before {
        series.push(Series { name: "selection, before", color: "#d62728", summary: &found.selection });
        series.push(Series { name: "heartbeat, before", color: "#ff9896", summary: &found.heartbeat });
    }
    if let Some(found) = after {
        series.push(Series { name: "selection, after", color: "#1f77b4", summary: &found.selection });
        series.push(Series { name: "heartbeat, after", color: "#9ecae1", summary: &found.heartbeat });
    }
    let title = format!(
        "Node registry: {} nodes, {} selections a second, latency from when a request was due",
        options.nodes, options.selections_per_second
    );
    let problem = |error: std::io::Error| format!("{} cannot be written: {error}", options.svg.display());
    if let Some(folder) = options.svg.parent() {
        std::fs::create_dir_all(folder).map_err(problem)?;
    }
    std::fs::write(&options.svg, plot::svg(&title, &series)).map_err(problem)?;
    println!("plot: {}", options.svg.display());
    Ok(())
}
