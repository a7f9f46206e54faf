//! `Snapshot`: freshness, conflicts, coalesced updates, waiting, and what happens when foreign code panics.

use crate::events;
use futures_util::FutureExt;
use futures_util::future::join_all;
use keylatch_typed::{PublishConflict, Snapshot, SnapshotClosed, SnapshotReader, Update, UpdateError};
#[cfg(feature = "tokio")]
use std::pin::{Pin, pin};
use std::sync::Arc;
#[cfg(feature = "tokio")]
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// A list that counts its clones, and that panics in `clone` while `broken`.
#[derive(Default)]
struct Counted {
    entries: Vec<usize>,
    clones: Arc<AtomicUsize>,
    broken: Arc<AtomicBool>,
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        assert!(!self.broken.load(Ordering::Relaxed), "no copy today");
        self.clones.fetch_add(1, Ordering::Relaxed);
        Self { entries: self.entries.clone(), clones: self.clones.clone(), broken: self.broken.clone() }
    }
}

/// Runs `meanwhile` while another thread applies an update that adds `entry`.
fn during_update(snapshot: &Snapshot<Counted>, entry: usize, meanwhile: impl FnOnce()) {
    let (started, is_started) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel();
    // Moves `go_on` in: a failure in `meanwhile` drops it, and the update ends.
    std::thread::scope(move |scope| {
        scope.spawn(move || {
            let update = snapshot.update(move |list| {
                started.send(()).unwrap();
                may_go_on.recv().unwrap();
                list.entries.push(entry);
            });
            update.wait().unwrap();
        });
        is_started.recv().unwrap();
        meanwhile();
        go_on.send(()).unwrap();
    });
}

