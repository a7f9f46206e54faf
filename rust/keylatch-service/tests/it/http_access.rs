//! Who may do what: tokens, scopes, TLS, certificates, reload; nothing of it in the log.

use crate::service::{Folder, Got, PATIENCE, Service, name_of, settings};
use keylatch_service::client::{ClientError, Http, Target, TlsClientFiles};
use keylatch_service::server::{Running, ServeError, Settings, TlsFiles, start};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const TOKENS: &str = r#"
[[token]]
name = "builder"
token = "builder-SECRET-0001"
[[token.scope]]
verbs = ["lock", "list"]
bucket = "b"
prefix = "mine/"

[[token]]
name = "viewer"
token = "viewer-SECRET-00002"
expires = 2999-12-31T23:59:59Z
[[token.scope]]
verbs = ["list", "metrics"]

[[token]]
name = "operator"
# "operator-SECRET-003"
sha256 = "OPERATOR"
[[token.scope]]
verbs = ["lock", "list", "force", "metrics"]

[[token]]
name = "former"
token = "former-SECRET-00004"
expires = 2020-01-01T00:00:00+02:00
[[token.scope]]
verbs = ["lock", "list", "force", "metrics"]
"#;

const OPERATOR: &str = "operator-SECRET-003";

fn tokens() -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, OPERATOR.as_bytes());
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    TOKENS.replace("OPERATOR", &hex)
}

async fn with_tokens(folder: &Folder) -> Service {
    Service::with(Settings { tokens: Some(folder.write("tokens.toml", &tokens())), ..settings() }).await
}

async fn call(service: &Service, token: &str, (method, path): (&str, &str), body: &Value) -> Got {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let body = if method == "GET" { String::new() } else { body.to_string() };
    service.raw(method, path, &headers, body.as_bytes()).await
}

fn lock_of(object: &str) -> Value {
    json!({"items": [{"bucket": "b", "object": object}]})
}

#[tokio::test]
async fn scopes_allow_verbs_for_keys_and_nothing_else() {
    let folder = Folder::new();
    let service = with_tokens(&folder).await;
    let (builder, viewer) = ("builder-SECRET-0001", "viewer-SECRET-00002");
    for (token, call_, body, status) in [
        (builder, ("POST", "/v1/lock"), lock_of("mine/1"), 200),
        (builder, ("POST", "/v1/lock"), lock_of("theirs/1"), 403),
        (builder, ("GET", "/v1/locks"), Value::Null, 200),
        (builder, ("GET", "/metrics"), Value::Null, 403),
        (builder, ("POST", "/v1/force-release"), json!({"all": true}), 403),
        (viewer, ("POST", "/v1/lock"), lock_of("mine/2"), 403),
        (viewer, ("POST", "/v1/sessions"), json!({"owner": "v"}), 403),
        (viewer, ("GET", "/v1/locks"), Value::Null, 200),
        (viewer, ("GET", "/metrics"), Value::Null, 200),
        (OPERATOR, ("POST", "/v1/lock"), lock_of("theirs/1"), 200),
        ("former-SECRET-00004", ("GET", "/v1/locks"), Value::Null, 401),
        ("builder-SECRET-0009", ("GET", "/v1/locks"), Value::Null, 401),
        ("", ("GET", "/v1/locks"), Value::Null, 401),
    ] {
        let got = call(&service, token, call_, &body).await;
        assert_eq!(got.status, status, "{token} {call_:?}: {got:?}");
        assert!(!got.body.to_string().contains("SECRET"), "{got:?}");
    }
    assert_eq!(service.get("/v1/locks").await.status, 401);
    assert_eq!(service.get("/healthz").await.status, 200, "a probe needs no token");
    let seen = call(&service, builder, ("GET", "/v1/locks"), &Value::Null).await;
    assert_eq!(seen.body["rows"].as_array().unwrap().len(), 1, "a listing shows what the scope covers: {seen:?}");
    service.stop().await;
}

