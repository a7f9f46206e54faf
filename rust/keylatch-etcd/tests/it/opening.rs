//! Bad input and bad clusters: errors that say what to do.

use crate::cluster::{Cluster, etcdctl, free_port};
use keylatch_etcd::{EtcdConfig, EtcdError, EtcdLocks, LockRequest};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::net::TcpListener;
use std::time::{Duration, Instant};

const KEY: (&str, &str) = ("photos", "cat.jpg");

pub(crate) fn refusal(config: EtcdConfig) -> EtcdError {
    EtcdLocks::open(config).expect_err("a refusal")
}

pub(crate) fn works(config: EtcdConfig) {
    let locks = EtcdLocks::open(config).expect("a handle");
    let guard = locks.lock(LockRequest::write(KEY).timeout(Duration::from_secs(30))).blocking().expect("the lock");
    guard.release_blocking(Duration::from_secs(30)).expect("released");
}

#[test]
fn settings_wrong_named() {
    let named = |config| match refusal(config) {
        EtcdError::InvalidConfig { setting, problem } => (setting, problem),
        other => panic!("{other:?}"),
    };
    let good = || EtcdConfig::new(["http://127.0.0.1:1"]);
    assert_eq!(named(EtcdConfig::new([""; 0])).0, "endpoints");
    let (setting, problem) = named(EtcdConfig::new(["10.0.0.1:2379"]));
    assert_eq!((setting, problem.contains("http://10.0.0.1:2379")), ("endpoints", true));
    assert_eq!(named(EtcdConfig::new(["https://10.0.0.1:2379"])).0, "ca_pem");
    assert_eq!(named(good().namespace("a/b")).0, "namespace");
    assert_eq!(named(good().namespace("")).0, "namespace");
    assert_eq!(named(good().ttl(Duration::from_millis(1500))).0, "ttl");
    assert_eq!(named(good().ttl(Duration::ZERO)).0, "ttl");
    let ca = "-----BEGIN CERTIFICATE-----";
    let tls = |ca: &str| EtcdConfig::new(["https://127.0.0.1:1"]).ca_pem(ca);
    assert_eq!(named(tls("no PEM")).0, "ca_pem");
    assert_eq!(named(tls(ca).identity_pem("neither", "nor")).0, "identity_pem");
    assert_eq!(named(tls(ca).identity_pem(ca, "nor")).0, "identity_pem");
    assert_eq!(named(tls(ca).identity_pem(ca, "-----BEGIN PRIVATE KEY-----")).0, "ca_pem or identity_pem");
    assert_eq!(named(good().connect_timeout(Duration::MAX)).0, "connect_timeout");
    assert!(named(EtcdConfig::new(["ftp://10.0.0.1:21"])).1.contains("begins"));
}

#[test]
fn no_member_answers_unreachable() {
    let endpoint = format!("http://127.0.0.1:{}", free_port());
    let error = refusal(EtcdConfig::new([&endpoint]).connect_timeout(Duration::from_millis(200)));
    assert!(matches!(&error, EtcdError::Unreachable { endpoints } if endpoints[0].0 == endpoint), "{error:?}");
    assert!(error.to_string().contains("refused"), "{error}");
}

/// Sockets that take connections and say nothing.
fn silent(count: usize) -> (Vec<TcpListener>, Vec<String>) {
    let sockets: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
    let endpoint = |socket: &TcpListener| format!("http://{}", socket.local_addr().expect("an address"));
    let endpoints = sockets.iter().map(endpoint).collect();
    (sockets, endpoints)
}

/// More of them than the time has room for, each with its whole attempt.
#[test]
fn many_silent_members_unreachable() {
    let (_sockets, named) = silent(9);
    for timeout in [Duration::from_secs(4), Duration::from_millis(700)] {
        let begun = Instant::now();
        let error = refusal(EtcdConfig::new(&named).connect_timeout(timeout));
        assert!(begun.elapsed() >= timeout);
        let EtcdError::Unreachable { endpoints } = &error else { panic!("{error:?}") };
        assert_eq!(endpoints.iter().map(|(name, _)| name).collect::<Vec<_>>(), named.iter().collect::<Vec<_>>());
        let problems = ["no answer", "not tried, the time was over"];
        assert!(endpoints.iter().all(|(_, problem)| problems.contains(&&**problem)), "{error}");
        assert_eq!(endpoints[0].1, "no answer");
        // The short time has room for three, the long one for all.
        assert_eq!(endpoints[8].1, problems[usize::from(timeout < Duration::from_secs(1))]);
    }
}

