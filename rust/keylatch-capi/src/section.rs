//! Sections in which a thread asks for locks while it holds a mutex of this crate.
//!
//! A request that finds a hold whose lease is over revokes it, and tells the function that waits for that. The function may
//! call everything, also what wants the same mutex. So it waits until the section of its thread is over.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;

type Call = Box<dyn FnOnce()>;

#[derive(Default)]
struct Here {
    depth: Cell<u32>,
    waiting: RefCell<Vec<Call>>,
}

thread_local! {
    static HERE: Here = Here::default();
}

/// A section of this thread: begun before the mutex is locked, and ended after it.
pub(crate) struct Section(PhantomData<*const ()>);

impl Section {
    pub(crate) fn begin() -> Self {
        // A thread whose memory is gone has no section, as in `after_section`.
        let _ = HERE.try_with(|here| here.depth.set(here.depth.get() + 1));
        Self(PhantomData)
    }
}

impl Drop for Section {
    fn drop(&mut self) {
        let ended = HERE.try_with(|here| {
            here.depth.set(here.depth.get() - 1);
            if here.depth.get() == 0 { here.waiting.take() } else { Vec::new() }
        });
        ended.into_iter().flatten().for_each(|call| call());
    }
}

/// Makes a call when this thread is in no section: in most cases immediately.
pub(crate) fn after_section(call: impl FnOnce() + 'static) {
    let mut call = Some(Box::new(call) as Call);
    let _ = HERE.try_with(|here| {
        if here.depth.get() > 0 {
            here.waiting.borrow_mut().extend(call.take());
        }
    });
    call.into_iter().for_each(|call| call());
}
