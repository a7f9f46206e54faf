//! Carries out `tests/scenarios/claims/*.json` in Rust; `tests/scenarios/README.md` says what they mean.

use keylatch::claim::{
    ClaimAnswer, ClaimChange, ClaimConfig, ClaimError, ClaimLine, ClaimNotice, ClaimOwned, ClaimOwner, ClaimPolicy,
    ClaimQueue, ClaimWatch, ClaimWhenTaken, Claims, PendingClaim,
};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

/// How long the runner waits for what has to happen.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy)]
enum Way {
    Thread,
    Callback,
    Queue,
}

struct Runner {
    claims: Claims,
    queue: ClaimQueue,
    watch: ClaimWatch,
    way: Way,
    claimants: HashMap<String, ClaimOwner>,
    owned: HashMap<(String, u64), ClaimOwned>,
    events: Vec<&'static str>,
}

/// The fields of a step, each of which has to be taken.
struct Fields(Map<String, Value>);

impl Fields {
    fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name)
    }

    fn text(&mut self, name: &str) -> Option<String> {
        self.take(name).map(|value| value.as_str().expect("a text").to_owned())
    }

    fn number(&mut self, name: &str) -> Option<u64> {
        self.take(name).map(|value| value.as_u64().expect("a number"))
    }

    fn flag(&mut self, name: &str) -> bool {
        self.take(name).is_some_and(|value| value.as_bool().expect("true or false"))
    }
}

#[test]
fn claim_scenarios_pass_by_thread() {
    all_by(Way::Thread);
}

#[test]
fn claim_scenarios_pass_by_callback() {
    all_by(Way::Callback);
}

#[test]
fn claim_scenarios_pass_by_queue() {
    all_by(Way::Queue);
}

#[test]
fn runner_notices_what_goes_otherwise() {
    let claim = json!({ "do": "claim", "by": "a", "number": 1, "expect": { "answer": "yours" } });
    let story = |steps: Value| json!({ "name": "x", "steps": steps });
    assert_eq!(run(&story(json!([claim])), Way::Thread), Ok(()));
    for wrong in [
        json!([{ "do": "dance" }]),
        json!([{ "do": "claim", "by": "a", "number": 1, "expect": { "answer": "waiting" } }]),
        json!([{ "do": "claim", "by": "a", "number": 1, "colour": "red", "expect": { "answer": "yours" } }]),
        json!([claim, { "do": "claim", "by": "a", "number": 1, "expect": { "error": "line_full" } }]),
        json!([claim, { "do": "events", "expect": [] }]),
        json!([{ "do": "forget", "expect": true }]),
    ] {
        assert!(run(&story(wrong.clone()), Way::Thread).is_err(), "{wrong}");
    }
}

fn all_by(way: Way) {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/scenarios/claims");
    let mut passed = 0;
    for entry in std::fs::read_dir(&place).expect("the scenarios are there") {
        let path = entry.expect("the folder can be read").path();
        let text = std::fs::read_to_string(&path).expect("the file can be read");
        let story: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        run(&story, way).unwrap_or_else(|problem| panic!("{path:?} by {way:?}: {problem}"));
        passed += 1;
    }
    assert!(passed >= 19, "only {passed} scenarios were carried out");
}

fn run(story: &Value, way: Way) -> Result<(), String> {
    let mut config = ClaimConfig::default();
    for (name, value) in story["claims"].as_object().into_iter().flatten() {
        let value = value.as_u64().ok_or("a setting is a number")? as usize;
        match name.as_str() {
            "retain_count" => config.retain_count = value,
            "ring" => config.ring = value,
            "max_open" => config.max_open = value,
            "max_claimants" => config.max_sessions = value,
            "max_waiters" => config.max_waiters = value,
            other => return Err(format!("{other} is no setting")),
        }
    }
    let claims = Claims::with_config(config).map_err(|error| error.to_string())?;
    let queue = claims.completion_queue().map_err(|error| error.to_string())?;
    let mut watch = claims.watch(("layers", "x"), None).map_err(|error| error.to_string())?;
    let Ok(Some(ClaimNotice::Reset { .. })) = watch.try_next() else {
        return Err("a watch begins with a reset".into());
    };
    let (claimants, owned, events) = (HashMap::new(), HashMap::new(), Vec::new());
    let mut runner = Runner { claims, queue, watch, way, claimants, owned, events };
    for (number, step) in story["steps"].as_array().ok_or("there are no steps")?.iter().enumerate() {
        let mut fields = Fields(step.as_object().ok_or("a step is an object")?.clone());
        let expected = fields.take("expect").unwrap_or(Value::Null);
        let came = runner.step(&mut fields)?;
        let problem = format!("step {} {step} came to {came}", number + 1);
        if !fields.0.is_empty() || !fits(&expected, &came) {
            return Err(problem);
        }
    }
    Ok(())
}

