//! As much of HTTP as a scrape needs: one request a connection, one connection at a time, none of them for long.

use keylatch::{FastObjectLockManager, OPENMETRICS_CONTENT_TYPE};
use keylatch_typed::LockMonitor;
use std::io::{self, Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// How long a client may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest request.
const MOST: u64 = 16 * 1024;

/// What the figures are of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watched<'w> {
    pub(crate) manager: &'w FastObjectLockManager,
    pub(crate) monitor: &'w LockMonitor,
}

/// Answers requests until the time is over.
pub(crate) fn serve(listener: &TcpListener, watched: Watched<'_>, duration: Duration) {
    let began = Instant::now();
    listener.set_nonblocking(true).expect("a socket that can be asked without waiting");
    while began.elapsed() < duration {
        match listener.accept() {
            // A client that breaks off harms itself alone.
            Ok((stream, _)) => drop(answer(stream, watched)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(5)),
            Err(error) => eprintln!("monitored: {error}"),
        }
    }
}

fn answer(mut stream: TcpStream, watched: Watched<'_>) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut request = Vec::new();
    let mut incoming = (&mut stream).take(MOST);
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut some = [0; 1024];
        match incoming.read(&mut some)? {
            0 => return Ok(()),
            count => request.extend_from_slice(&some[..count]),
        }
    }
    let path = request.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    let (status, body) = match path {
        b"/metrics" => ("200 OK", watched.manager.get_metrics_with_hottest_keys().to_openmetrics()),
        b"/locks" => ("200 OK", watched.monitor.to_openmetrics()),
        _ => {
            ("404 Not Found", "the figures of the manager are at /metrics, those of typed locks at /locks\n".to_owned())
        }
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {OPENMETRICS_CONTENT_TYPE}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