#[tokio::test]
async fn session_answers_its_own_token_only() {
    let folder = Folder::new();
    let service = with_tokens(&folder).await;
    let opened = call(&service, "builder-SECRET-0001", ("POST", "/v1/sessions"), &json!({"owner": "b"})).await;
    let session = opened.text("session");
    let renew = json!({"session": session});
    let got = call(&service, OPERATOR, ("POST", "/v1/renew"), &renew).await;
    assert_eq!((got.status, got.problem()), (404, "unknown_session"));
    assert_eq!(call(&service, "builder-SECRET-0001", ("POST", "/v1/renew"), &renew).await.status, 200);
    service.stop().await;
}

#[tokio::test]
async fn force_release_stays_within_its_scope() {
    let folder = Folder::new();
    let text = tokens()
        + "[[token]]\nname = \"janitor\"\ntoken = \"janitor-SECRET-0005\"\n\
        [[token.scope]]\nverbs = [\"force\"]\nbucket = \"b\"\nprefix = \"mine/\"\n";
    let service = Service::with(Settings { tokens: Some(folder.write("tokens.toml", &text)), ..settings() }).await;
    for object in ["mine/1", "theirs/1"] {
        assert_eq!(call(&service, OPERATOR, ("POST", "/v1/lock"), &lock_of(object)).await.status, 200);
    }
    let all = json!({"all": true});
    let got = call(&service, "janitor-SECRET-0005", ("POST", "/v1/force-release"), &all).await;
    assert_eq!(got.body["released"].as_array().unwrap().len(), 1);
    assert_eq!(got.body["released"][0]["object"], "mine/1");
    let got = call(&service, OPERATOR, ("POST", "/v1/force-release"), &all).await;
    assert_eq!(got.body["released"][0]["object"], "theirs/1");
    service.stop().await;
}

#[tokio::test]
async fn reload_changes_tokens_or_keeps_the_old() {
    let folder = Folder::new();
    let service = with_tokens(&folder).await;
    let listing = ("GET", "/v1/locks");
    assert_eq!(call(&service, OPERATOR, listing, &Value::Null).await.status, 200);
    folder.write("tokens.toml", "[[token]]\nname = 3\n");
    assert!(matches!(service.running.reload(), Err(ServeError::Access(_))));
    assert_eq!(call(&service, OPERATOR, listing, &Value::Null).await.status, 200);
    let renamed = "[[token]]\nname = \"n\"\ntoken = \"new-SECRET-0000006\"\n[[token.scope]]\nverbs = [\"list\"]\n";
    folder.write("tokens.toml", renamed);
    service.running.reload().unwrap();
    assert_eq!(call(&service, OPERATOR, listing, &Value::Null).await.status, 401);
    assert_eq!(call(&service, "new-SECRET-0000006", listing, &Value::Null).await.status, 200);
    service.stop().await;
}

#[tokio::test]
async fn open_server_listens_on_loopback_only() {
    let refused = start(Settings { listen: "0.0.0.0:0".parse().unwrap(), ..settings() }).await;
    let error = refused.map(Running::abort).unwrap_err();
    assert!(matches!(error, ServeError::Unprotected(_)) && error.to_string().contains("--tokens"), "{error}");
}

/// An authority and files of certificates that it signed.
struct Certificates {
    folder: Folder,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Certificates {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = Folder::new();
        folder.write("roots.pem", &authority.pem());
        Self { folder, authority }
    }

    fn roots(&self) -> PathBuf {
        self.folder.path().join("roots.pem")
    }

    fn sign(&self, name: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        let file = |ending: &str, text: &str| self.folder.write(&format!("{name}.{ending}"), text);
        (file("pem", &certificate.pem()), file("key", &key.serialize_pem()))
    }

    fn settings(&self, client_roots: Option<PathBuf>) -> Settings {
        let (certificate, key) = self.sign("localhost");
        Settings { tls: Some(TlsFiles { certificate, key, client_roots }), ..settings() }
    }

    fn client(&self, running: &Running, identity: Option<(PathBuf, PathBuf)>) -> Http {
        let files = TlsClientFiles { roots: Some(self.roots()), identity };
        let url = format!("https://localhost:{}", running.address().port());
        Http::new(Target::new(&url, None, &files).unwrap())
    }
}