/// Whether all that is expected came.
fn fits(expected: &Value, came: &Value) -> bool {
    match (expected, came) {
        (Value::Object(expected), Value::Object(came)) => {
            expected.iter().all(|(name, value)| came.get(name) == Some(value))
        }
        (Value::Null, came) => came.is_null(),
        (expected, came) => expected == came,
    }
}

impl Runner {
    fn step(&mut self, fields: &mut Fields) -> Result<Value, String> {
        let verb = fields.text("do").ok_or("there is no do")?;
        let name = fields.text("by");
        let number = fields.number("number").unwrap_or_default();
        let resource = fields.text("resource").unwrap_or_else(|| "x".into());
        if let Some(name) = &name
            && !self.claimants.contains_key(name)
        {
            let owner = self.claims.owner(name).map_err(|error| error.to_string())?;
            self.claimants.insert(name.clone(), owner);
        }
        let name = name.unwrap_or_default();
        Ok(match verb.as_str() {
            "claim" | "wait" => {
                let policy = policy(fields);
                let pending = self.claims.claim(("layers", &resource), &self.claimants[&name], number).policy(policy);
                let settled = if verb == "claim" { pending.now() } else { self.wait(pending) };
                self.note(&name, number, settled)?
            }
            "complete" => {
                let shown = match fields.take("fence_of") {
                    None => (name.clone(), number),
                    Some(of) => (of[0].as_str().unwrap_or_default().into(), of[1].as_u64().unwrap_or_default()),
                };
                let grant = self.owned.get(&shown).ok_or("it never owned the work")?.grant;
                let work = self.claimants[&name].owned(number, grant.fence);
                let (success, failure) = (fields.text("success"), fields.text("failure"));
                let result = match (&success, &failure) {
                    (Some(note), None) => Ok(note.as_str()),
                    (None, Some(reason)) => Err(reason.as_str()),
                    _ => return Err("either success or failure".into()),
                };
                as_value(self.claims.complete(work, result))
            }
            "cancel" => as_value(self.claims.cancel(self.claimants[&name].request(number))),
            "progress" => {
                let (done, total) = (fields.number("done"), fields.number("total"));
                let address = fields.text("address").unwrap_or_default();
                let fence = self.owned.get(&(name.clone(), number)).map_or(1, |owned| owned.grant.fence);
                let work = self.claimants[&name].owned(number, fence);
                plain(self.claims.progress(work, done.unwrap_or(0), total.unwrap_or(0), &address))
            }
            "renew" => {
                let lease = Duration::from_millis(fields.number("lease_ms").ok_or("there is no lease_ms")?);
                let owned = *self.owned.get(&(name, number)).ok_or("it never owned the work")?;
                plain(self.claims.renew(owned, lease))
            }
            "settle_below" => {
                self.claimants[&name].settle_below(fields.number("below").ok_or("there is no below")?);
                Value::Null
            }
            "end" => {
                self.claimants.remove(&name);
                Value::Null
            }
            "force_release" => {
                let ended = self.claims.force_release(("layers", &resource));
                ended.map(|grant| grant.is_some()).map_err(|error| error.to_string())?.into()
            }
            "forget" => self.claims.forget(("layers", &resource)).map_err(|error| error.to_string())?.into(),
            "events" => self.all_events()?,
            other => return Err(format!("{other} is no step")),
        })
    }