#[test]
fn load_after_publish_is_new() {
    let snapshot = Snapshot::new("a".to_string());
    let mut reader = snapshot.reader();
    let first = Arc::clone(reader.load());
    assert_eq!((reader.version(), snapshot.version()), (1, 1));
    assert_eq!(snapshot.publish("b".into()), 2);
    assert_eq!(reader.loaded().as_str(), "a");
    assert_eq!(reader.load().as_str(), "b");
    assert_eq!(reader.version(), 2);
    assert_eq!((first.as_str(), snapshot.load().as_str()), ("a", "b"));
    assert_eq!(Arc::strong_count(&first), 1, "only the caller keeps the old version");
    assert_eq!(format!("{snapshot:?}"), r#"Snapshot { version: 2, value: "b" }"#);
}

#[test]
fn reader_outlives_snapshot() {
    let snapshot = Snapshot::new(7);
    let mut reader = snapshot.reader();
    snapshot.publish(8);
    drop(snapshot);
    assert_eq!(**reader.load(), 8);
    assert_eq!(reader.changed().now_or_never(), Some(Err(SnapshotClosed)));
    assert_eq!(reader.changed_blocking(Duration::MAX), Err(SnapshotClosed));
}

#[test]
fn publish_if_refuses_old_version() {
    let snapshot = Snapshot::new(vec![1]);
    assert_eq!(snapshot.publish_if(1, vec![2]), Ok(2));
    assert_eq!(snapshot.publish_if(1, vec![3]), Err(PublishConflict { value: vec![3], version: 2 }));
    assert_eq!(snapshot.publish_if(3, vec![3]), Err(PublishConflict { value: vec![3], version: 2 }));
    assert_eq!(*snapshot.load(), [2]);
}

#[test]
fn publish_if_refuses_during_update() {
    let snapshot = Snapshot::new(Counted::default());
    during_update(&snapshot, 1, || {
        let conflict = snapshot.publish_if(1, Counted::default()).map_err(|conflict| conflict.version);
        assert_eq!(conflict, Err(2));
    });
    assert_eq!((snapshot.version(), &snapshot.load().entries[..]), (2, &[1][..]));
}

#[test]
fn publish_during_update_wins() {
    let snapshot = Snapshot::new(Counted::default());
    during_update(&snapshot, 1, || {
        let newer = Counted { entries: vec![9], ..Counted::default() };
        assert_eq!(snapshot.publish(newer), 2);
        assert_eq!(snapshot.publish_if(2, Counted { entries: vec![10], ..Counted::default() }).ok(), Some(3));
    });
    assert_eq!((snapshot.version(), &snapshot.load().entries[..]), (3, &[10][..]));
}

#[test]
fn updates_share_one_clone() {
    let snapshot = Snapshot::new(Counted::default());
    let clones = Arc::clone(&snapshot.load().clones);
    let waiting = during_update_queue(&snapshot);
    for (position, update) in waiting.into_iter().enumerate() {
        assert_eq!(update, Ok(3), "update {position}");
    }
    assert_eq!(snapshot.load().entries, (0..101).collect::<Vec<_>>());
    assert_eq!((snapshot.version(), clones.load(Ordering::Relaxed)), (3, 2));
}

/// Queues 100 updates while the first one runs; returns their outcomes.
fn during_update_queue(snapshot: &Snapshot<Counted>) -> Vec<Result<u64, UpdateError>> {
    let mut updates = Vec::new();
    during_update(snapshot, 0, || {
        updates.extend((1..101).map(|entry| snapshot.update(move |list| list.entries.push(entry))));
    });
    updates.into_iter().map(keylatch_typed::Update::wait).collect()
}

#[test]
fn deferred_updates_wait_for_apply() {
    let snapshot = Snapshot::new(Counted::default());
    (0..10).for_each(|entry| snapshot.defer(move |list| list.entries.push(entry)));
    assert_eq!((snapshot.version(), snapshot.load().entries.len()), (1, 0));
    assert_eq!(snapshot.apply_deferred(), 2);
    assert_eq!((snapshot.apply_deferred(), snapshot.load().entries.len()), (2, 10));
}

#[test]
fn panic_in_update_keeps_the_others() {
    let snapshot = Snapshot::new(Counted::default());
    snapshot.defer(|list| list.entries.push(1));
    snapshot.defer(|list| {
        list.entries.push(2);
        panic!("deliberate");
    });
    let third = snapshot.update(|list| list.entries.push(3));
    assert_eq!(third.wait(), Ok(2));
    assert_eq!(snapshot.load().entries, [1, 2, 3]);
    let failing = snapshot.update(|_| panic!("deliberate {}", 4));
    assert_eq!(failing.wait(), Err(UpdateError::Panicked("deliberate 4".into())));
    assert_eq!(snapshot.version(), 3);
}

#[test]
fn panic_in_clone_leaves_the_value() {
    let snapshot = Snapshot::new(Counted::default());
    let broken = Arc::clone(&snapshot.load().broken);
    broken.store(true, Ordering::Relaxed);
    let failing = snapshot.update(|list| list.entries.push(1));
    assert_eq!(failing.wait(), Err(UpdateError::CloneFailed("no copy today".into())));
    broken.store(false, Ordering::Relaxed);
    assert_eq!(snapshot.update(|list| list.entries.push(2)).wait(), Ok(3));
    assert_eq!(snapshot.load().entries, [2]);
}

/// Drops with a panic while armed.
#[derive(Clone, Default)]
struct Fragile(Arc<AtomicBool>);

impl Drop for Fragile {
    fn drop(&mut self) {
        assert!(!self.0.load(Ordering::Relaxed), "deliberate");
    }
}

#[test]
fn panic_in_drop_of_a_version_ends_there() {
    let (snapshot, armed) = (Snapshot::new(Fragile::default()), Arc::new(AtomicBool::new(false)));
    let given = Arc::clone(&armed);
    assert_eq!(snapshot.update(|value| value.0 = given).wait(), Ok(2));
    armed.store(true, Ordering::Relaxed);
    let harmless = |value: &mut Fragile| value.0 = Arc::default();
    // Drops the replaced version, which panics.
    assert_eq!(snapshot.update(harmless).wait(), Ok(3));
    armed.store(false, Ordering::Relaxed);
    assert_eq!(snapshot.update(harmless).wait(), Ok(4));
}

#[test]
fn panic_in_drop_of_a_closure_ends_there() {
    let snapshot = Snapshot::new(Counted::default());
    let (broken, armed) = (Arc::clone(&snapshot.load().broken), Fragile(Arc::new(AtomicBool::new(true))));
    broken.store(true, Ordering::Relaxed);
    snapshot.defer(move |_| drop(armed));
    let second = snapshot.update(|list| list.entries.push(1));
    assert_eq!(second.wait(), Err(UpdateError::CloneFailed("no copy today".into())));
    broken.store(false, Ordering::Relaxed);
    assert_eq!(snapshot.update(|list| list.entries.push(2)).wait(), Ok(3));
}

#[test]
fn panic_in_subscriber_ends_there() {
    let snapshot = Snapshot::new(Counted::default());
    snapshot.defer(|_| panic!("deliberate"));
    let second = events::panicking(|| snapshot.update(|list| list.entries.push(1)));
    assert_eq!(second.wait(), Ok(2));
    assert_eq!(snapshot.load().entries, [1]);
}

/// Updates that bring each other, awaited by two threads in turn.
struct Chain {
    snapshot: Snapshot<usize>,
    /// The thread that brought the first is back.
    is_back: AtomicBool,
    awaited: AtomicUsize,
    senders: [mpsc::Sender<Update<usize>>; 2],
}

impl Chain {
    const LAST: usize = 10_000;

    fn bring(self: &Arc<Self>, number: usize) {
        let chain = Arc::clone(self);
        let update = self.snapshot.update(move |count| {
            *count = number;
            if number < Self::LAST && !chain.is_back.load(Ordering::Relaxed) {
                chain.bring(number + 1);
                // Not before another thread awaits it.
                while chain.awaited.load(Ordering::Relaxed) < number && !chain.is_back.load(Ordering::Relaxed) {
                    std::thread::yield_now();
                }
            }
        });
        self.senders[number % 2].send(update).unwrap();
    }
}

/// Updates come without an end until the thread that brought the first is back.
#[test]
fn update_leaves_the_rest_to_a_waiting_thread() {
    let (senders, updates): (Vec<_>, Vec<_>) = (0..2).map(|_| mpsc::channel::<Update<usize>>()).unzip();
    let (snapshot, is_back, awaited) = (Snapshot::new(0), AtomicBool::new(false), AtomicUsize::new(0));
    let chain = Chain { snapshot: snapshot.clone(), is_back, awaited, senders: senders.try_into().unwrap() };
    let chain = Arc::new(chain);
    std::thread::scope(|scope| {
        for updates in updates {
            let other = Arc::downgrade(&chain);
            scope.spawn(move || {
                for update in updates {
                    if let Some(chain) = other.upgrade() {
                        chain.awaited.fetch_add(1, Ordering::Relaxed);
                    }
                    update.wait().unwrap();
                }
            });
        }
        chain.bring(1);
        chain.is_back.store(true, Ordering::Relaxed);
        drop(chain);
    });
    assert!((16..Chain::LAST).contains(&*snapshot.load()), "{snapshot:?}");
}

/// Counts how often its task is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Brings updates until this thread leaves the rest.
///
/// That is two updates that were polled once.
fn left_updates(snapshot: &Snapshot<Counted>) -> [(Update<Counted>, Arc<Woken>); 2] {
    /// The batches of one turn.
    const BATCHES: usize = 16;
    type Left = [(Update<Counted>, Arc<Woken>); 2];
    fn bring(snapshot: &Snapshot<Counted>, batch: usize, left: mpsc::Sender<Left>) {
        let inner = snapshot.clone();
        drop(snapshot.update(move |list| {
            list.entries.push(batch);
            if batch < BATCHES {
                return bring(&inner, batch + 1, left);
            }
            let polled = [100, 200].map(|entry| {
                let mut update = inner.update(move |list| list.entries.push(entry));
                let woken = Arc::new(Woken::default());
                let waker: std::task::Waker = Arc::clone(&woken).into();
                assert!(update.poll_unpin(&mut std::task::Context::from_waker(&waker)).is_pending());
                (update, woken)
            });
            drop(left.send(polled));
        }));
    }
    let (left, polled) = mpsc::channel();
    bring(snapshot, 1, left);
    assert_eq!(snapshot.load().entries, (1..=BATCHES).collect::<Vec<_>>());
    polled.recv().unwrap()
}

/// One task keeps its update and does not poll it.
#[test]
fn rest_is_left_to_every_task_that_awaits() {
    let snapshot = Snapshot::new(Counted::default());
    let [(kept, _), (mut polled, woken)] = left_updates(&snapshot);
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    assert_eq!((&mut polled).now_or_never(), Some(Ok(18)));
    assert_eq!(snapshot.load().entries[16..], [100, 200]);
    drop(kept);
}

#[test]
fn dropped_update_applies_what_was_left() {
    let snapshot = Snapshot::new(Counted::default());
    let [first, second] = left_updates(&snapshot);
    drop(first);
    assert_eq!(snapshot.load().entries[16..], [100, 200]);
    drop(second);
}

#[test]
fn wait_inside_update_is_refused() {
    let snapshot = Snapshot::new(0);
    let (inner, result) = (snapshot.clone(), mpsc::channel());
    let update = snapshot.update(move |_| result.0.send(inner.update(|value| *value += 1).wait()).unwrap());
    assert_eq!(update.wait(), Ok(2));
    assert_eq!(result.1.recv().unwrap(), Err(UpdateError::InsideUpdate));
    assert_eq!(*snapshot.load(), 1, "the refused wait leaves the update in the queue");
}

#[test]
fn update_from_many_threads_loses_none() {
    const THREADS: usize = 4;
    const EACH: usize = 500;
    let snapshot = Snapshot::new(Counted::default());
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let snapshot = &snapshot;
            scope.spawn(move || {
                for turn in 0..EACH {
                    let update = snapshot.update(move |list| list.entries.push(thread * EACH + turn));
                    if turn % 7 == 0 {
                        let version = update.wait().unwrap();
                        assert!(snapshot.version() >= version);
                        assert!(snapshot.load().entries.contains(&(thread * EACH + turn)));
                    }
                }
            });
        }
    });
    snapshot.apply_deferred();
    let mut entries = snapshot.load().entries.clone();
    entries.sort_unstable();
    assert_eq!(entries, (0..THREADS * EACH).collect::<Vec<_>>());
}

