//! Who does what: made from a seed, the same every time.

use super::event::By;
use super::verdict::Promise;
use keylatch::{Fairness, LockConfig, Mode};
use std::time::Duration;

#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(crate) fairness: Fairness,
    pub(crate) overtake_limit: u32,
    pub(crate) shards: u32,
    pub(crate) keys: usize,
    pub(crate) actors: Vec<Actor>,
}

/// A thread or task.
#[derive(Debug, Clone)]
pub(crate) struct Actor {
    pub(crate) by: By,
    pub(crate) steps: Vec<Step>,
}

/// One request and what comes of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    pub(crate) key: usize,
    pub(crate) mode: Mode,
    pub(crate) priority: u8,
    pub(crate) limit: Option<Duration>,
    /// Gives up after this number of polls; without a future, cancels immediately.
    pub(crate) give_up_after: Option<u32>,
    /// A task that polls again without waiting to be woken.
    pub(crate) restless: bool,
    pub(crate) hold: Holding,
}

/// What is done with the lock.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Holding {
    /// Held for this number of turns of a loop.
    Short(u32),
    /// Held across a pause of the thread.
    Pausing,
    /// From exclusive to shared, and then perhaps back.
    Changing,
    /// As a number, released by another call.
    AsGrant,
}

impl Program {
    /// Returns a mixed crowd on few keys.
    pub(crate) fn mixed(fairness: Fairness, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let keys = [1, 1, 2, 3, 8][dice.roll(5) as usize];
        let kinds =
            [By::Thread, By::Thread, By::Thread, By::Try, By::Task, By::Task, By::Task, By::Callback, By::Queue];
        let actors = kinds.map(|by| Actor { by, steps: (0..150).map(|_| step(&mut dice, keys, by)).collect() });
        let overtake_limit = [0, 1, 4, 64][dice.roll(4) as usize];
        let shards = [1, 2, 16][dice.roll(3) as usize];
        Self { fairness, overtake_limit, shards, keys, actors: actors.into() }
    }

    /// One task in line at a time, beside threads that take the lock when it is free.
    pub(crate) fn overtakers(after: Duration, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let plain =
            |mode, restless, hold| Step { key: 0, mode, priority: 0, limit: None, give_up_after: None, restless, hold };
        let mut actors = vec![Actor { by: By::Task, steps: Vec::new() }];
        actors[0].steps = (0..40).map(|_| plain(dice.mode(), true, Holding::Short(50))).collect();
        actors.extend((0..3).map(|_| {
            let steps = (0..1000).map(|_| {
                // A pause now and then lets the task be in line for longer than it may be overtaken.
                let hold = if dice.roll(4) == 0 { Holding::Pausing } else { Holding::Short(dice.roll(600)) };
                plain(dice.mode(), false, hold)
            });
            Actor { by: By::Try, steps: steps.collect() }
        }));
        Self { fairness: Fairness::Eventual { after }, overtake_limit: 4, shards: 1, keys: 1, actors }
    }

    pub(crate) fn config(&self) -> LockConfig {
        let Self { fairness, overtake_limit, shards, .. } = *self;
        LockConfig { fairness, overtake_limit, shards, reader_slots: true, ..LockConfig::default() }
    }

    pub(crate) fn promise(&self) -> Promise {
        Promise { fairness: self.fairness, overtake_limit: self.overtake_limit as usize, shards: self.shards.into() }
    }
}

fn step(dice: &mut Dice, keys: usize, by: By) -> Step {
    let gives_up = matches!(by, By::Task | By::Callback | By::Queue) && dice.roll(6) == 0;
    Step {
        key: dice.roll(keys as u32) as usize,
        mode: dice.mode(),
        priority: [0, 0, 0, 0, 0, 1, 1, 9][dice.roll(8) as usize],
        limit: (dice.roll(8) == 0).then(|| Duration::from_micros(dice.roll(300).into())),
        give_up_after: gives_up.then(|| 1 + dice.roll(3)),
        restless: gives_up || dice.roll(16) == 0,
        hold: match dice.roll(16) {
            0 => Holding::Pausing,
            1 | 2 => Holding::Changing,
            3 => Holding::AsGrant,
            _ => Holding::Short(dice.roll(300)),
        },
    }
}

/// Numbers that look random: splitmix64, so a seed means one program for ever.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn roll(&mut self, sides: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // The product of two 32-bit numbers, of which the upper half is below the bound.
        (((mixed >> 32) * u64::from(sides)) >> 32) as u32
    }

    fn mode(&mut self) -> Mode {
        if self.roll(3) == 0 { Mode::Shared } else { Mode::Exclusive }
    }
}
