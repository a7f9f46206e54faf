//! Five workers want the same three layers: each layer is fetched once, and the others wait for it.
#![allow(clippy::print_stdout)]

use keylatch::claim::{ClaimAnswer, ClaimError, Claims};

fn main() -> Result<(), ClaimError> {
    let claims = Claims::new();
    std::thread::scope(|threads| {
        let worker = |name: String| {
            let claims = &claims;
            move || {
                for layer in ["sha256:1", "sha256:2", "sha256:3"] {
                    match claims.run_once(("layers", layer), &name, |_| Ok(format!("fetched by {name}")))? {
                        ClaimAnswer::Ended(_) => println!("{name} fetched {layer}"),
                        ClaimAnswer::Done(outcome) => println!("{name} skips {layer}: {:?}", outcome.result),
                        other => println!("{name} and {layer}: {other:?}"),
                    }
                }
                Ok(())
            }
        };
        let workers: Vec<_> = (1..=5).map(|number| threads.spawn(worker(format!("worker-{number}")))).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("a worker does not panic"))
    })
}
