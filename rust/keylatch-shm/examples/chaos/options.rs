//! What the command line says.

use std::time::Duration;

/// A deliberate fault, which the run has to report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Control {
    None,
    /// The dead look alive: nothing is recovered.
    NoRecovery,
    /// The living look dead.
    FalseDeaths,
    /// The mark of a death is wiped out.
    SilentDeaths,
}

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) processes: u32,
    pub(crate) time: Duration,
    pub(crate) kills: u64,
    pub(crate) stops: bool,
    pub(crate) threads: u32,
    pub(crate) seed: u64,
    pub(crate) control: Control,
    pub(crate) steps: bool,
    /// What the names of the scripts contain.
    pub(crate) only: String,
    pub(crate) recheck: Duration,
}

const HELP: &str = "chaos: kills processes that lock, and checks what they say
  --processes N   workers (8)
  --threads N     threads of each (2)
  --seconds S     how long at most (5)
  --kills N       how many at most; 0 kills none (1000000)
  --no-stops      no SIGSTOP
  --seed N        where the random numbers begin (the time)
  --recheck MS    how often sleepers look themselves (20)
  --steps         instead: SIGKILL after every n-th instruction of short scripts, by ptrace; N is --kills
  --only WORD     scripts with this in their names
  --control no-recovery | false-deaths | silent-deaths   a deliberate fault, which the run has to report";

impl Options {
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            processes: 8,
            time: Duration::from_secs(5),
            kills: 1_000_000,
            stops: true,
            threads: 2,
            seed: u64::from(std::process::id()),
            control: Control::None,
            steps: false,
            only: String::new(),
            recheck: Duration::from_millis(20),
        };
        let mut arguments = arguments;
        while let Some(name) = arguments.next() {
            if name == "--only" {
                options.only = arguments.next().unwrap_or_default();
                continue;
            }
            let mut number = || -> Result<u64, String> {
                let value = arguments.next().unwrap_or_default();
                value.parse().map_err(|_| format!("{name} needs a number, not {value:?}\n{HELP}"))
            };
            match name.as_str() {
                "--processes" => options.processes = number()?.clamp(1, 60) as u32,
                "--threads" => options.threads = number()?.clamp(1, 16) as u32,
                "--seconds" => options.time = Duration::from_secs(number()?),
                "--kills" => options.kills = number()?,
                "--seed" => options.seed = number()?,
                "--recheck" => options.recheck = Duration::from_millis(number()?.max(1)),
                "--no-stops" => options.stops = false,
                "--steps" => options.steps = true,
                "--control" => {
                    options.control = match arguments.next().unwrap_or_default().as_str() {
                        "no-recovery" => Control::NoRecovery,
                        "false-deaths" => Control::FalseDeaths,
                        "silent-deaths" => Control::SilentDeaths,
                        other => return Err(format!("there is no control {other:?}\n{HELP}")),
                    }
                }
                _ => return Err(HELP.to_owned()),
            }
        }
        Ok(options)
    }
}
