//! Random programs of one thread, against a model so simple that it is right: who holds a key and how, and who waits.

use crate::program::{KEYS, Step, run};
use keylatch::{Fairness, Mode};
use proptest::prelude::*;

fn step() -> impl Strategy<Value = Step> {
    let mode = || prop_oneof![Just(Mode::Shared), Just(Mode::Exclusive)];
    let which = 0..64_usize;
    prop_oneof![
        4 => (0..KEYS, mode()).prop_map(|(key, mode)| Step::Try(key, mode)),
        2 => (0..KEYS, mode(), any::<bool>()).prop_map(|(key, mode, future)| Step::Timeout(key, mode, future)),
        2 => (0..KEYS, mode()).prop_map(|(key, mode)| Step::Poll(key, mode)),
        4 => which.clone().prop_map(Step::Drop),
        2 => which.clone().prop_map(Step::Loosen),
        2 => which.clone().prop_map(Step::Release),
        2 => which.clone().prop_map(Step::StaleRelease),
        1 => which.clone().prop_map(Step::Adopt),
        2 => which.clone().prop_map(Step::Downgrade),
        2 => which.clone().prop_map(Step::TryUpgrade),
        1 => which.prop_map(Step::Upgrade),
        3 => (0..KEYS, mode()).prop_map(|(key, mode)| Step::Wait(key, mode)),
        2 => (0..64_usize).prop_map(Step::Look),
        2 => (0..64_usize).prop_map(Step::Leave),
        2 => (prop::collection::vec((0..KEYS, mode()), 0..6), any::<bool>()).prop_map(|(wanted, best)| Step::Batch(wanted, best)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_thread_program_matches_model(program in prop::collection::vec(step(), 1..120), fifo: bool) {
        run(&program, if fifo { Fairness::Fifo } else { Fairness::default() });
    }

    #[test]
    fn program_of_lost_holds_matches_model(bytes in prop::collection::vec(any::<u8>(), 2..160)) {
        crate::losing::run(&crate::losing::from_bytes(&bytes));
    }
}
