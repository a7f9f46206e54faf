//! Many watches on one stream.
//!
//! A watch ends with its first signal that is no event: the stream broke, the revision was compacted, or the server
//! cancelled it. Its owner then reads the keys and watches again, so a watch never has to be resumed.

use super::calls::Client;
use crate::wire::{
    Event, RangeRequest, WatchCancelRequest, WatchCreateRequest, WatchRequest, WatchResponse, event, watch_request,
};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

/// The number of a watch that was not made.
const NO_WATCH: i64 = -1;

/// What a watch says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Signal {
    /// The watch sees all that happens after this revision.
    Begun(i64),
    /// A key was written by this revision.
    Put(Vec<u8>, i64),
    /// A key was deleted by this revision.
    Deleted(Vec<u8>, i64),
    /// Events may be missing: read the keys, and watch again.
    Broken,
}

enum Command {
    Watch(WatchCreateRequest, mpsc::UnboundedSender<Signal>),
    Cancel(i64),
}

/// The door to the task that has the stream.
#[derive(Debug, Clone)]
pub(crate) struct Watches {
    commands: mpsc::UnboundedSender<Command>,
    next: Arc<AtomicI64>,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Watch(request, _) => write!(f, "Watch({})", request.watch_id),
            Self::Cancel(id) => write!(f, "Cancel({id})"),
        }
    }
}

/// A watch, or several; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    ids: Range<i64>,
    signals: mpsc::UnboundedReceiver<Signal>,
    commands: mpsc::UnboundedSender<Command>,
}

impl Watch {
    /// The next signal.
    pub(crate) async fn next(&mut self) -> Signal {
        self.signals.recv().await.unwrap_or(Signal::Broken)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        for id in self.ids.clone() {
            let _ = self.commands.send(Command::Cancel(id));
        }
    }
}

impl Watches {
    /// Starts the task, on the runtime around it.
    pub(crate) fn start(client: Arc<Client>) -> Self {
        let (commands, received) = mpsc::unbounded_channel();
        tokio::spawn(run(client, received));
        Self { commands, next: Arc::new(AtomicI64::new(1)) }
    }

    /// Watches the deletion of one key, from now on.
    ///
    /// [`Signal::Begun`] says from which revision. A watch from a revision of the past would wait for etcd's turn of watches that are behind, a tenth of a second.
    pub(crate) fn deletion(&self, key: Vec<u8>) -> Watch {
        self.deletions([key])
    }

    /// Watches the deletion of each of some keys.
    ///
    /// [`Signal::Begun`] comes once a key.
    pub(crate) fn deletions(&self, keys: impl IntoIterator<Item = Vec<u8>>) -> Watch {
        let keys = keys.into_iter();
        self.watch(keys.map(|key| WatchCreateRequest { key, filters: vec![0], ..Default::default() }).collect())
    }

    /// Watches all that happens to the keys below a prefix, from now on.
    pub(crate) fn range(&self, prefix: Vec<u8>) -> Watch {
        let RangeRequest { key, range_end, .. } = RangeRequest::prefix(prefix);
        self.watch(vec![WatchCreateRequest { key, range_end, ..Default::default() }])
    }

    fn watch(&self, requests: Vec<WatchCreateRequest>) -> Watch {
        let count = i64::try_from(requests.len()).unwrap_or(0);
        let first = self.next.fetch_add(count, Ordering::Relaxed);
        let ids = first..first + count;
        let (sender, signals) = mpsc::unbounded_channel();
        for (watch_id, request) in ids.clone().zip(requests) {
            let _ = self.commands.send(Command::Watch(WatchCreateRequest { watch_id, ..request }, sender.clone()));
        }
        Watch { ids, signals, commands: self.commands.clone() }
    }
}

/// The pause after a stream, and the longest after streams that were denied.
const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// How a stream ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// No watch can come any more.
    Over,
    /// The connection broke, or another one is in use now.
    Broken,
    /// The server denied a watch: the login of the stream is of no use any longer.
    Denied,
}

