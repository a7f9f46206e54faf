//! Events as `tracing` has them. Needs the feature `tracing`.
#![cfg(feature = "tracing")]

use crate::steps::*;
use keylatch::{EventOptions, Fairness, Filter, LockConfig, LockError, LockRequest};
use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Writes down what it receives.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

impl Subscriber for Written {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "keylatch"
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn events_are_traced_while_subscribed() {
    let written = Written::default();
    tracing::subscriber::with_default(written.clone(), || {
        let locks = few_shards(Fairness::Fifo);
        let all = Some(Duration::ZERO);
        let traced = locks.trace_events(EventOptions { wait_above: all, hold_above: all, ..EventOptions::default() });
        let node = locks.owner_with_source("node-7", "replicator");
        let held = locks.acquire_write_lock_blocking("b", "o", node).unwrap();
        let late = LockRequest::read(("b", "o")).owner("late").timeout(Duration::from_millis(1));
        assert!(locks.lock(late).blocking().is_err());
        drop(held);
        drop(traced);
        drop(locks.acquire_write_lock_blocking("b", "o", node).unwrap());
    });
    let lines = written.0.lock().unwrap().clone();
    let [wait, timeout, hold] = &lines[..] else { panic!("{lines:#?}") };
    assert!(wait.starts_with("WARN message=slow wait key=b/o mode=shared owner=late"), "{wait}");
    assert!(wait.ends_with("granted=false"), "{wait}");
    assert!(timeout.starts_with("WARN message=timeout key=b/o mode=shared owner=late"), "{timeout}");
    assert!(timeout.contains("holders=held by node-7 (exclusive"), "{timeout}");
    assert!(
        hold.starts_with("WARN message=slow hold key=b/o mode=exclusive owner=node-7 source=\"replicator\""),
        "{hold}"
    );
}

#[test]
fn orders_that_go_round_are_warned_of() {
    let written = Written::default();
    tracing::subscriber::with_default(written.clone(), || {
        let locks = with(LockConfig { lock_order_lint: true, ..LockConfig::default() });
        let _traced = locks.trace_events(EventOptions::default());
        let session = locks.session("txn-1");
        for [first, second] in [["x", "y"], ["y", "x"]] {
            let _first = locks.lock(LockRequest::write(("b", first)).owner(&session)).blocking().unwrap();
            drop(locks.lock(LockRequest::write(("b", second)).owner(&session)).blocking().unwrap());
        }
    });
    let lines = written.0.lock().unwrap().clone();
    let [order] = &lines[..] else { panic!("{lines:#?}") };
    assert!(order.starts_with(r#"WARN message=orders that go round: txn-1 held "b"/"y" (exclusive)"#), "{order}");
    assert!(order.ends_with("key=b/x"), "{order}");
}

/// A subscriber with a bug.
struct Broken;

impl Subscriber for Broken {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {
        std::panic::resume_unwind(Box::new("meant to"));
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn tracing_subscriber_panic_loses_no_lock() {
    tracing::subscriber::with_default(Broken, || {
        let locks = few_shards(Fairness::Fifo);
        let all = Some(Duration::ZERO);
        let traced = locks.trace_events(EventOptions { wait_above: all, hold_above: all, ..EventOptions::default() });
        let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
        let late = LockRequest::read(("b", "o")).owner("late").timeout(Duration::from_millis(1));
        assert!(matches!(locks.lock(late).blocking(), Err(LockError::Timeout { .. })));
        drop(held);
        let taken = locks.try_acquire_write_lock("b", "o", "next").expect("it was released");
        assert_eq!(locks.force_release(&Filter::all()).len(), 1);
        drop((taken, traced));
        assert_at_rest(&locks);
    });
}
