//! A real PostgreSQL on a socket in a folder, which the tests start and end.

use crate::cluster::{debian_program, new_folder, start};
use postgres::{Client, NoTls};
use std::io::Write;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A user without rights: a server of PostgreSQL does not run as root.
const UNPRIVILEGED: u32 = 65_534;

/// A server with an empty database, which ends with the tests.
pub(crate) struct Postgres {
    folder: PathBuf,
    process: Child,
}

static SHARED: OnceLock<Option<Postgres>> = OnceLock::new();

/// Ends the server, and removes its folder.
extern "C" fn end_shared() {
    let Some(Some(server)) = SHARED.get() else { return };
    let process = server.process.id().try_into().expect("a process number");
    // SAFETY: the process is our child and was not waited for, so its number is its own; no status is asked for.
    unsafe {
        libc::kill(process, libc::SIGQUIT);
        libc::waitpid(process, std::ptr::null_mut(), 0);
    }
    let _ = std::fs::remove_dir_all(&server.folder);
}

impl Postgres {
    /// The server that tests share.
    ///
    /// Nothing if it cannot be had, with a line that says why.
    ///
    /// # Panics
    /// With `CI` set: there, a test that does nothing must not pass.
    pub(crate) fn shared() -> Option<&'static Self> {
        let start = || match debian_program("initdb").and_then(|initdb| Ok((initdb, debian_program("postgres")?))) {
            Ok((initdb, postgres)) => {
                let server = Self::start(&initdb, &postgres);
                // SAFETY: the function touches only what lives as long as the process.
                let registered = unsafe { libc::atexit(end_shared) };
                assert_eq!(registered, 0, "no room for another function at exit");
                Some(server)
            }
            Err(why) => {
                assert!(std::env::var_os("CI").is_none(), "PostgreSQL cannot be had: {why}");
                // The macros' output is kept for tests that fail, and these pass.
                let _ = writeln!(std::io::stderr(), "SKIPPED, tests with PostgreSQL: it cannot be had: {why}");
                None
            }
        };
        SHARED.get_or_init(start).as_ref()
    }

    /// What a client needs to connect.
    pub(crate) fn database(&self) -> String {
        format!("host={} user=keylatch dbname=postgres", self.folder.display())
    }

    fn start(initdb: &Path, postgres: &Path) -> Self {
        let folder = new_folder();
        let data = folder.join("data");
        let mut command = Command::new(initdb);
        command.args(["--username", "keylatch", "--auth", "trust", "--no-sync", "--encoding", "UTF8", "--pgdata"]);
        own(&mut command, &folder).arg(&data).env("LC_ALL", "C").stdin(Stdio::null());
        let made = command.output().expect("initdb runs");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let log = std::fs::File::create(folder.join("log")).expect("a file for the log");
        let mut command = Command::new(postgres);
        own(&mut command, &folder).arg("-D").arg(&data).arg("-k").arg(&folder);
        command.args(["-c", "listen_addresses=", "-c", "fsync=off"]).env("LC_ALL", "C");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let server = Self { process: start(command), folder };
        let begun = Instant::now();
        while let Err(error) = Client::connect(&server.database(), NoTls) {
            let log = server.folder.join("log");
            assert!(begun.elapsed() < Duration::from_secs(60), "PostgreSQL: {error}; see {}", log.display());
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }
}

/// Lets a command run as another user if this one is root, who gets the folder.
fn own<'c>(command: &'c mut Command, folder: &Path) -> &'c mut Command {
    // SAFETY: the call has no preconditions.
    if unsafe { libc::geteuid() } == 0 {
        chown(folder, Some(UNPRIVILEGED), Some(UNPRIVILEGED)).expect("root may give a folder away");
        command.uid(UNPRIVILEGED).gid(UNPRIVILEGED);
    }
    command.current_dir(folder)
}