/// One stream after the other, for as long as there may be watches.
async fn run(client: Arc<Client>, mut commands: mpsc::UnboundedReceiver<Command>) {
    let mut first = None;
    let mut pause = PAUSE;
    loop {
        // The stream begins with a watch: without one, nothing has to be connected.
        while first.is_none() {
            match commands.recv().await {
                Some(watch @ Command::Watch(..)) => first = Some(watch),
                Some(Command::Cancel(_)) => {}
                None => return,
            }
        }
        let mut watching = HashMap::new();
        let end = stream(&client, &mut commands, first.take(), &mut watching).await;
        for (_, sender) in watching.drain() {
            let _ = sender.send(Signal::Broken);
        }
        pause = match end {
            End::Over => return,
            End::Broken => PAUSE,
            End::Denied => (pause * 2).min(LONGEST_PAUSE),
        };
        // Owners read and watch again; a member that refuses streams is not to be asked without pause.
        tokio::time::sleep(pause).await;
    }
}

type Watching = HashMap<i64, mpsc::UnboundedSender<Signal>>;

/// Carries watches until the stream ends.
async fn stream(
    client: &Client,
    commands: &mut mpsc::UnboundedReceiver<Command>,
    first: Option<Command>,
    watching: &mut Watching,
) -> End {
    let connection = client.channels.current();
    let mut changes = client.channels.changes();
    let (requests, outgoing) = mpsc::unbounded_channel();
    let send = |command: Command, watching: &mut Watching| {
        let request = match command {
            Command::Watch(request, sender) => {
                watching.insert(request.watch_id, sender);
                watch_request::Request::Create(request)
            }
            Command::Cancel(watch_id) => {
                if watching.remove(&watch_id).is_none() {
                    return;
                }
                watch_request::Request::Cancel(WatchCancelRequest { watch_id })
            }
        };
        let _ = requests.send(WatchRequest { request: Some(request) });
    };
    first.into_iter().for_each(|command| send(command, watching));
    let opening = client.watch(&connection, UnboundedReceiverStream::new(outgoing));
    tokio::pin!(opening);
    let mut answers: Option<(tonic::Streaming<WatchResponse>, u64)> = None;
    loop {
        let has_moved = *changes.borrow_and_update() != connection.number;
        if has_moved {
            return End::Broken;
        }
        tokio::select! {
            biased;
            _ = changes.changed() => {}
            opened = &mut opening, if answers.is_none() => match opened {
                Ok(opened) => answers = Some(opened),
                Err(_) => {
                    client.channels.move_on(&connection);
                    return End::Broken;
                }
            },
            answer = next(&mut answers), if answers.is_some() => match answer {
                Some((answer, login)) if is_denial(&answer) => {
                    client.forget_login(login);
                    return End::Denied;
                }
                Some((answer, _)) => distribute(answer, watching),
                None => {
                    client.channels.move_on(&connection);
                    return End::Broken;
                }
            },
            command = commands.recv() => match command {
                Some(command) => send(command, watching),
                None => return End::Over,
            },
        }
    }
}

/// The next answer of an open stream; nothing at its end.
async fn next(answers: &mut Option<(tonic::Streaming<WatchResponse>, u64)>) -> Option<(WatchResponse, u64)> {
    let (stream, login) = answers.as_mut()?;
    let answer = stream.message().await.ok().flatten()?;
    Some((answer, *login))
}

/// Whether the server did not make a watch.
///
/// It may name no watch, so that the owner cannot be found.
fn is_denial(answer: &WatchResponse) -> bool {
    answer.canceled && (answer.created || answer.watch_id == NO_WATCH)
}

fn distribute(answer: WatchResponse, watching: &mut Watching) {
    let id = answer.watch_id;
    if let Some(sender) = watching.get(&id) {
        if answer.created {
            let _ = sender.send(Signal::Begun(answer.header.map_or(i64::MAX, |header| header.revision)));
        }
        for signal in answer.events.into_iter().filter_map(signal) {
            let _ = sender.send(signal);
        }
        if answer.canceled {
            let _ = sender.send(Signal::Broken);
        }
    }
    if answer.canceled {
        watching.remove(&id);
    }
}

fn signal(event: Event) -> Option<Signal> {
    let kind = event.kind();
    let kv = event.kv?;
    Some(match kind {
        event::EventType::Put => Signal::Put(kv.key, kv.mod_revision),
        event::EventType::Delete => Signal::Deleted(kv.key, kv.mod_revision),
    })
}
