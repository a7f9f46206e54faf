//! Real etcd servers on loopback: one or three, killed, stopped and started again as a test needs.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A cluster of its own, which ends with the value.
#[derive(Debug)]
pub(crate) struct Cluster {
    nodes: Vec<Node>,
    folder: PathBuf,
    flags: Vec<String>,
}

#[derive(Debug)]
struct Node {
    client: u16,
    peer: u16,
    process: Option<Child>,
}

/// Where etcd is; `None` if it cannot be had, with a line that says why.
///
/// # Panics
/// With `CI` set: there, a test that does nothing must not pass.
fn program() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let skip = |why: &str| {
        assert!(std::env::var_os("CI").is_none(), "etcd cannot be had: {why}");
        // The macros' output is kept for tests that fail, and these pass.
        let _ = writeln!(std::io::stderr(), "SKIPPED, all tests with a server: etcd cannot be had: {why}");
    };
    let find = || match std::env::var_os("ETCD") {
        Some(path) => Some(PathBuf::from(path)),
        None => debian_program("etcd").map_err(|why| skip(&why)).ok(),
    };
    PROGRAM.get_or_init(find).as_deref()
}

/// Where a program is: the system's, or that of an unpacked Debian package.
///
/// Otherwise, why it cannot be had.
pub(crate) fn debian_program(name: &str) -> Result<PathBuf, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/debian_packages.py");
    let found = Command::new("python3").arg(script).arg(name).stdin(Stdio::null()).output();
    match found {
        Ok(found) if found.status.success() => {
            Ok(PathBuf::from(String::from_utf8_lossy(&found.stdout).trim().to_owned()))
        }
        Ok(found) => Err(String::from_utf8_lossy(&found.stderr).trim().to_owned()),
        Err(error) => Err(format!("python3: {error}")),
    }
}

/// Runs etcdctl against the cluster; what it printed.
pub(crate) fn etcdctl(cluster: &Cluster, arguments: &[&str]) -> String {
    etcdctl_at(&cluster.endpoints(), arguments)
}

/// The same for these client addresses.
pub(crate) fn etcdctl_at(endpoints: &[String], arguments: &[&str]) -> String {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let program =
        PROGRAM.get_or_init(|| debian_program("etcdctl").expect("etcd is here, so its client is to be had, too"));
    let mut command = Command::new(program);
    command.env("ETCDCTL_API", "3").args(["--endpoints", &endpoints.join(",")]).args(arguments);
    let done = command.stdin(Stdio::null()).output().expect("etcdctl runs");
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{arguments:?}: {said}{}", String::from_utf8_lossy(&done.stderr));
    said
}

/// Puts values until the database of a server with a small quota is full.
pub(crate) fn fill(endpoints: &[String]) {
    let value = "x".repeat(120_000);
    let put = |n: u32| std::panic::catch_unwind(|| etcdctl_at(endpoints, &["put", &format!("filler{n}"), &value]));
    assert!((0..40).any(|n| put(n).is_err()), "the quota is larger than thought");
}

/// Puts a value of this many bytes; a server whose database is full may refuse it.
pub(crate) fn put_large(endpoint: &str, key: &str, bytes: usize) {
    let program = debian_program("etcdctl").expect("etcd is here, so its client is to be had, too");
    let mut command = Command::new(program);
    command.env("ETCDCTL_API", "3").args(["--endpoints", endpoint, "put", key]);
    let mut put =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("etcdctl runs");
    put.stdin.take().expect("piped").write_all(&vec![b'x'; bytes]).expect("it reads the value");
    let _ = put.wait();
}

/// What the server with this client port counts under a name.
pub(crate) fn metric(port: u16, name: &str) -> u64 {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the server runs");
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).expect("a number")
}

/// A port that was free a moment ago.
///
/// It is below those that the system gives to connections, so none of them takes it before a server does.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(97);
    loop {
        let number = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(12_000 + number % 20_000).expect("below 32,000");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Starts a process that the kernel ends when the tests end, however they do.
///
/// The signal comes when the *thread* ends that started it, so that thread lives on.
pub(crate) fn start(mut command: Command) -> Child {
    type Order = (Command, mpsc::Sender<std::io::Result<Child>>);
    static STARTER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (sender, orders) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in orders {
                let _ = answer.send(command.spawn());
            }
        });
        sender
    });
    // SAFETY: between fork and exec the closure makes one system call and allocates nothing.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
    let (sender, answer) = mpsc::channel();
    starter.send((command, sender)).expect("the thread lives");
    answer.recv().expect("the thread answers").expect("the server starts")
}

/// The cluster that tests share; it ends when the process exits.
static SHARED: OnceLock<Option<Cluster>> = OnceLock::new();

/// Ends the shared cluster, and removes its folder.
extern "C" fn end_shared() {
    let Some(Some(cluster)) = SHARED.get() else { return };
    for (at, process) in cluster.nodes.iter().enumerate().filter_map(|(at, node)| Some((at, node.process.as_ref()?))) {
        cluster.signal(at, libc::SIGKILL);
        let process = process.id().try_into().expect("a process number");
        // A server that is not over yet may write into the folder.
        // SAFETY: the process is our child and was not waited for; no status is asked for.
        unsafe { libc::waitpid(process, std::ptr::null_mut(), 0) };
    }
    let _ = std::fs::remove_dir_all(&cluster.folder);
}

