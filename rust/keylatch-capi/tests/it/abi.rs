//! The layout of every struct and the value of every constant are those of `tests/abi/layout.txt`, which the C tests assert
//! of the header, too. Writes that file when `KEYLATCH_WRITE_LAYOUT` is set (`make abi-baseline`).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The type that a field has, without a value of it.
fn size_of_field<S, F>(_: impl FnOnce(&S) -> &F) -> usize {
    size_of::<F>()
}

macro_rules! structs {
    ($into:ident: $($module:ident::$name:ident { $($field:ident),* $(,)? })*) => {
        $({
            use keylatch_capi::$module::$name as Struct;
            let (whole, align) = (size_of::<Struct>(), align_of::<Struct>());
            writeln!($into, "struct {} {whole} {align}", stringify!($name))?;
            let mut end = 0;
            $(
                let (offset, size) = (std::mem::offset_of!(Struct, $field), size_of_field(|it: &Struct| &it.$field));
                // What is left between fields is never read, and a later field there would not be zero.
                assert_eq!(offset, end, "{} begins after a gap in {}", stringify!($field), stringify!($name));
                end = offset + size;
                writeln!($into, "field {} {} {offset} {size}", stringify!($name), stringify!($field))?;
            )*
            assert_eq!(whole, end, "{} ends with a gap", stringify!($name));
        })*
    };
}

macro_rules! values {
    ($into:ident: $($module:ident { $($name:ident),* $(,)? })*) => {
        $($(writeln!($into, "value {} {}", stringify!($name), keylatch_capi::$module::$name)?;)*)*
    };
}

