//! Calls over kept-alive connections.

use super::target::{ClientError, Target};
use crate::server::Problem;
use axum::body::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Idle connections that are kept.
const KEPT: usize = 16;
/// A connection is made within this.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Bytes of an answer.
const MOST_BYTES: usize = 64 << 20;

type Sender = SendRequest<Full<Bytes>>;

/// Calls to one server.
#[derive(Debug, Clone)]
pub struct Http {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    target: Target,
    idle: Mutex<Vec<Sender>>,
}

/// An answer that was read whole.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl Answered {
    /// Returns the answer as what it should be, or the problem that it is.
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        let wrong = |error: serde_json::Error| ClientError::Answer(error.to_string());
        if self.status.is_success() {
            return serde_json::from_slice(&self.body).map_err(wrong);
        }
        let problem: Problem = serde_json::from_slice(&self.body)
            .map_err(|_| ClientError::Answer(format!("status {} without a problem document", self.status)))?;
        Err(ClientError::Problem(Box::new(problem)))
    }
}

impl Http {
    /// Makes a caller; connections are made when they are needed.
    #[must_use]
    pub fn new(target: Target) -> Self {
        Self { inner: Arc::new(Inner { target, idle: Mutex::default() }) }
    }

    /// Returns the server.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.inner.target
    }

    /// Sends JSON and reads JSON.
    ///
    /// # Errors
    /// [`ClientError::Problem`] for what the server refuses, [`ClientError::Io`] without an answer.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| ClientError::Answer(error.to_string()))?;
        self.call(Method::POST, path, Some(body.into())).await?.parse()
    }

    /// Reads JSON.
    ///
    /// # Errors
    /// As [`post`](Self::post).
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Method::GET, path, None).await?.parse()
    }

    /// Reads text.
    ///
    /// # Errors
    /// As [`post`](Self::post).
    pub async fn get_text(&self, path: &str) -> Result<String, ClientError> {
        let answered = self.call(Method::GET, path, None).await?;
        if !answered.status.is_success() {
            answered.parse::<serde_json::Value>()?;
        }
        Ok(String::from_utf8_lossy(&answered.body).into_owned())
    }

    /// Ends a session.
    ///
    /// # Errors
    /// As [`post`](Self::post).
    pub async fn end_session(&self, session: &str) -> Result<(), ClientError> {
        let answered = self.call(Method::DELETE, &format!("/v1/sessions/{session}"), None).await?;
        if answered.status.is_success() { Ok(()) } else { answered.parse::<serde_json::Value>().map(drop) }
    }

    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<Bytes>) -> Result<Answered, ClientError> {
        // A kept connection may have been closed by the server meanwhile; then nothing was sent.
        while let Some(mut sender) = self.pop_idle() {
            if sender.ready().await.is_err() {
                continue;
            }
            match sender.try_send_request(self.request(&method, path, body.clone(), None)?).await {
                Ok(response) => return self.read(sender, response).await,
                Err(mut error) => {
                    if error.take_message().is_none() {
                        return Err(ClientError::Io(error.into_error().to_string()));
                    }
                }
            }
        }
        let mut sender = self.connect().await?;
        let request = self.request(&method, path, body, None)?;
        let response = sender.send_request(request).await.map_err(|error| ClientError::Io(error.to_string()))?;
        self.read(sender, response).await
    }

    fn pop_idle(&self) -> Option<Sender> {
        self.inner.idle.lock().pop()
    }

    async fn read(&self, sender: Sender, response: Response<Incoming>) -> Result<Answered, ClientError> {
        let status = response.status();
        let limited = http_body_util::Limited::new(response.into_body(), MOST_BYTES);
        let body = limited.collect().await.map_err(|error| ClientError::Io(error.to_string()))?.to_bytes();
        let mut idle = self.inner.idle.lock();
        if idle.len() < KEPT {
            idle.push(sender);
        }
        drop(idle);
        Ok(Answered { status, body })
    }

    fn request(
        &self,
        method: &Method,
        path: &str,
        body: Option<Bytes>,
        last_event_id: Option<&str>,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut request =
            Request::builder().method(method).uri(path).header(header::HOST, self.inner.target.authority());
        if let Some(token) = &self.inner.target.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        // The token may contain what a header cannot; the error does not show it.
        request.body(Full::new(body.unwrap_or_default())).map_err(|error| ClientError::Io(error.to_string()))
    }

    async fn connect(&self) -> Result<Sender, ClientError> {
        let target = &self.inner.target;
        let connect = async {
            let stream = TcpStream::connect((target.host.as_str(), target.port)).await?;
            stream.set_nodelay(true)?;
            match &target.tls {
                None => handshake(stream).await,
                Some((config, name)) => {
                    let connector = TlsConnector::from(Arc::clone(config));
                    handshake(connector.connect(name.clone(), stream).await?).await
                }
            }
        };
        match tokio::time::timeout(CONNECT_TIME, connect).await {
            Ok(connected) => connected.map_err(|error| ClientError::Io(format!("{}: {error}", target.url()))),
            Err(_) => Err(ClientError::Io(format!("{}: no connection within {CONNECT_TIME:?}", target.url()))),
        }
    }

    /// Opens a stream of server-sent events, on a connection that ends with it.
    ///
    /// # Errors
    /// As [`post`](Self::post).
    pub async fn stream(&self, path: &str, last_event_id: Option<&str>) -> Result<EventStream, ClientError> {
        let mut sender = self.connect().await?;
        let request = self.request(&Method::GET, path, None, last_event_id)?;
        let response = sender.send_request(request).await.map_err(|error| ClientError::Io(error.to_string()))?;
        if response.status().is_success() {
            return Ok(EventStream { _sender: sender, body: response.into_body(), buffer: Vec::new(), last_id: None });
        }
        Err(match self.read(sender, response).await?.parse::<serde_json::Value>() {
            Ok(_) => ClientError::Answer("no stream".into()),
            Err(error) => error,
        })
    }
}

