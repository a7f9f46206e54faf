//! Keys, ranges and transactions.

/// What every answer begins with.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct ResponseHeader {
    #[prost(uint64, tag = "1")]
    pub(crate) cluster_id: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) member_id: u64,
    #[prost(int64, tag = "3")]
    pub(crate) revision: i64,
    #[prost(uint64, tag = "4")]
    pub(crate) raft_term: u64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct KeyValue {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) key: Vec<u8>,
    #[prost(int64, tag = "2")]
    pub(crate) create_revision: i64,
    #[prost(int64, tag = "3")]
    pub(crate) mod_revision: i64,
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) value: Vec<u8>,
    #[prost(int64, tag = "6")]
    pub(crate) lease: i64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) range_end: Vec<u8>,
    #[prost(int64, tag = "3")]
    pub(crate) limit: i64,
    #[prost(int64, tag = "4")]
    pub(crate) revision: i64,
    /// 0 none, 1 ascending, 2 descending.
    #[prost(int32, tag = "5")]
    pub(crate) sort_order: i32,
    /// 0 key, 1 version, 2 create revision, 3 modification revision, 4 value.
    #[prost(int32, tag = "6")]
    pub(crate) sort_target: i32,
    #[prost(bool, tag = "8")]
    pub(crate) keys_only: bool,
    #[prost(int64, tag = "13")]
    pub(crate) max_create_revision: i64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct RangeResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) header: Option<ResponseHeader>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) kvs: Vec<KeyValue>,
    #[prost(bool, tag = "3")]
    pub(crate) more: bool,
    /// All keys of the range, whatever the limit and the revisions asked for.
    #[prost(int64, tag = "4")]
    pub(crate) count: i64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) value: Vec<u8>,
    #[prost(int64, tag = "3")]
    pub(crate) lease: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct PutResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) header: Option<ResponseHeader>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct DeleteRangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) range_end: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct DeleteRangeResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) header: Option<ResponseHeader>,
    #[prost(int64, tag = "2")]
    pub(crate) deleted: i64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct RequestOp {
    #[prost(oneof = "request_op::Request", tags = "1, 2, 3, 4")]
    pub(crate) request: Option<request_op::Request>,
}

pub(crate) mod request_op {
    use super::{DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest};

    #[derive(Clone, PartialEq, Eq, prost::Oneof)]
    pub(crate) enum Request {
        #[prost(message, tag = "1")]
        Range(RangeRequest),
        #[prost(message, tag = "2")]
        Put(PutRequest),
        #[prost(message, tag = "3")]
        DeleteRange(DeleteRangeRequest),
        #[prost(message, tag = "4")]
        Txn(TxnRequest),
    }
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct ResponseOp {
    #[prost(oneof = "response_op::Response", tags = "1, 2, 3, 4")]
    pub(crate) response: Option<response_op::Response>,
}

pub(crate) mod response_op {
    use super::{DeleteRangeResponse, PutResponse, RangeResponse, TxnResponse};

    #[derive(Clone, PartialEq, Eq, prost::Oneof)]
    pub(crate) enum Response {
        #[prost(message, tag = "1")]
        Range(RangeResponse),
        #[prost(message, tag = "2")]
        Put(PutResponse),
        #[prost(message, tag = "3")]
        DeleteRange(DeleteRangeResponse),
        #[prost(message, tag = "4")]
        Txn(TxnResponse),
    }
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Compare {
    /// 0 equal, 1 greater, 2 less, 3 not equal.
    #[prost(int32, tag = "1")]
    pub(crate) result: i32,
    /// 0 version, 1 create revision, 2 modification revision, 3 value, 4 lease.
    #[prost(int32, tag = "2")]
    pub(crate) target: i32,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) key: Vec<u8>,
    #[prost(oneof = "compare::TargetUnion", tags = "5, 7")]
    pub(crate) target_union: Option<compare::TargetUnion>,
    #[prost(bytes = "vec", tag = "64")]
    pub(crate) range_end: Vec<u8>,
}

pub(crate) mod compare {
    #[derive(Clone, PartialEq, Eq, prost::Oneof)]
    pub(crate) enum TargetUnion {
        #[prost(int64, tag = "5")]
        CreateRevision(i64),
        #[prost(bytes = "vec", tag = "7")]
        Value(Vec<u8>),
    }
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct TxnRequest {
    #[prost(message, repeated, tag = "1")]
    pub(crate) compare: Vec<Compare>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) success: Vec<RequestOp>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) failure: Vec<RequestOp>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct TxnResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) header: Option<ResponseHeader>,
    #[prost(bool, tag = "2")]
    pub(crate) succeeded: bool,
    #[prost(message, repeated, tag = "3")]
    pub(crate) responses: Vec<ResponseOp>,
}