fn layout() -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    structs! {
        text:
        key::keylatch_key { bucket, bucket_len, object, object_len, version, version_len }
        manager::keylatch_manager_options { struct_size, shards, fairness, fairness_after_ns, default_timeout_ns, max_locks, max_waiters, max_key_bytes, overtake_limit, reentrancy, deadlock_delay_ns, victim, flags, lock_delay_ns, adaptive_quantile_per_mille, adaptive_factor_per_mille, adaptive_floor_ns, adaptive_ceiling_ns, health_window_ns, shared_memory, etcd, etcd_options }
        etcd::keylatch_etcd_options { struct_size, namespace_name, ttl_ns, connect_timeout_ns, ca_file, certificate_file, key_file, server_name, user, password, label }
        owner::keylatch_owner_options { struct_size, source, source_len, flags, reserved }
        options::keylatch_request_options { struct_size, owner, owner_name, owner_name_len, ttl_ns, request_id, priority, flags }
        queue::keylatch_completion { ticket, token, grant, status, reserved }
        batch::keylatch_batch_item { key, mode, reserved }
        listed::keylatch_holder { struct_size, key, owner, owner_len, source, source_len, grant, fence, held_ns, lease_ns, mode, priority, flags, reserved }
        listed::keylatch_waiter { struct_size, key, owner, owner_len, source, source_len, waited_ns, position, mode, priority, flags, more }
        listed::keylatch_chain_link { struct_size, key, owner, owner_len, source, source_len, grant, time_ns, lease_ns, position, link, after, mode, role, blocked_by, flags }
        listed::keylatch_top_key { struct_size, key, waiters, longest_wait_ns, owner, owner_len, source, source_len, grant, held_ns, mode, flags }
        listed::keylatch_tier_hold { struct_size, key, owner, owner_len, process, process_len, since_ns, mode, flags }
        filter::keylatch_filter { struct_size, bucket, bucket_len, key, prefix, prefix_len, owner, owner_len, source, source_len, older_than_ns, mode, flags }
        events::keylatch_event_options { struct_size, wait_above_ns, hold_above_ns, capacity, reserved }
        figures::keylatch_metrics { struct_size, acquisitions, fast, inserted, slow, releases, waits, timeouts, cancelled, refused, wait_ns, max_wait_ns, wait_p50_ns, wait_p90_ns, wait_p99_ns, holders, waiters, entries, bytes, uptime_ns, deadlocks }
        figures::keylatch_wait_bucket { below_ns, waits }
        figures::keylatch_health { struct_size, healthy, reserved, fast_path_rate, timeout_rate, avg_wait_ns }
        figures::keylatch_adaptive { struct_size, timeout_ns, quantile_ns, samples, timeouts, floor_ns, ceiling_ns, times_at_floor, times_at_ceiling }
        shared::keylatch_shared_options { struct_size, label, label_len, default_timeout_ns, keys, members, holds, mode }
        shared::keylatch_shared_hold { struct_size, fence, mode, previous_holder_died, is_valid, reserved }
        shared::keylatch_shared_holder { struct_size, key, owner, owner_len, program, program_len, label, label_len, held_ns, hold, member, pid, mode, reserved }
        claims::keylatch_claims_options { struct_size, retain_ns, retain_count, ring, max_claimants, max_open, max_waiters }
        claim_verbs::keylatch_claim_answer { struct_size, text, fence, ahead, kind, succeeded, attempt, first_in_epoch }
        claim_verbs::keylatch_claim_policy { struct_size, lease_ns, retry_after_ns, max_waiting, max_attempts, flags }
        claim_events::keylatch_claim_event { struct_size, owner, text, epoch, sequence, number, fence, done, total, waiting, kind, succeeded, attempt, has_outcome }
    }
    values! {
        text:
        status { KEYLATCH_OK, KEYLATCH_ETIMEOUT, KEYLATCH_EWOULDBLOCK, KEYLATCH_EDEADLOCK, KEYLATCH_ECANCELLED, KEYLATCH_ECLOSED, KEYLATCH_ENOTHELD, KEYLATCH_ELEASELOST, KEYLATCH_ETABLEFULL, KEYLATCH_EKEY, KEYLATCH_ECONFIG, KEYLATCH_EFORKED, KEYLATCH_EUPGRADE, KEYLATCH_EWAITERS, KEYLATCH_ETIER, KEYLATCH_ESESSION, KEYLATCH_EEPOCH, KEYLATCH_ESTALE, KEYLATCH_ENUMBER, KEYLATCH_EOPEN, KEYLATCH_ESESSIONS, KEYLATCH_ELOGFULL, KEYLATCH_EMEMBERS, KEYLATCH_EFILE, KEYLATCH_EWRONGFILE, KEYLATCH_EDAMAGED, KEYLATCH_EUNSUPPORTED, KEYLATCH_ENULL, KEYLATCH_EINVALID, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE, KEYLATCH_EPANIC, KEYLATCH_ESYSTEM, KEYLATCH_EBUFFER, KEYLATCH_EBUSY, KEYLATCH_EEND }
        library { KEYLATCH_ABI_VERSION, KEYLATCH_STRUCT_KEY, KEYLATCH_STRUCT_MANAGER_OPTIONS, KEYLATCH_STRUCT_OWNER_OPTIONS, KEYLATCH_STRUCT_REQUEST_OPTIONS, KEYLATCH_STRUCT_BATCH_ITEM, KEYLATCH_STRUCT_COMPLETION, KEYLATCH_STRUCT_METRICS, KEYLATCH_STRUCT_HEALTH, KEYLATCH_STRUCT_HOLDER, KEYLATCH_STRUCT_FILTER, KEYLATCH_STRUCT_EVENT_OPTIONS, KEYLATCH_STRUCT_ADAPTIVE, KEYLATCH_STRUCT_WAIT_BUCKET, KEYLATCH_STRUCT_CLAIMS_OPTIONS, KEYLATCH_STRUCT_CLAIM_ANSWER, KEYLATCH_STRUCT_CLAIM_POLICY, KEYLATCH_STRUCT_CLAIM_EVENT, KEYLATCH_STRUCT_SHARED_OPTIONS, KEYLATCH_STRUCT_SHARED_HOLD, KEYLATCH_STRUCT_SHARED_HOLDER, KEYLATCH_STRUCT_WAITER, KEYLATCH_STRUCT_CHAIN_LINK, KEYLATCH_STRUCT_TOP_KEY, KEYLATCH_STRUCT_ETCD_OPTIONS, KEYLATCH_STRUCT_TIER_HOLD }
        key { KEYLATCH_SHARED, KEYLATCH_EXCLUSIVE }
        manager { KEYLATCH_FAIRNESS_EVENTUAL, KEYLATCH_FAIRNESS_FIFO, KEYLATCH_FAIRNESS_WRITER_FIRST, KEYLATCH_FAIRNESS_READER_FIRST, KEYLATCH_REENTRANCY_DENY, KEYLATCH_REENTRANCY_COUNT, KEYLATCH_VICTIM_ASKER, KEYLATCH_VICTIM_YOUNGEST, KEYLATCH_VICTIM_LOWEST_PRIORITY, KEYLATCH_MANAGER_ADAPTIVE, KEYLATCH_MANAGER_LOCK_ORDER, KEYLATCH_MANAGER_READER_SLOTS, KEYLATCH_MANAGER_NO_READER_SLOTS, KEYLATCH_NEVER, KEYLATCH_OVERTAKE_NEVER }
        owner { KEYLATCH_OWNER_SESSION, KEYLATCH_OWNER_RELEASES }
        options { KEYLATCH_WAIT_FOREVER, KEYLATCH_WAIT_DEFAULT, KEYLATCH_BEST_EFFORT }
        grants { KEYLATCH_LOST_EXPIRED, KEYLATCH_LOST_FORCED }
        listed { KEYLATCH_HOLDER_SESSION, KEYLATCH_HOLDER_LEASE, KEYLATCH_HOLDER_LOCK_DELAY, KEYLATCH_WAITER_SESSION, KEYLATCH_WAITER_UPGRADE, KEYLATCH_WAITER_GRANTED, KEYLATCH_LINK_HOLDS, KEYLATCH_LINK_WAITS, KEYLATCH_LINK_SESSION, KEYLATCH_LINK_LEASE, KEYLATCH_LINK_UPGRADE, KEYLATCH_LINK_RUNS, KEYLATCH_LINK_VICTIM, KEYLATCH_TIER_HOLD_WAITS, KEYLATCH_TIER_HOLD_OWN }
        filter { KEYLATCH_FILTER_SESSIONS, KEYLATCH_FILTER_ALL }
        inspect { KEYLATCH_TOP_AGE, KEYLATCH_TOP_WAITERS }
        events { KEYLATCH_EVENT_SLOW_WAIT, KEYLATCH_EVENT_SLOW_HOLD, KEYLATCH_EVENT_TIMEOUT, KEYLATCH_EVENT_DEADLOCK, KEYLATCH_EVENT_EXPIRED, KEYLATCH_EVENT_FORCED, KEYLATCH_EVENT_LOCK_ORDER }
        figures { KEYLATCH_ALL_SHARDS }
        claim_verbs { KEYLATCH_CLAIM_WAITING, KEYLATCH_CLAIM_YOURS, KEYLATCH_CLAIM_DONE, KEYLATCH_CLAIM_ENDED, KEYLATCH_CLAIM_LOST, KEYLATCH_CLAIM_SKIPPED, KEYLATCH_CLAIM_SUPERSEDED, KEYLATCH_CLAIM_CANCELLED, KEYLATCH_CLAIM_SKIP_IF_CLAIMED, KEYLATCH_CLAIM_LATEST_ONLY }
        claim_events { KEYLATCH_CLAIM_EVENT_RESET, KEYLATCH_CLAIM_EVENT_GRANTED, KEYLATCH_CLAIM_EVENT_FAILED, KEYLATCH_CLAIM_EVENT_DONE, KEYLATCH_CLAIM_EVENT_PROGRESS, KEYLATCH_CLAIM_EVENT_FORGOTTEN }
    }
    Ok(text)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn the_layout_is_the_committed_one() {
    let place = root().join("tests/abi/layout.txt");
    let layout = layout().expect("a text can be written to");
    if std::env::var_os("KEYLATCH_WRITE_LAYOUT").is_some() {
        std::fs::write(&place, &layout).expect("the list can be written");
        return;
    }
    let committed = std::fs::read_to_string(&place).expect("the list is there");
    for (number, (has, should)) in committed.lines().zip(layout.lines()).enumerate() {
        assert_eq!(
            has,
            should,
            "line {} of tests/abi/layout.txt; if programs go on working: make abi-baseline",
            number + 1
        );
    }
    assert_eq!(committed, layout, "make abi-baseline");
}