async fn handshake<S>(stream: S) -> std::io::Result<Sender>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
    tokio::spawn(connection);
    Ok(sender)
}

/// One server-sent event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerEvent {
    /// Its type.
    pub event: String,
    /// The last id that came, with it or before it.
    pub id: Option<String>,
    /// Its data.
    pub data: String,
}

impl ServerEvent {
    /// Returns the data as JSON.
    ///
    /// # Errors
    /// [`ClientError::Answer`].
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_str(&self.data).map_err(|error| ClientError::Answer(error.to_string()))
    }
}

/// A stream of server-sent events. Dropping it closes its connection.
#[derive(Debug)]
pub struct EventStream {
    _sender: Sender,
    body: Incoming,
    buffer: Vec<u8>,
    last_id: Option<String>,
}

impl EventStream {
    /// Returns the next event; `None` when the server ended the stream.
    ///
    /// # Errors
    /// [`ClientError::Io`] when the connection was cut.
    pub async fn next(&mut self) -> Result<Option<ServerEvent>, ClientError> {
        loop {
            while let Some(block) = self.take_block() {
                if let Some(event) = self.parse(&block) {
                    return Ok(Some(event));
                }
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(ClientError::Io(error.to_string())),
                Some(Ok(frame)) => self.buffer.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
            }
            if self.buffer.len() > MOST_BYTES {
                return Err(ClientError::Answer("an event is too long".into()));
            }
        }
    }

    /// Returns the last id that came: where another stream goes on.
    #[must_use]
    pub fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    fn take_block(&mut self) -> Option<String> {
        let end = self.buffer.windows(2).position(|pair| pair == b"\n\n")?;
        let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
        Some(String::from_utf8_lossy(&block).into_owned())
    }

    fn parse(&mut self, block: &str) -> Option<ServerEvent> {
        let (mut event, mut data) = (String::from("message"), None::<String>);
        for line in block.lines() {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => event = value.to_owned(),
                "id" => self.last_id = Some(value.to_owned()),
                "data" => data.get_or_insert_default().push_str(value),
                _ => {}
            }
        }
        Some(ServerEvent { event, id: self.last_id.clone(), data: data? })
    }
}
