//! Bodies in and out: JSON with a limit on size and time, and streams of server-sent events.

use super::problem::Problem;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;

/// Bytes of one body.
const MOST_BYTES: usize = 256 * 1024;
/// A client sends its body within this.
const BODY_TIME: Duration = Duration::from_secs(10);

/// A body of JSON that was read whole.
#[derive(Debug)]
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        // A page of another origin can send other types without asking first; this one needs the server's consent.
        let kind = request.headers().get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        let essence = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        if !essence.eq_ignore_ascii_case(b"application/json") {
            let detail = "send JSON with the header Content-Type: application/json";
            return Err(Problem::new("unsupported_type", StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        }
        let read = axum::body::to_bytes(request.into_body(), MOST_BYTES);
        let bytes = match tokio::time::timeout(BODY_TIME, read).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(_)) => {
                let detail = format!("the body is longer than {MOST_BYTES} bytes, or was cut off");
                return Err(Problem::new("body_too_large", StatusCode::PAYLOAD_TOO_LARGE, detail));
            }
            Err(_) => {
                let detail = "the body did not arrive in time";
                return Err(Problem::new("body_too_slow", StatusCode::REQUEST_TIMEOUT, detail));
            }
        };
        read_json(&bytes).map(Self)
    }
}

/// A value from JSON, or what is wrong with it and in which field.
fn read_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let wrong = |error: serde_json::Error| Problem::invalid(format!("the body: {error}"));
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let field = error.path().to_string();
        match field.as_str() {
            // The whole body, or what is no value at all.
            "." | "?" => wrong(error.into_inner()),
            _ => Problem::invalid(format!("the body: {field}: {}", error.inner())),
        }
    })?;
    reader.end().map_err(wrong)?;
    Ok(value)
}

/// A query string.
#[derive(Debug)]
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(value) = Query::from_request_parts(parts, state)
            .await
            .map_err(|error| Problem::invalid(format!("the query string: {}", error.body_text())))?;
        Ok(Self(value))
    }
}

/// Returns an answer of JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    // Room for the answer of a lock, so that it is written without growing.
    let mut body = Vec::with_capacity(256);
    if serde_json::to_writer(&mut body, value).is_err() {
        body.clear();
    }
    let mut response = (status, body).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The sending end of a stream of server-sent events.
#[derive(Debug)]
pub(super) struct EventSender(mpsc::Sender<Bytes>);

/// The client has gone.
#[derive(Debug)]
pub(super) struct Gone;

impl EventSender {
    /// Sends one event; waits while the client reads slowly.
    pub(super) async fn send(&self, event: &str, id: Option<String>, data: &impl Serialize) -> Result<(), Gone> {
        let mut text = String::new();
        if let Some(id) = id {
            text = format!("id: {id}\n");
        }
        // JSON has no line breaks.
        let data = serde_json::to_string(data).unwrap_or_default();
        text += &format!("event: {event}\ndata: {data}\n\n");
        self.send_text(text).await
    }

    /// Sends a part of a stream as it is.
    pub(super) async fn send_text(&self, text: String) -> Result<(), Gone> {
        self.0.send(text.into()).await.map_err(|_| Gone)
    }

    /// Returns when the client has gone.
    pub(super) async fn closed(&self) {
        self.0.closed().await;
    }
}

/// Returns a response that is a stream of server-sent events, and its sending end.
pub(super) fn event_stream() -> (EventSender, Response) {
    // A few: what a slow client has not read stays in the ring.
    let (sender, receiver) = mpsc::channel(4);
    let mut response = Response::new(Body::new(ChannelBody(receiver)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that buffer would hold events back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    (EventSender(sender), response)
}

#[derive(Debug)]
struct ChannelBody(mpsc::Receiver<Bytes>);

impl hyper::body::Body for ChannelBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(hyper::body::Frame::data(bytes))))
    }
}
