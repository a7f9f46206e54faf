//! The command `keylatch`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(keylatch_service::cli::run())
}