#[test]
fn many_silent_members_are_passed_over() {
    let Some(cluster) = Cluster::shared() else { return };
    let (_sockets, named) = silent(9);
    works(EtcdConfig::new(named.into_iter().chain(cluster.endpoints())).namespace("silent-first"));
}

#[test]
fn dead_member_first_is_passed_over() {
    let Some(cluster) = Cluster::shared() else { return };
    let dead = format!("http://127.0.0.1:{}", free_port());
    works(EtcdConfig::new([dead].into_iter().chain(cluster.endpoints())).namespace("dead-first"));
}

#[test]
fn prefix_of_others_refused() {
    let Some(cluster) = Cluster::shared() else { return };
    etcdctl(cluster, &["put", "keylatch/1/foreign/settings", "x"]);
    let error = refusal(EtcdConfig::new(cluster.endpoints()).namespace("foreign"));
    assert_eq!(error, EtcdError::PrefixInUse { key: "keylatch/1/foreign/settings".into() });
}

#[test]
fn ttl_below_floor_refused() {
    let Some(cluster) = Cluster::start_with(1, &["--election-timeout", "2000"]) else { return };
    let config = EtcdConfig::new(cluster.endpoints());
    let error = refusal(config.clone().ttl(Duration::from_secs(1)));
    let (asked, floor) = (Duration::from_secs(1), Duration::from_secs(3));
    assert_eq!(error, EtcdError::TtlTooShort { asked, floor });
    works(config.ttl(floor));
}

#[test]
fn epoch_raises_fences() {
    let Some(cluster) = Cluster::shared() else { return };
    let locks = EtcdLocks::open(EtcdConfig::new(cluster.endpoints()).namespace("epoch")).expect("a handle");
    let fence = || locks.lock(LockRequest::write(KEY)).now().expect("free").fence();
    let before = fence();
    etcdctl(cluster, &["put", "keylatch/1/epoch/epoch", "1"]);
    let wait = || locks.lock(LockRequest::write(KEY).timeout(Duration::from_secs(30))).blocking();
    let after = wait().expect("free").fence();
    assert!(after >= 1 << 56 && before < 1 << 56, "{before} {after}");
    etcdctl(cluster, &["put", "keylatch/1/epoch/epoch", "256"]);
    assert!(matches!(wait(), Err(EtcdError::Server { problem }) if problem.contains("0 to 255")));
}

#[test]
fn certificates_wrong_refused() {
    let authority = |name: &str| {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([]).expect("no names");
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("signed");
        (certificate.pem(), Issuer::new(params, key))
    };
    let signed = |issuer: &Issuer<'_, KeyPair>| {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()]).expect("names");
        (params.signed_by(&key, issuer).expect("signed").pem(), key.serialize_pem())
    };
    let ((ca, issuer), (other_ca, other)) = (authority("ours"), authority("another"));
    let folder = std::env::temp_dir().join(format!("keylatch-etcd-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let (server, server_key) = signed(&issuer);
    let flags = [
        "--client-cert-auth".to_owned(),
        format!("--cert-file={}", file("server.pem", &server)),
        format!("--key-file={}", file("server.key", &server_key)),
        format!("--trusted-ca-file={}", file("ca.pem", &ca)),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    if let Some(cluster) = Cluster::start_with(1, &flags) {
        let (mine, key) = signed(&issuer);
        let (strange, strange_key) = signed(&other);
        let config = || EtcdConfig::new(cluster.endpoints()).connect_timeout(Duration::from_secs(20));
        works(config().ca_pem(ca.clone()).identity_pem(mine.clone(), key.clone()));
        for wrong in [
            config().ca_pem(other_ca).identity_pem(mine, key),
            config().ca_pem(ca.clone()).identity_pem(strange, strange_key),
            config().ca_pem(ca),
        ] {
            let error = refusal(wrong);
            assert!(matches!(error, EtcdError::Certificate { .. }), "{error:?}");
        }
    }
    let _ = std::fs::remove_dir_all(&folder);
}
