//! Bodies that keep their lock until they are read or dropped.

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::BoxStream;
use keylatch::OwnedLockGuard;
use object_store::{GetResult, GetResultPayload, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A body with the lock of its object.
struct LockedBody {
    body: BoxStream<'static, Result<Bytes>>,
    lock: Option<OwnedLockGuard>,
}

impl Stream for LockedBody {
    type Item = Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let next = this.body.as_mut().poll_next(context);
        if let Poll::Ready(None | Some(Err(_))) = next {
            this.lock = None;
        }
        next
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.body.size_hint()
    }
}

/// The lock of a body that is an open file, for as long as the answer is kept.
#[derive(Clone)]
struct KeptLock(#[expect(dead_code, reason = "it is kept, not read")] Arc<OwnedLockGuard>);

/// Keeps the lock until the body has been read or dropped.
pub(crate) fn keep(result: GetResult, lock: OwnedLockGuard) -> GetResult {
    let GetResult { payload, meta, range, attributes, mut extensions } = result;
    let payload = match payload {
        GetResultPayload::Stream(body) => GetResultPayload::Stream(Box::pin(LockedBody { body, lock: Some(lock) })),
        // An open file is whole whatever becomes of its name: the lock goes with the answer, not with the reading.
        #[allow(unreachable_patterns, reason = "without its feature `fs`, object_store knows streams alone")]
        file => {
            extensions.insert(KeptLock(Arc::new(lock)));
            file
        }
    };
    GetResult { payload, meta, range, attributes, extensions }
}
