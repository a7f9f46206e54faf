//! The messages of etcd's v3 interface that this crate uses, with the tags of etcd's own definitions.
//!
//! Written by hand, so that a build needs no protoc. A field that is not used is left out: protobuf skips what it does not
//! know, and a field that is not sent has its default.

mod auth;
mod kv;
mod lease;
mod maintenance;
mod watch;

pub(crate) use auth::{AuthenticateRequest, AuthenticateResponse};
pub(crate) use kv::{
    ASCENDING, BY_CREATION, Compare, DESCENDING, DeleteRangeRequest, DeleteRangeResponse, KeyValue, RangeRequest,
    RangeResponse, RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
};
pub(crate) use lease::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseRevokeRequest,
    LeaseRevokeResponse,
};
pub(crate) use maintenance::{StatusRequest, StatusResponse};
pub(crate) use watch::{
    Event, WatchCancelRequest, WatchCreateRequest, WatchRequest, WatchResponse, event, watch_request,
};