    fn wait(&self, pending: PendingClaim) -> Result<ClaimAnswer, ClaimError> {
        match self.way {
            Way::Thread => pending.timeout(PATIENCE).blocking(),
            Way::Callback => {
                let (answer, answered) = mpsc::channel();
                pending.timeout(PATIENCE).with_callback(move |settled| drop(answer.send(settled)))?;
                answered.recv().expect("a callback is called")
            }
            Way::Queue => {
                pending.timeout(PATIENCE).with_queue(&self.queue, 7)?;
                let completion = self.queue.next(None).expect("without a timeout");
                assert_eq!(completion.token, 7);
                completion.result
            }
        }
    }

    /// Notes a grant, which is the one that the request had before.
    fn note(&mut self, name: &str, number: u64, settled: Result<ClaimAnswer, ClaimError>) -> Result<Value, String> {
        if let Ok(ClaimAnswer::Yours(owned)) = &settled
            && let Some(before) = self.owned.insert((name.to_owned(), number), *owned)
            && before != *owned
        {
            return Err(format!("the request had {before:?} and has {owned:?}"));
        }
        Ok(as_value(settled))
    }

    fn all_events(&mut self) -> Result<Value, String> {
        while let Some(notice) = self.watch.try_next().map_err(|error| error.to_string())? {
            let ClaimNotice::Event(event) = notice else { return Err("there was a second reset".into()) };
            self.events.push(match event.change {
                ClaimChange::Granted { .. } => "granted",
                ClaimChange::Failed { .. } => "failed",
                ClaimChange::Done { .. } => "done",
                ClaimChange::Progress { .. } => "progress",
                ClaimChange::Forgotten => "forgotten",
            });
        }
        Ok(json!(self.events))
    }
}

fn policy(fields: &mut Fields) -> ClaimPolicy {
    let time = |given: Option<u64>| given.map(Duration::from_millis);
    ClaimPolicy {
        max_attempts: fields.number("max_attempts").map(|most| most as u32),
        retry_after: time(fields.number("retry_after_ms")).unwrap_or_default(),
        when_taken: if fields.flag("skip_if_claimed") { ClaimWhenTaken::Skip } else { ClaimWhenTaken::Wait },
        line: if fields.flag("latest_only") { ClaimLine::LatestOnly } else { ClaimLine::All },
        max_waiting: fields.number("max_waiting").map(|most| most as usize),
        lease: time(fields.number("lease_ms")),
    }
}

fn plain(result: Result<(), ClaimError>) -> Value {
    result.map_or_else(|error| json!({ "error": error.word() }), |()| Value::Null)
}

fn as_value(settled: Result<ClaimAnswer, ClaimError>) -> Value {
    match settled {
        Err(error) => json!({ "error": error.word() }),
        Ok(ClaimAnswer::Waiting { ahead }) => json!({ "answer": "waiting", "ahead": ahead }),
        Ok(ClaimAnswer::Yours(owned)) => json!({ "answer": "yours", "attempt": owned.attempt }),
        Ok(ClaimAnswer::Done(outcome)) => {
            let text = outcome.result.as_ref().unwrap_or_else(|reason| reason);
            json!({ "answer": "done", "succeeded": outcome.result.is_ok(), "text": &**text })
        }
        Ok(ClaimAnswer::Ended(result)) => {
            let text = result.as_ref().unwrap_or_else(|reason| reason);
            json!({ "answer": "ended", "succeeded": result.is_ok(), "text": &**text })
        }
        Ok(ClaimAnswer::Lost(loss)) => json!({ "answer": "lost", "text": loss.word() }),
        Ok(ClaimAnswer::Skipped { owner }) => json!({ "answer": "skipped", "text": owner.as_deref().unwrap_or("") }),
        Ok(ClaimAnswer::Superseded { .. }) => json!({ "answer": "superseded" }),
        Ok(ClaimAnswer::Cancelled { .. }) => json!({ "answer": "cancelled" }),
    }
}