/// `2`: the highest first.
pub(crate) const DESCENDING: i32 = 2;
/// `1`: the lowest first.
pub(crate) const ASCENDING: i32 = 1;
/// `2`: order by create revision.
pub(crate) const BY_CREATION: i32 = 2;

impl RangeRequest {
    /// One key.
    pub(crate) fn key(key: impl Into<Vec<u8>>) -> Self {
        Self { key: key.into(), ..Self::default() }
    }

    /// All keys that begin with a prefix.
    pub(crate) fn prefix(prefix: impl Into<Vec<u8>>) -> Self {
        let key = prefix.into();
        Self { range_end: after_prefix(&key), key, ..Self::default() }
    }
}

/// The first key after all that begin with a prefix.
pub(crate) fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    // etcd reads this as "to the end".
    vec![0]
}

impl RequestOp {
    pub(crate) fn range(request: RangeRequest) -> Self {
        Self { request: Some(request_op::Request::Range(request)) }
    }

    pub(crate) fn put(key: Vec<u8>, value: Vec<u8>, lease: i64) -> Self {
        Self { request: Some(request_op::Request::Put(PutRequest { key, value, lease })) }
    }

    pub(crate) fn delete(key: Vec<u8>) -> Self {
        let request = DeleteRangeRequest { key, ..DeleteRangeRequest::default() };
        Self { request: Some(request_op::Request::DeleteRange(request)) }
    }
}

impl RequestOp {
    /// A transaction within one: it is carried out in the same step.
    pub(crate) fn txn(request: TxnRequest) -> Self {
        Self { request: Some(request_op::Request::Txn(request)) }
    }
}

impl TxnResponse {
    /// The answers, with those of transactions within this one in their places.
    pub(crate) fn leaves(&self) -> impl Iterator<Item = &ResponseOp> {
        self.responses.iter().flat_map(|response| match &response.response {
            Some(response_op::Response::Txn(inner)) => inner.responses.as_slice(),
            _ => std::slice::from_ref(response),
        })
    }

    /// Whether all comparisons held, also those of the transactions within this one.
    pub(crate) fn all_succeeded(&self) -> bool {
        let inner = |response: &ResponseOp| match &response.response {
            Some(response_op::Response::Txn(inner)) => inner.succeeded,
            _ => true,
        };
        self.succeeded && self.responses.iter().all(inner)
    }
}

impl ResponseOp {
    /// The keys that a range found; empty for another kind of answer.
    pub(crate) fn kvs(&self) -> &[KeyValue] {
        match &self.response {
            Some(response_op::Response::Range(found)) => &found.kvs,
            _ => &[],
        }
    }

    /// The number of keys that a deletion found; none for another kind of answer.
    pub(crate) fn deleted(&self) -> Option<i64> {
        match &self.response {
            Some(response_op::Response::DeleteRange(done)) => Some(done.deleted),
            _ => None,
        }
    }
}

impl Compare {
    /// The key was created by this revision; 0 says that it does not exist.
    pub(crate) fn created_at(key: Vec<u8>, revision: i64) -> Self {
        let target_union = Some(compare::TargetUnion::CreateRevision(revision));
        Self { result: 0, target: 1, key, target_union, range_end: Vec::new() }
    }

    /// No key begins with this prefix.
    pub(crate) fn none_below(prefix: &[u8]) -> Self {
        Self { range_end: after_prefix(prefix), ..Self::created_at(prefix.to_vec(), 0) }
    }

    /// All keys with this prefix, at least one, were created by this revision.
    pub(crate) fn only_below(prefix: &[u8], revision: i64) -> Self {
        Self { range_end: after_prefix(prefix), ..Self::created_at(prefix.to_vec(), revision) }
    }

    /// The key has this value.
    pub(crate) fn value(key: Vec<u8>, value: Vec<u8>) -> Self {
        let target_union = Some(compare::TargetUnion::Value(value));
        Self { result: 0, target: 3, key, target_union, range_end: Vec::new() }
    }

    /// The key has a value before this one; it does not hold without the key.
    pub(crate) fn value_below(key: Vec<u8>, value: Vec<u8>) -> Self {
        Self { result: 2, ..Self::value(key, value) }
    }
}