/// Nothing of the header is left out here.
#[test]
fn all_fields_and_constants_are_listed() {
    let header = std::fs::read_to_string(root().join("include/keylatch.h")).expect("the header is there");
    let layout = layout().expect("a text can be written to");
    let listed = |start: String| layout.lines().any(|line| line.starts_with(&start));
    let (mut inside, mut fields, mut values) = (None, 0, 0);
    let mut lines = header.lines();
    while let Some(line) = lines.next() {
        if line.trim_start().starts_with("/*") && !line.contains("*/") {
            lines.by_ref().take_while(|line| !line.contains("*/")).for_each(drop);
        } else if let Some(name) = line.strip_prefix("typedef struct ").and_then(|rest| rest.strip_suffix(" {")) {
            inside = Some(name.to_owned());
        } else if line.starts_with('}') {
            inside = None;
        } else if let (Some(name), Some(declared)) = (&inside, line.strip_suffix(';')) {
            let field = declared.rsplit([' ', '*']).next().unwrap_or_default();
            assert!(listed(format!("field {name} {field} ")), "{name}.{field} is not in this test's list");
            fields += 1;
        } else if let Some((name, value)) = line.strip_prefix("#define ").and_then(|rest| rest.split_once(' ')) {
            // Macros that stand for no value: versions, an attribute, initialisers.
            let is_no_value = name.starts_with("KEYLATCH_VERSION")
                || name == "KEYLATCH_MUST_CHECK"
                || name.split([' ', '(']).next().is_some_and(|name| name.ends_with("_INIT"));
            assert!(is_no_value || listed(format!("value {name} ")), "{name} {value} is not in this test's list");
            values += usize::from(!is_no_value);
        }
    }
    let count = |what: &str| layout.lines().filter(|line| line.starts_with(what)).count();
    assert_eq!(
        (fields, values),
        (count("field "), count("value ")),
        "something is listed that the header does not have"
    );
}
