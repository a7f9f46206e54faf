//! What is remembered of the order in which sessions took locks.

use super::order_graph::OrderGraph;
use crate::config::LockConfig;
use crate::listed::{LockOrderReport, LockOrderReports};
use crate::sync::{Mutex, MutexGuard};
use std::collections::VecDeque;

/// Reports that are kept.
const REMEMBERED: usize = 64;

/// The orders seen so far.
///
/// Its mutex is taken while no other is held, and never on the fast path, which is off.
#[derive(Debug, Default)]
pub(crate) struct LockOrders(Mutex<Memory>);

/// See [`LockOrders`].
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) graph: OrderGraph,
    reports: VecDeque<LockOrderReport>,
    reported: u64,
}

impl LockOrders {
    /// For a manager that is set to look at orders.
    pub(crate) fn if_asked_for(config: &LockConfig) -> Option<Box<Self>> {
        config.lock_order_lint.then(Box::default)
    }

    pub(crate) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock()
    }
}

impl Memory {
    /// Keeps reports in mind.
    pub(crate) fn remember(&mut self, reports: &[LockOrderReport]) {
        self.reported += reports.len() as u64;
        self.reports.extend(reports.iter().cloned());
        let too_many = self.reports.len().saturating_sub(REMEMBERED);
        self.reports.drain(..too_many);
    }
    /// Returns all of it, for people.
    pub(crate) fn reports(&self) -> LockOrderReports {
        LockOrderReports {
            reports: self.reports.iter().cloned().collect(),
            reported: self.reported,
            orders: self.graph.len(),
            forgotten: self.graph.forgotten(),
        }
    }
}
