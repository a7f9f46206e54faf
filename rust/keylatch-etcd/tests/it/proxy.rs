//! A TCP proxy in the test: a network that loses everything, or breaks.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PASS: u8 = 0;
const SILENT: u8 = 1;
const DEAF: u8 = 2;

/// A proxy to one port, which ends with the value.
pub(crate) struct Proxy {
    state: Arc<State>,
    port: u16,
}

/// What a test does before a request goes on.
struct Hook {
    word: String,
    seen: u64,
    action: Box<dyn FnMut(u64) -> Then + Send>,
}

/// What happens to the answer of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Pass,
    /// It does not arrive, like all that follow.
    SwallowAnswers,
    /// The request does not arrive, and nothing that follows on its connection.
    Swallow,
    /// It arrives, and so do later ones of other connections.
    PassAgain,
    /// It arrives when the test says so.
    ///
    /// Nothing arrives that follows on its connection.
    Late,
}

struct State {
    mode: AtomicU8,
    delay: AtomicU64,
    is_over: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
    hook: Mutex<Option<Hook>>,
    /// What arrives late, and where.
    late: Mutex<Vec<(TcpStream, Vec<u8>)>>,
}

impl Proxy {
    pub(crate) fn to(port: u16) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
        let own = socket.local_addr().expect("bound").port();
        let state = Arc::new(State {
            mode: AtomicU8::new(PASS),
            delay: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            open: Mutex::new(Vec::new()),
            hook: Mutex::new(None),
            late: Mutex::new(Vec::new()),
        });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in socket.incoming().map_while(Result::ok) {
                if shared.is_over.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                let pair = |stream: &TcpStream| stream.try_clone().expect("a second handle");
                shared.open.lock().expect("no panic").extend([pair(&stream), pair(&server)]);
                carry(&shared, pair(&stream), pair(&server), false);
                carry(&shared, server, stream, true);
            }
        });
        Self { state, port: own }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Everything passes again.
    ///
    /// What was swallowed is lost, so connections of before are broken. The mode comes first: a connection that is made in
    /// between would else be one that loses data and stays.
    pub(crate) fn pass(&self) {
        self.state.mode.store(PASS, Ordering::SeqCst);
        self.break_connections();
    }

    /// Calls the action before data with this word goes to the server.
    ///
    /// The action gets how many pieces of data with the word there were, this one included.
    pub(crate) fn on_request(&self, word: &str, action: impl FnMut(u64) -> Then + Send + 'static) {
        let hook = Hook { word: word.to_owned(), seen: 0, action: Box::new(action) };
        *self.state.hook.lock().expect("no panic") = Some(hook);
    }

    /// How many requests are to arrive late.
    pub(crate) fn late(&self) -> usize {
        self.state.late.lock().expect("no panic").len()
    }

    /// Delivers what was to arrive late, and returns how much that was.
    pub(crate) fn deliver_late(&self) -> usize {
        let late = self.state.late.lock().expect("no panic");
        late.iter().for_each(|(server, data)| {
            let mut server: &TcpStream = server;
            server.write_all(data).expect("the server is there");
        });
        late.len()
    }

    /// Connections stay open, and nothing passes in either direction.
    pub(crate) fn silence(&self) {
        self.state.mode.store(SILENT, Ordering::SeqCst);
    }

    /// Requests arrive, answers do not.
    pub(crate) fn swallow_answers(&self) {
        self.state.mode.store(DEAF, Ordering::SeqCst);
    }

    /// Each piece of data takes this much longer.
    pub(crate) fn slow_down(&self, by: Duration) {
        self.state.delay.store(u64::try_from(by.as_millis()).expect("short"), Ordering::Relaxed);
    }

    /// Ends all connections; new ones pass.
    pub(crate) fn break_connections(&self) {
        for stream in self.state.open.lock().expect("no panic").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl State {
    /// Calls the hook that waits for this data; whether the data is to be swallowed.
    fn call_hook(&self, data: &[u8], server: &TcpStream) -> bool {
        let mut hook = self.hook.lock().expect("no panic");
        let Some(hook) = hook.as_mut() else { return false };
        if !data.windows(hook.word.len()).any(|window| window == hook.word.as_bytes()) {
            return false;
        }
        hook.seen += 1;
        match (hook.action)(hook.seen) {
            Then::Pass => false,
            Then::SwallowAnswers => {
                self.mode.store(DEAF, Ordering::SeqCst);
                false
            }
            Then::Swallow => true,
            Then::Late => {
                let server = server.try_clone().expect("a second handle");
                self.late.lock().expect("no panic").push((server, data.to_vec()));
                true
            }
            Then::PassAgain => {
                self.mode.store(PASS, Ordering::SeqCst);
                false
            }
        }
    }
}

fn carry(state: &Arc<State>, mut from: TcpStream, mut to: TcpStream, is_answer: bool) {
    let state = Arc::clone(state);
    std::thread::spawn(move || {
        let mut buffer = [0; 16_384];
        // A stream with a gap would say something else than was sent.
        let mut has_gap = false;
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            if !is_answer {
                has_gap |= state.call_hook(&buffer[..read], &to);
            }
            let delay = state.delay.load(Ordering::Relaxed);
            if delay > 0 {
                std::thread::sleep(Duration::from_millis(delay));
            }
            has_gap |= match state.mode.load(Ordering::SeqCst) {
                PASS => false,
                DEAF => is_answer,
                _ => true,
            };
            if !has_gap && to.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        // What is late still has to arrive, though the client may have gone.
        if state.late.lock().expect("no panic").is_empty() {
            let _ = to.shutdown(Shutdown::Both);
            let _ = from.shutdown(Shutdown::Both);
        }
    });
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::Relaxed);
        self.break_connections();
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}