/// A folder of its own for servers, in memory if there is such a file system.
pub(crate) fn new_folder() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let base = Some(PathBuf::from("/dev/shm")).filter(|path| path.is_dir()).unwrap_or_else(std::env::temp_dir);
    sweep(&base);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let folder = base.join(format!("keylatch-etcd-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the servers");
    folder
}

/// Removes the folders of test programs that were killed.
fn sweep(base: &Path) {
    for entry in std::fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix("keylatch-etcd-").and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

impl Cluster {
    /// Starts a cluster of this many nodes, or says why it cannot.
    pub(crate) fn start(nodes: usize) -> Option<Self> {
        Self::start_with(nodes, &[])
    }

    /// The same, with more flags for each node.
    pub(crate) fn start_with(nodes: usize, flags: &[&str]) -> Option<Self> {
        program()?;
        let folder = new_folder();
        let node = |_| Node { client: free_port(), peer: free_port(), process: None };
        let flags = flags.iter().map(|&flag| flag.to_owned()).collect();
        let mut cluster = Self { nodes: (0..nodes).map(node).collect(), folder, flags };
        (0..nodes).for_each(|at| cluster.launch(at));
        cluster.wait_until_healthy();
        Some(cluster)
    }

    /// The cluster of one node that tests share; each uses a namespace of its own.
    pub(crate) fn shared() -> Option<&'static Self> {
        let start = || {
            let cluster = Self::start(1)?;
            // SAFETY: the function touches only what lives as long as the process.
            let registered = unsafe { libc::atexit(end_shared) };
            assert_eq!(registered, 0, "no room for another function at exit");
            Some(cluster)
        };
        SHARED.get_or_init(start).as_ref()
    }

    fn scheme(&self) -> &'static str {
        if self.flags.iter().any(|flag| flag.starts_with("--cert-file")) { "https" } else { "http" }
    }

    fn launch(&mut self, at: usize) {
        let peer = |node: &Node| format!("http://127.0.0.1:{}", node.peer);
        let members: Vec<String> =
            self.nodes.iter().enumerate().map(|(at, node)| format!("n{at}={}", peer(node))).collect();
        let node = &self.nodes[at];
        let client = format!("{}://127.0.0.1:{}", self.scheme(), node.client);
        let log = std::fs::File::options().create(true).append(true).open(self.folder.join(format!("n{at}.log")));
        let log = log.expect("a file for the log");
        let mut command = Command::new(program().expect("checked before"));
        command
            .args(["--name", &format!("n{at}"), "--logger", "zap", "--log-level", "warn"])
            .arg("--data-dir")
            .arg(self.folder.join(format!("n{at}")))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer(node), "--initial-advertise-peer-urls", &peer(node)])
            .args(["--initial-cluster", &members.join(","), "--initial-cluster-state", "new"])
            .args(["--heartbeat-interval", "50", "--election-timeout", "500"])
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.nodes[at].process = Some(start(command));
    }

    /// The client addresses.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.nodes.iter().map(|node| format!("{}://127.0.0.1:{}", self.scheme(), node.client)).collect()
    }

    /// The client port of a node.
    pub(crate) fn port(&self, at: usize) -> u16 {
        self.nodes[at].client
    }

    /// Waits until all nodes listen.
    fn wait_until_healthy(&self) {
        let begun = Instant::now();
        while !self.nodes.iter().all(|node| TcpStream::connect(("127.0.0.1", node.client)).is_ok()) {
            assert!(begun.elapsed() < Duration::from_secs(60), "etcd does not listen; see {}", self.folder.display());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn signal(&self, at: usize, signal: i32) {
        let process = self.nodes[at].process.as_ref().expect("the node runs");
        // SAFETY: the process is our child and was not waited for, so its number is its own.
        unsafe { libc::kill(process.id().try_into().expect("a process number"), signal) };
    }

    /// Ends a node with SIGKILL; its data stay.
    pub(crate) fn kill(&mut self, at: usize) {
        self.signal(at, libc::SIGKILL);
        let mut process = self.nodes[at].process.take().expect("the node runs");
        process.wait().expect("our child");
    }

    /// Starts a node again that was killed.
    pub(crate) fn restart(&mut self, at: usize) {
        self.launch(at);
    }

    /// Stops a node with SIGSTOP: its connections stay open and say nothing.
    ///
    /// Returns when all its threads have stopped: until one of them takes the signal, the others go on.
    pub(crate) fn pause(&self, at: usize) {
        self.signal(at, libc::SIGSTOP);
        let process = self.nodes[at].process.as_ref().expect("the node runs");
        let process = process.id().try_into().expect("a process number");
        let mut status = 0;
        // SAFETY: the process is our child, and the status a local.
        assert_eq!(unsafe { libc::waitpid(process, &mut status, libc::WUNTRACED) }, process);
        assert!(libc::WIFSTOPPED(status), "the node ended");
    }

    /// Lets a stopped node go on.
    pub(crate) fn resume(&self, at: usize) {
        self.signal(at, libc::SIGCONT);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(mut process) = node.process.take() {
                let _ = process.kill();
                let _ = process.wait();
            }
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
