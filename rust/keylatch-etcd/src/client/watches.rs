//! Many watches on one stream.
//!
//! A watch ends with its first signal that is no event: the stream broke, the revision was compacted, or the server
//! cancelled it. Its owner then reads the keys and watches again, so a watch never has to be resumed.

use super::calls::Client;
use crate::wire::{
    Event, RangeRequest, WatchCancelRequest, WatchCreateRequest, WatchRequest, WatchResponse, event, watch_request,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

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

/// A watch; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    id: i64,
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
        let _ = self.commands.send(Command::Cancel(self.id));
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
        self.watch(WatchCreateRequest { key, filters: vec![0], ..Default::default() })
    }

    /// Watches all that happens to the keys below a prefix, from now on.
    pub(crate) fn range(&self, prefix: Vec<u8>) -> Watch {
        let RangeRequest { key, range_end, .. } = RangeRequest::prefix(prefix);
        self.watch(WatchCreateRequest { key, range_end, ..Default::default() })
    }

    fn watch(&self, request: WatchCreateRequest) -> Watch {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, signals) = mpsc::unbounded_channel();
        let _ = self.commands.send(Command::Watch(WatchCreateRequest { watch_id: id, ..request }, sender));
        Watch { id, signals, commands: self.commands.clone() }
    }
}

/// One stream after the other, for as long as there may be watches.
async fn run(client: Arc<Client>, mut commands: mpsc::UnboundedReceiver<Command>) {
    let mut first = None;
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
        let is_over = stream(&client, &mut commands, first.take(), &mut watching).await;
        for (_, sender) in watching.drain() {
            let _ = sender.send(Signal::Broken);
        }
        if is_over {
            return;
        }
        // Owners read and watch again; a member that refuses streams is not to be asked without pause.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

type Watching = HashMap<i64, mpsc::UnboundedSender<Signal>>;

/// Whether no watch can come any more.
async fn stream(
    client: &Client,
    commands: &mut mpsc::UnboundedReceiver<Command>,
    first: Option<Command>,
    watching: &mut Watching,
) -> bool {
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
    let mut answers: Option<tonic::Streaming<WatchResponse>> = None;
    loop {
        let has_moved = *changes.borrow_and_update() != connection.number;
        if has_moved {
            return false;
        }
        tokio::select! {
            biased;
            _ = changes.changed() => {}
            opened = &mut opening, if answers.is_none() => match opened {
                Ok(stream) => answers = Some(stream),
                Err(_) => {
                    client.channels.move_on(&connection);
                    return false;
                }
            },
            answer = async { answers.as_mut().expect("guarded by the condition").message().await }, if answers.is_some() => match answer {
                Ok(Some(answer)) => distribute(answer, watching),
                Ok(None) | Err(_) => {
                    client.channels.move_on(&connection);
                    return false;
                }
            },
            command = commands.recv() => match command {
                Some(command) => send(command, watching),
                None => return true,
            },
        }
    }
}

fn distribute(answer: WatchResponse, watching: &mut Watching) {
    let id = answer.watch_id;
    if let Some(sender) = watching.get(&id) {
        if answer.created && !answer.canceled {
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
