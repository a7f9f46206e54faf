//! A program whose locks Prometheus watches: it serves figures on loopback while threads give them something to show.
//!
//! `/metrics` has those of a manager of object locks, `/locks` those of the typed locks of a monitor.
//! `ops_test.py` scrapes it to see that every query of the dashboard and every alert rule finds what it asks for.
#![allow(clippy::print_stdout, reason = "a program that says where it listens")]

mod http;
mod load;

use keylatch::{FastObjectLockManager, LockConfig};
use keylatch_typed::LockMonitor;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

const HELP: &str = "\
monitored: serves the figures of a lock manager and of typed locks to Prometheus, under a load of every kind

usage: monitored [--port P] [--seconds S]

  --port P      the port on 127.0.0.1; 0, the default, is any free one, which the first line of output names
  --seconds S   when to end by itself, from 1 to 3600 (default 600)";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--help" || word == "-h") {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match parse(&words).and_then(|(port, duration)| run(port, duration)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("monitored: {problem}; --help says what there is");
            ExitCode::from(2)
        }
    }
}

fn parse(words: &[String]) -> Result<(u16, Duration), String> {
    let (mut port, mut seconds) = (0, 600);
    for pair in words.chunks(2) {
        match pair {
            [name, value] if name == "--port" => {
                port = value.parse().map_err(|_| format!("--port takes a number up to 65535, not {value:?}"))?;
            }
            [name, value] if name == "--seconds" => {
                let number = value.parse().ok().filter(|number| (1..=3600).contains(number));
                seconds = number.ok_or_else(|| format!("--seconds takes a number from 1 to 3600, not {value:?}"))?;
            }
            [name, ..] => return Err(format!("{name:?} is not understood, or lacks its value")),
            [] => {}
        }
    }
    Ok((port, Duration::from_secs(seconds)))
}

fn run(port: u16, duration: Duration) -> Result<(), String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|error| format!("port {port}: {error}"))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let config = LockConfig { max_locks: 1 << 16, deadlock_delay: Some(Duration::ZERO), ..LockConfig::default() };
    let locks = FastObjectLockManager::with_config(config).map_err(|error| error.to_string())?;
    println!("http://{address}/metrics");
    std::io::stdout().flush().map_err(|error| error.to_string())?;
    let (monitor, ended) = (LockMonitor::new(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        load::start(scope, &locks, &ended);
        load::start_typed(scope, &monitor, &ended);
        http::serve(&listener, http::Watched { manager: &locks, monitor: &monitor }, duration);
        ended.store(true, std::sync::atomic::Ordering::Relaxed);
        locks.close();
    });
    Ok(())
}
