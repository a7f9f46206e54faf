//! The operation that nearly every figure is about: acquire, nothing, release.

use std::hint::black_box;

use crate::keys::{Key, KeySet};
use crate::polling::block_on;
use crate::subject::{BATCH, Batch, Exclusive, ExclusiveAsync, Leasing, Shared};

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

/// One exclusive pair whose hold has a lease.
#[inline(always)]
pub(crate) fn leased_pair<S: Leasing>(subject: &S, key: Key<'_>) {
    black_box(subject).leased(black_box(key), || black_box(()));
}

/// One exclusive pair from a future.
#[inline(always)]
pub(crate) fn awaited_pair<S: ExclusiveAsync>(subject: &S, key: Key<'_>) {
    block_on(black_box(subject).exclusive_async(black_box(key), || black_box(())));
}

/// A batch of the keys from `first` on.
#[inline(always)]
pub(crate) fn batch_of_pairs<S: Batch>(subject: &S, keys: &KeySet, first: usize) {
    let sixteen: [Key<'_>; BATCH] = std::array::from_fn(|number| keys.get(first + number));
    black_box(subject).batch(black_box(&sixteen), || black_box(()));
}