/// Keeps what is logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    fn listen(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let layer = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
        tracing::subscriber::set_default(layer.with_writer(move || log.clone()).finish())
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn refusals_are_logged_without_secrets() {
    let log = Log::default();
    let _listening = log.listen();
    let folder = Folder::new();
    let tokens = Some(folder.write("tokens.toml", &tokens()));
    // The log is this thread's.
    let service = Service::with(Settings { tokens, threads: 1, ..settings() }).await;
    for token in ["unknown-SECRET-0007", "former-SECRET-00004", "builder-SECRET-0001"] {
        call(&service, token, ("POST", "/v1/lock"), &lock_of("theirs/SECRETLESS")).await;
    }
    let text = log.text();
    assert!(text.contains("refused") && text.contains("/v1/lock"), "{text}");
    assert!(text.contains("this token is not known here") && text.contains("this token has expired"), "{text}");
    assert!(!text.replace("SECRETLESS", "").contains("SECRET"), "{text}");
    service.stop().await;
}

#[tokio::test]
async fn tls_serves_and_plain_text_is_refused() {
    let log = Log::default();
    let _listening = log.listen();
    let certificates = Certificates::new();
    let running = start(Settings { threads: 1, ..certificates.settings(None) }).await.unwrap();
    let http = certificates.client(&running, None);
    let opened: Value = http.post("/v1/sessions", &json!({"owner": "a"})).await.unwrap();
    assert!(opened["session"].is_string());

    let mut plain = tokio::net::TcpStream::connect(running.address()).await.unwrap();
    let request = b"GET /v1/locks HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer my-SECRET-token-1\r\n\r\n";
    plain.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, plain.read_to_end(&mut answer)).await.expect("it is closed");
    assert!(ended.is_err() || !answer.starts_with(b"HTTP"), "{answer:?}");
    let text = log.text();
    assert!(text.contains("no TLS handshake") && !text.contains("SECRET"), "{text}");

    let other = Certificates::new();
    let stranger = other.client(&running, None);
    let error = stranger.get::<Value>("/v1/locks").await.unwrap_err();
    assert!(matches!(error, ClientError::Io(_)), "the client does not know this authority: {error}");
    running.abort();
}

#[tokio::test]
async fn client_certificates_are_asked_for_and_checked() {
    let certificates = Certificates::new();
    let running = start(certificates.settings(Some(certificates.roots()))).await.unwrap();
    let known = certificates.client(&running, Some(certificates.sign("client")));
    let opened: Value = known.post("/v1/sessions", &json!({"owner": "a"})).await.unwrap();
    let other = certificates.client(&running, Some(certificates.sign("other")));
    let renew = json!({"session": opened["session"]});
    let error = other.post::<Value>("/v1/renew", &renew).await.unwrap_err();
    assert_eq!(name_of(&error), "unknown_session", "a session answers its own certificate only");
    known.post::<Value>("/v1/renew", &renew).await.unwrap();

    let none = certificates.client(&running, None);
    assert!(matches!(none.get::<Value>("/v1/locks").await, Err(ClientError::Io(_))));
    let others = Certificates::new();
    let foreign = certificates.client(&running, Some(others.sign("foreign")));
    assert!(matches!(foreign.get::<Value>("/v1/locks").await, Err(ClientError::Io(_))));
    running.abort();
}

#[tokio::test]
async fn reload_changes_certificates() {
    let certificates = Certificates::new();
    let settings = certificates.settings(None);
    let running = start(settings.clone()).await.unwrap();
    let later = Certificates::new();
    assert!(matches!(later.client(&running, None).get::<Value>("/healthz").await, Err(ClientError::Io(_))));
    let tls = settings.tls.unwrap();
    std::fs::write(&tls.key, "no key").unwrap();
    assert!(matches!(running.reload(), Err(ServeError::Tls(_))));
    certificates.client(&running, None).get::<Value>("/healthz").await.unwrap();
    let (certificate, key) = later.sign("localhost");
    std::fs::copy(certificate, &tls.certificate).unwrap();
    std::fs::copy(key, &tls.key).unwrap();
    running.reload().unwrap();
    later.client(&running, None).get::<Value>("/healthz").await.unwrap();
    running.abort();
}
