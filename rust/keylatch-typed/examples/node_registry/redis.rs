//! A redis-server of our own on loopback, and as much of its protocol as look-ups need.

use crate::node::LOOK_UPS;
use crate::remote::key;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long the server may take until it answers.
const START: Duration = Duration::from_secs(10);

/// A running server, which ends with this value.
#[derive(Debug)]
pub(crate) struct Server {
    process: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts the program and waits until it answers.
    pub(crate) fn start(program: &str) -> Result<Self, String> {
        // Free a moment ago; if another program takes it in between, the server says so and ends.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| format!("no free port: {error}"))?;
        let address = free.local_addr().map_err(|error| error.to_string())?;
        drop(free);
        let port = address.port().to_string();
        let process = Command::new(program)
            .args(["--bind", "127.0.0.1", "--port", &port, "--save", "", "--appendonly", "no", "--loglevel", "warning"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| {
                format!("{program} does not start ({error}): install redis-server, or run `make registry ARGS=--redis`")
            })?;
        let mut server = Self { process, address };
        let began = Instant::now();
        while std::net::TcpStream::connect(address).is_err() {
            if let Ok(Some(status)) = server.process.try_wait() {
                return Err(format!("{program} ended with {status} before it answered"));
            }
            if began.elapsed() > START {
                return Err(format!("{program} did not answer within {START:?}"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    /// Fills in what nodes are capable of.
    pub(crate) async fn fill(&self, nodes: usize) -> io::Result<()> {
        let mut stream = TcpStream::connect(self.address).await?;
        for node in 0..nodes {
            let fields = (0..LOOK_UPS).filter(|field| !(node + field).is_multiple_of(3));
            for name in fields.map(|field| key(node, field)) {
                ask(&mut stream, &["SET", &name, "1"]).await?;
            }
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Connections to a server, as many as look-ups that are on their way.
#[derive(Debug)]
pub(crate) struct Connections {
    address: SocketAddr,
    idle: Mutex<Vec<TcpStream>>,
}

impl Connections {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, idle: Mutex::default() }
    }

    /// Returns whether there is a value. A server that does not answer has none.
    pub(crate) async fn has(&self, name: &str) -> bool {
        let idle = self.idle.lock().expect("no panic with connections").pop();
        let mut stream = match idle {
            Some(stream) => stream,
            None => match TcpStream::connect(self.address).await {
                Ok(stream) => stream,
                Err(_) => return false,
            },
        };
        match ask(&mut stream, &["EXISTS", name]).await {
            Ok(answer) => {
                self.idle.lock().expect("no panic with connections").push(stream);
                answer == ":1"
            }
            Err(_) => false,
        }
    }
}

/// Sends a command and returns the line that answers it.
async fn ask(stream: &mut TcpStream, words: &[&str]) -> io::Result<String> {
    let mut command = format!("*{}\r\n", words.len());
    words.iter().for_each(|word| command += &format!("${}\r\n{word}\r\n", word.len()));
    stream.write_all(command.as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n") {
        let mut bytes = [0; 64];
        match stream.read(&mut bytes).await? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            count => answer.extend_from_slice(&bytes[..count]),
        }
    }
    match String::from_utf8_lossy(&answer).trim_end() {
        error if error.starts_with('-') => Err(io::Error::other(error.to_owned())),
        line => Ok(line.to_owned()),
    }
}
