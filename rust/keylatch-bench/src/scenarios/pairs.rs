//! The operation that nearly every figure is about: acquire, nothing, release.

use std::hint::black_box;

use crate::keys::Key;
use crate::subject::{Exclusive, Shared};

/// One exclusive pair that the compiler can neither drop nor look through.
#[inline(always)]
pub(crate) fn exclusive_pair<S: Exclusive>(subject: &S, key: Key<'_>) {
    black_box(subject).exclusive(black_box(key), || black_box(()));
}

/// One shared pair that the compiler can neither drop nor look through.
#[inline(always)]
pub(crate) fn shared_pair<S: Shared>(subject: &S, key: Key<'_>) {
    black_box(subject).shared(black_box(key), || black_box(()));
}