#[test]
fn readers_see_versions_in_order() {
    let snapshot = Snapshot::new(1_u64);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let mut reader = snapshot.reader();
            scope.spawn(move || {
                let mut last = 0;
                while last < 20_000 {
                    let value = **reader.load();
                    assert_eq!(value, reader.version());
                    assert!(value >= last);
                    last = value;
                }
            });
        }
        (2..=20_000).for_each(|value| assert_eq!(snapshot.publish(value), value));
    });
}

#[test]
fn changed_blocking_ends_at_timeout() {
    let snapshot = Snapshot::new(1);
    let mut reader = snapshot.reader();
    assert_eq!(reader.changed_blocking(Duration::ZERO), Ok(None));
    assert_eq!(reader.changed_blocking(Duration::from_millis(1)), Ok(None));
    std::thread::scope(|scope| {
        scope.spawn(|| snapshot.publish(2));
        assert_eq!(reader.changed_blocking(Duration::MAX), Ok(Some(2)));
    });
}

#[test]
fn load_no_older_than_waits_for_version() {
    let snapshot = Snapshot::new(1);
    let mut reader = snapshot.reader();
    assert_eq!(reader.load_no_older_than(2).now_or_never().map(|loaded| loaded.map(|value| **value)), None);
    snapshot.publish(2);
    assert_eq!(reader.load_no_older_than(2).now_or_never().unwrap().map(|value| **value), Ok(2));
    assert_eq!(reader.load_no_older_than(Duration::MAX).now_or_never().unwrap().map(|value| **value), Ok(2));
    drop(snapshot);
    assert_eq!(reader.load_no_older_than(3).now_or_never().unwrap(), Err(SnapshotClosed));
    assert_eq!(**reader.load(), 2);
}

