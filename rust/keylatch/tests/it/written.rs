//! Values as other programs write and read them, with the feature `serde`.

use keylatch::{
    AdaptiveTimeout, Backend, Fairness, FastObjectLockManager, Filter, Grant, KeyRef, LockConfig, LockRequest, Mode,
    ObjectKey, Reentrancy, TopBy, Victim,
};
use proptest::prelude::*;
use serde_json::{from_value, json, to_value};
use std::time::Duration;

#[test]
fn keys_are_written_part_by_part() {
    let latest = ObjectKey::new("photos", "a/b");
    assert_eq!(to_value(&latest).unwrap(), json!({"bucket": "photos", "object": "a/b", "version": null}));
    assert_eq!(to_value(KeyRef::new("photos", "a/b")).unwrap(), to_value(&latest).unwrap());
    assert_eq!(from_value::<ObjectKey>(json!({"bucket": "photos", "object": "a/b"})).unwrap(), latest);
    let odd = ObjectKey::new([0xff, 0], "").with_version("");
    assert_eq!(to_value(&odd).unwrap(), json!({"bucket": [255, 0], "object": "", "version": ""}));
    for wrong in [
        json!({"bucket": "b"}),
        json!({"bucket": "b", "object": 7}),
        json!({"bucket": "b", "object": [256]}),
        json!({"bucket": "b", "object": "o", "versoin": "v"}),
        json!("b/o"),
    ] {
        from_value::<ObjectKey>(wrong.clone()).expect_err(&wrong.to_string());
    }
    let wrong = from_value::<ObjectKey>(json!({"bucket": "b", "object": 7})).unwrap_err().to_string();
    assert!(wrong.contains("a part of a key: a string or bytes"), "{wrong}");
}

proptest! {
    #[test]
    fn any_key_comes_back(bucket: Vec<u8>, object: Vec<u8>, version: Option<Vec<u8>>) {
        let key = ObjectKey::new(bucket, object);
        let key = version.map_or(key.clone(), |version| key.with_version(version));
        prop_assert_eq!(serde_json::from_str::<ObjectKey>(&serde_json::to_string(&key).unwrap()).unwrap(), key);
    }

    /// A float is exact enough for it.
    ///
    /// Below 2^21 seconds, which are 24 days, neighbouring floats are at most 0.24 ns apart. So what is rounded when it is
    /// written, and read from text as a neighbour at worst, is off by less than half a nanosecond.
    #[test]
    fn any_time_of_three_weeks_comes_back(nanos in 0..=Duration::from_secs(21 * 86_400).as_nanos() as u64) {
        let config = LockConfig { lock_delay: Duration::from_nanos(nanos), ..LockConfig::default() };
        let text = serde_json::to_string(&config).unwrap();
        prop_assert_eq!(serde_json::from_str::<LockConfig>(&text).unwrap(), config);
    }
}

#[test]
fn settings_come_from_a_file() {
    assert_eq!(toml::from_str::<LockConfig>("").unwrap(), LockConfig::default());
    let read: LockConfig = toml::from_str(
        r#"
        max_locks = 1_000
        default_timeout = 2.5
        deadlock_delay = "never"
        health_window = 5.0
        fairness.eventual.after = 0.001
        reentrancy = "count"
        victim = "lowest_priority"
        backend = "global"
        adaptive = { factor_per_mille = 3000, ceiling = 1.5 }
        "#,
    )
    .unwrap();
    let expected = LockConfig {
        max_locks: 1_000,
        default_timeout: Some(Duration::from_millis(2_500)),
        deadlock_delay: None,
        health_window: Duration::from_secs(5),
        fairness: Fairness::Eventual { after: Duration::from_millis(1) },
        reentrancy: Reentrancy::Count,
        victim: Victim::LowestPriority,
        backend: Backend::Global,
        adaptive: Some(AdaptiveTimeout {
            factor_per_mille: 3_000,
            ceiling: Duration::from_millis(1_500),
            ..AdaptiveTimeout::default()
        }),
        ..LockConfig::default()
    };
    assert_eq!(read, expected);
    assert_eq!(toml::from_str::<LockConfig>(&toml::to_string(&expected).unwrap()).unwrap(), expected);
    // Whole seconds need no point, and nothing is no time in formats that have it.
    assert_eq!(
        from_value::<LockConfig>(json!({"deadlock_delay": null, "default_timeout": 3, "fairness": "fifo"})).unwrap(),
        LockConfig {
            deadlock_delay: None,
            default_timeout: Some(Duration::from_secs(3)),
            fairness: Fairness::Fifo,
            ..LockConfig::default()
        }
    );
}

#[test]
fn wrong_settings_are_named() {
    for (text, expected) in [
        ("max_lock = 7", "max_locks"),
        ("lock_delay = -1.0", "seconds, as a number from 0"),
        ("default_timeout = -1", "seconds, as a number from 0"),
        ("default_timeout = nan", "seconds, as a number from 0"),
        ("deadlock_delay = \"soon\"", "or \"never\""),
        ("fairness = \"fair\"", "writer_first"),
        ("adaptive.quantile = 3", "quantile_per_mille"),
    ] {
        let error = toml::from_str::<LockConfig>(text).expect_err(text).to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    // Readers of TOML object to the fields of a variant by themselves.
    let misspelt = json!({"fairness": {"eventual": {"after": 1.0, "aftr": 2.0}}});
    let error = from_value::<LockConfig>(misspelt).unwrap_err().to_string();
    assert!(error.contains("unknown field `aftr`"), "{error}");
}

#[test]
fn listings_and_grants_are_written() {
    let locks = FastObjectLockManager::new();
    let lease = Duration::from_secs(3_600);
    let held = locks.lock(LockRequest::write(("b", "o")).owner("indexer").ttl(lease)).grant_blocking().unwrap();
    assert_eq!(from_value::<Grant>(to_value(held).unwrap()).unwrap(), held);
    from_value::<Grant>(json!(0)).unwrap_err();
    let holders = to_value(locks.holders(&Filter::all())).unwrap();
    assert_eq!(holders[0]["key"], json!({"bucket": "b", "object": "o", "version": null}));
    assert_eq!((&holders[0]["mode"], &holders[0]["owner"]), (&json!("exclusive"), &json!("indexer")));
    assert_eq!(holders[0]["grant"].as_u64(), Some(held.to_raw()));
    assert!(holders[0]["lease"].as_f64().unwrap() > 0.0);
    assert_eq!(from_value::<Mode>(holders[0]["mode"].clone()).unwrap(), Mode::Exclusive);
    assert_eq!(to_value(locks.health()).unwrap()["healthy"], json!(true));
    assert_eq!(to_value(locks.top(1, TopBy::Age)).unwrap()[0]["holder"]["owner"], json!("indexer"));
    assert_eq!(to_value(locks.waiters(&Filter::all())).unwrap(), json!([]));
}
