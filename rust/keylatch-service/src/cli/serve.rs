//! `keylatch serve`.

use super::config::{self, Resolved};
use super::exit;
use crate::server::{Running, Stopped, start};
use clap::ArgMatches;
use serde_json::json;
use std::io::Write as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Runs `serve`. Returns the exit status.
pub(super) fn run(matches: &ArgMatches) -> u8 {
    let resolved = match Resolved::gather(matches) {
        Ok(resolved) => resolved,
        Err(error) => return exit::say(2, format_args!("{error}")),
    };
    let config = match resolved.read() {
        Ok(config) => config,
        Err(error) => return exit::say(2, format_args!("{error}")),
    };
    for name in config::misspelt(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok())) {
        exit::say(
            0,
            format_args!("the variable {name} is no setting and has no effect; serve --help lists the settings"),
        );
    }
    let output = if matches.get_flag("json") { Output::Json } else { Output::Text };
    if matches.get_flag("show-config") {
        let shown = match output {
            Output::Json => format!("{:#}\n", resolved.show_json()),
            Output::Text => resolved.show(),
        };
        return exit::print(shown.as_bytes());
    }
    let filter = EnvFilter::new(format!("keylatch_service={0},warn", config.log));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if config.json_log {
        log.json().init();
    } else {
        log.with_ansi(false).init();
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return exit::say(exit::SYSTEM, format_args!("{error}")),
    };
    runtime.block_on(async {
        // Before the address is printed: what waits for that may send a signal next.
        let signals = Signals::listen();
        match (start(config.settings).await, signals) {
            (Ok(running), Ok(signals)) => serve(running, signals, output).await,
            (Err(error), _) => exit::say(exit::SYSTEM, format_args!("{error}")),
            (_, Err(error)) => exit::say(exit::SYSTEM, format_args!("{error}")),
        }
    })
}

/// What standard output gets.
#[derive(Debug, Clone, Copy)]
enum Output {
    Text,
    Json,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

async fn serve(running: Running, mut signals: Signals, output: Output) -> u8 {
    // For programs that start a server on port 0.
    let address = running.address();
    let _ = match output {
        Output::Json => writeln!(std::io::stdout(), "{}", json!({"listens_on": address, "epoch": running.epoch()})),
        Output::Text => writeln!(std::io::stdout(), "keylatch listens on {address}"),
    };
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
            _ = signals.hangup.recv() => match running.reload() {
                Ok(()) => tracing::info!("tokens and certificates were read anew"),
                Err(error) => tracing::error!(%error, "not reloaded; the server goes on with what it had"),
            },
        }
    }
    tracing::info!("stopping: nothing is granted any more");
    let mut stop = std::pin::pin!(running.stop());
    tokio::select! {
        stopped = &mut stop => match stopped {
            Stopped::Clean => tracing::info!("stopped; every lock is free"),
            Stopped::WithHolders => tracing::warn!("stopped with holders; the next start waits for the longest promise"),
        },
        _ = signals.terminate.recv() => return exit::say(exit::SYSTEM, format_args!("stopped in haste")),
        _ = signals.interrupt.recv() => return exit::say(exit::SYSTEM, format_args!("stopped in haste")),
    }
    0
}