#[test]
fn age_counts_back_from_the_first_poll() {
    let snapshot = Snapshot::new(1);
    let mut reader = snapshot.reader();
    let mut newest = Box::pin(reader.load_no_older_than(Duration::ZERO));
    assert_eq!(newest.as_mut().now_or_never(), None);
    snapshot.publish(2);
    std::thread::sleep(Duration::from_millis(1));
    assert_eq!(newest.as_mut().now_or_never().unwrap().map(|value| **value), Ok(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_wakes_every_reader() {
    let snapshot = Snapshot::new(0_u64);
    let follow = |mut reader: SnapshotReader<u64>| async move {
        let mut seen = 0;
        while reader.changed().await.is_ok() {
            assert!(**reader.load() > seen);
            seen = **reader.load();
        }
        seen
    };
    let followers: Vec<_> = (0..20).map(|_| tokio::spawn(follow(snapshot.reader()))).collect();
    for value in 1..=200 {
        snapshot.publish(value);
        tokio::task::yield_now().await;
    }
    drop(snapshot);
    for last in join_all(followers).await {
        assert_eq!(last.unwrap(), 200);
    }
}

#[cfg(feature = "tokio")]
#[tokio::test(start_paused = true)]
async fn coalescer_bounds_copies_and_staleness() {
    const GAP: Duration = Duration::from_millis(50);
    let snapshot = Snapshot::new(Counted::default());
    let clones = Arc::clone(&snapshot.load().clones);
    let coalescer = tokio::spawn(snapshot.coalescer(GAP));
    for entry in 0..1000 {
        snapshot.defer(move |list| list.entries.push(entry));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(snapshot);
    coalescer.await.unwrap();
    let copies = clones.load(Ordering::Relaxed);
    assert!((18..=21).contains(&copies), "{copies} copies in one second");
}

/// The last handle goes within the gap, and what was deferred comes first.
#[cfg(feature = "tokio")]
#[tokio::test(start_paused = true)]
async fn deferred_before_the_end_reaches_readers() {
    let snapshot = Snapshot::new(0);
    let (mut reader, mut dependent) = (snapshot.reader(), snapshot.reader());
    let coalescer = tokio::spawn(snapshot.coalescer(Duration::from_millis(50)));
    let follower = tokio::spawn(async move {
        let mut seen = Vec::new();
        while reader.changed().await.is_ok() {
            seen.push(**reader.load());
        }
        seen
    });
    let third = tokio::spawn(async move { dependent.load_no_older_than(3).await.map(|value| **value) });
    snapshot.defer(|value| *value += 1);
    while snapshot.version() < 2 {
        tokio::task::yield_now().await;
    }
    snapshot.defer(|value| *value += 1);
    drop(snapshot);
    assert_eq!(follower.await.unwrap(), [1, 2]);
    assert_eq!(third.await.unwrap(), Ok(2));
    coalescer.await.unwrap();
}

#[cfg(feature = "tokio")]
#[tokio::test(start_paused = true)]
async fn dropped_coalescer_ends_waits() {
    let snapshot = Snapshot::new(0);
    let (mut reader, coalescer) = (snapshot.reader(), snapshot.coalescer(Duration::ZERO));
    snapshot.defer(|value| *value += 1);
    drop(snapshot);
    let mut waiting = pin!(reader.changed());
    assert_eq!(waiting.as_mut().now_or_never(), None, "the coalescer may still be polled");
    drop(coalescer);
    assert_eq!(waiting.now_or_never(), Some(Err(SnapshotClosed)));
}

/// Another applier takes the last closure while the coalescer sleeps.
#[cfg(feature = "tokio")]
#[test]
fn coalescer_ends_beside_another_applier() {
    let poll = |coalescer: &mut Pin<Box<dyn Future<Output = ()> + Send>>, woken: &Arc<Woken>| {
        let waker: std::task::Waker = Arc::clone(woken).into();
        coalescer.as_mut().poll(&mut std::task::Context::from_waker(&waker))
    };
    let snapshot = Snapshot::new(0);
    // Without a gap there is no timer, so no runtime is needed.
    let new = || -> Pin<Box<dyn Future<Output = ()> + Send>> { Box::pin(snapshot.coalescer(Duration::ZERO)) };
    let (mut applying, sleeping, woken) = (new(), Arc::new(Mutex::new(new())), Arc::new(Woken::default()));
    let (inner, other, other_woken) = (snapshot.clone(), Arc::clone(&sleeping), Arc::clone(&woken));
    snapshot.defer(move |value| {
        *value += 1;
        drop(inner.update(|value| *value += 10));
        drop(inner);
        assert!(poll(&mut other.lock().unwrap(), &other_woken).is_pending());
    });
    let mut reader = snapshot.reader();
    drop(snapshot);
    assert!(poll(&mut applying, &Arc::default()).is_pending(), "it yields once");
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    assert!(poll(&mut sleeping.lock().unwrap(), &woken).is_ready());
    assert!(poll(&mut applying, &Arc::default()).is_ready());
    assert_eq!(**reader.load(), 11);
}

/// Defers a closure that defers the next, and so on.
#[cfg(feature = "tokio")]
fn defer_again(snapshot: &Snapshot<Counted>, left: usize) {
    let inner = snapshot.clone();
    snapshot.defer(move |list| {
        list.entries.push(left);
        if left > 1 {
            defer_again(&inner, left - 1);
        }
    });
}

/// Closures that come while one copy is made wait for the next.
#[cfg(feature = "tokio")]
#[tokio::test(start_paused = true)]
async fn coalescer_keeps_its_gap_under_load() {
    let snapshot = Snapshot::new(Counted::default());
    let clones = Arc::clone(&snapshot.load().clones);
    let coalescer = tokio::spawn(snapshot.coalescer(Duration::from_millis(50)));
    defer_again(&snapshot, 2000);
    tokio::time::sleep(Duration::from_secs(1)).await;
    coalescer.abort();
    let copies = clones.load(Ordering::Relaxed);
    assert!((19..=21).contains(&copies), "{copies} copies in one second");
}

#[cfg(feature = "tokio")]
#[tokio::test(start_paused = true)]
async fn coalescer_without_a_gap_lets_tasks_run() {
    let snapshot = Snapshot::new(Counted::default());
    let clones = Arc::clone(&snapshot.load().clones);
    let coalescer = tokio::spawn(snapshot.coalescer(Duration::ZERO));
    defer_again(&snapshot, 2000);
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    coalescer.abort();
    let copies = clones.load(Ordering::Relaxed);
    assert!((2..50).contains(&copies), "{copies} copies in ten turns");
}

/// Counts the copies that a coalescer makes of a closure each millisecond.
#[cfg(feature = "tokio")]
async fn copies(gap: Duration, millis: usize) -> usize {
    let snapshot = Snapshot::new(Counted::default());
    let clones = Arc::clone(&snapshot.load().clones);
    let coalescer = tokio::spawn(snapshot.coalescer(gap));
    for entry in 0..millis {
        snapshot.defer(move |list| list.entries.push(entry));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(snapshot.version(), 1 + clones.load(Ordering::Relaxed) as u64);
    coalescer.abort();
    clones.load(Ordering::Relaxed)
}

#[cfg(feature = "tokio")]
#[tokio::test(start_paused = true)]
async fn coalescer_makes_up_for_late_timers() {
    // tokio's timers round up to a millisecond: gaps of 11 and 10 ms in turn.
    assert_eq!(copies(Duration::from_micros(10_500), 1050).await, 100);
}

#[cfg(feature = "tokio")]
#[tokio::test(start_paused = true)]
async fn coalescer_takes_any_gap() {
    assert_eq!(copies(Duration::MAX, 100).await, 1);
    assert!(copies(Duration::ZERO, 100).await >= 99);
}

#[cfg(feature = "tokio")]
#[tokio::test(start_paused = true)]
async fn coalescer_counts_the_gap_from_quiet_times() {
    let snapshot = Snapshot::new(0);
    let _coalescer = tokio::spawn(snapshot.coalescer(Duration::from_millis(50)));
    let mut reader = snapshot.reader();
    let mut published = Vec::new();
    let began = tokio::time::Instant::now();
    for after in [0, 130, 0] {
        tokio::time::sleep(Duration::from_millis(after)).await;
        snapshot.defer(|value| *value += 1);
        reader.changed().await.unwrap();
        published.push(began.elapsed().as_millis());
    }
    assert_eq!(published, [0, 130, 180]);
}
