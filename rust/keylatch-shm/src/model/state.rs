//! What the model remembers: the shared memory, and where each thread stands.

use super::fault::Fault;
use crate::word::{MemberId, Place, Word};

pub(super) const ENTRIES: usize = 2;
pub(super) const MEMBERS: usize = 4;
pub(super) const THREADS: usize = 4;

/// One operation of a script.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) enum Op {
    Exclusive(u8),
    Shared(u8),
    /// As above, and the waiter may give up at any moment.
    CancelledExclusive(u8),
    CancelledShared(u8),
    /// Only the fast path: the second thread of a process.
    TryExclusive(u8),
    /// Shares, and then becomes the writer; leaves as a reader if another one does so.
    Upgrade(u8),
    /// As above, and it may give up at any moment.
    CancelledUpgrade(u8),
}

impl Op {
    pub(super) fn entry(self) -> usize {
        let (Self::Exclusive(entry)
        | Self::Shared(entry)
        | Self::CancelledExclusive(entry)
        | Self::CancelledShared(entry)
        | Self::TryExclusive(entry)
        | Self::Upgrade(entry)
        | Self::CancelledUpgrade(entry)) = self;
        entry as usize
    }

    pub(super) fn is_exclusive(self) -> bool {
        matches!(self, Self::Exclusive(_) | Self::CancelledExclusive(_) | Self::TryExclusive(_))
    }

    pub(super) fn upgrades(self) -> bool {
        matches!(self, Self::Upgrade(_) | Self::CancelledUpgrade(_))
    }

    pub(super) fn may_cancel(self) -> bool {
        matches!(self, Self::CancelledExclusive(_) | Self::CancelledShared(_) | Self::CancelledUpgrade(_))
    }
}

/// What follows when a turn has been passed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) enum Then {
    Hold,
    Drain,
    ClearLog,
    Sleep,
    RecoverRecord(MemberId, usize),
}

/// What a sleeping thread waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) enum Sleep {
    Turn,
    Drain,
    Upgrade,
}

/// Where a thread stands; each is one access to shared memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) enum Step {
    Idle,
    Fast,
    LateLog,
    Enter,
    ReaderScan(Word),
    ReaderSwap(Word, Option<MemberId>),
    OverflowSet,
    OverflowCheck,
    OverflowScan(Word),
    OverflowSwap(Word, Option<MemberId>),
    OverflowUndo,
    OverflowSignal,
    DrainBell,
    DrainCheck,
    DrainScan(Word),
    DrainClear(Word),
    WaitBell,
    WaitSet,
    WaitQueue,
    LateBell,
    Asleep(Sleep),
    ClearWait(Then),
    CheckTurn(Then),
    Pass(MemberId, usize, Then),
    PassScan(Word, MemberId, usize, Then),
    PassSwap(Word, MemberId, Option<MemberId>, usize, Then),
    SignalTurn(MemberId, usize, Then),
    Validate(MemberId, usize, Then),
    Rescan(usize, Then),
    Hold,
    UpgradeBegin,
    UpgradeSignal(Option<MemberId>),
    UpgradeBell,
    UpgradeLook,
    UpgradeScan(Word),
    UpgradeSwap(Word),
    UpgradeClear,
    UpgradeDrain,
    UpgradeEnd,
    UpgradeEndScan(Word),
    UpgradeEndSwap(Word, Option<MemberId>),
    RoomSet,
    RoomSwap,
    RoomTakenBack,
    RoomSignal(MemberId),
    LeaveOverflow,
    Leave,
    OpenSwap(Word),
    OpenScan,
    OpenSignal(MemberId),
    LeaveScan(Word),
    LeaveSwap(Word, Option<MemberId>),
    SignalWriter(Word, Option<MemberId>, bool),
    ClearLog,
    Announce(MemberId),
    ConfirmDeath(MemberId),
    RecoverNext(MemberId),
    RecoverWait(MemberId, usize),
    RecoverRead(MemberId, usize),
    RecoverLeave(MemberId, usize),
    RecoverScan(MemberId, usize, Word),
    RecoverSwap(MemberId, usize, Word, Option<MemberId>),
    RecoverWriter(MemberId, usize),
    RecoverTurn(MemberId, usize),
    RecoverWakeAll(MemberId, usize),
    RecoverRecord(MemberId, usize),
    Quiet(MemberId),
    Unannounce,
    JoinCheck,
    JoinLive,
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) struct Thread {
    pub(super) member: MemberId,
    pub(super) op: u8,
    pub(super) step: Step,
    pub(super) place: Place,
    /// It waited, so its bit of `wt` may be set.
    pub(super) waited: bool,
    pub(super) saw_death: bool,
    pub(super) gave_up: bool,
    /// It shared, and is the writer.
    pub(super) upgraded: bool,
    /// Other members' entries since it registered.
    pub(super) passed: u8,
    pub(super) registered: bool,
    /// Entries + 1 that its log record names; 0 is a clear record.
    pub(super) record: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) enum Slot {
    Quiet,
    Live,
    Dead,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) struct Member {
    pub(super) alive: bool,
    pub(super) stopped: bool,
    pub(super) slot: Slot,
    pub(super) recovering: Option<MemberId>,
    /// The bell differs from what the member last read.
    pub(super) rung: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub(super) struct State {
    pub(super) words: [Word; ENTRIES],
    pub(super) rd: [u8; ENTRIES],
    pub(super) wt: [u8; ENTRIES],
    pub(super) members: [Member; MEMBERS],
    pub(super) threads: [Thread; THREADS],
    pub(super) crashes: u8,
    pub(super) restarts: u8,
    pub(super) stops: u8,
    /// A writer of the entry died and its successor has not heard of it.
    pub(super) owed: [bool; ENTRIES],
    /// Who had the last turn as a writer, and the open leaves since.
    pub(super) turns: [(Option<MemberId>, u8); ENTRIES],
    /// A property that was broken on the way.
    pub(super) broken: Option<&'static str>,
}

/// What is searched.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    /// The script of each thread and its member's number.
    ///
    /// An empty script is a recoverer's.
    pub(super) scripts: Vec<(u16, Vec<Op>)>,
    pub(super) crashes: u8,
    pub(super) restarts: u8,
    pub(super) stops: u8,
    /// A registration changes the word.
    ///
    /// Without, the ticket has wrapped between a scan and its swap.
    pub(super) tickets: bool,
    /// How often a writer may leave without giving a turn, between two turns.
    pub(super) open_leaves: u8,
    /// This many threads hold at the start.
    pub(super) holding: usize,
    /// How often other members may enter between a registration and the turn.
    ///
    /// 255 is not checked.
    pub(super) bypass_bound: u8,
    pub(super) fault: Option<Fault>,
}

impl Setup {
    pub(super) fn new(scripts: Vec<(u16, Vec<Op>)>, crashes: u8, restarts: u8) -> Self {
        Self {
            scripts,
            crashes,
            restarts,
            stops: 0,
            tickets: false,
            open_leaves: 0,
            holding: 0,
            bypass_bound: u8::MAX,
            fault: None,
        }
    }

    pub(super) fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    pub(super) fn op(&self, state: &State, thread: usize) -> Option<Op> {
        self.scripts[thread].1.get(state.threads[thread].op as usize).copied()
    }
}

pub(super) fn bit(id: MemberId) -> u8 {
    1 << id.index()
}

/// The member after `last` in cyclic order among the bits.
pub(super) fn choose(bits: u8, last: MemberId) -> Option<MemberId> {
    (1..=MEMBERS).map(|step| (last.index() + step) % MEMBERS).find(|index| bits & 1 << index != 0).map(MemberId::at)
}

impl State {
    pub(super) fn new(setup: &Setup) -> Self {
        let idle = Thread {
            member: MemberId::at(0),
            op: 0,
            step: Step::Done,
            place: Place::Word,
            waited: false,
            saw_death: false,
            gave_up: false,
            upgraded: false,
            passed: 0,
            registered: false,
            record: 0,
        };
        let quiet = Member { alive: false, stopped: false, slot: Slot::Quiet, recovering: None, rung: false };
        let mut state = Self {
            words: [Word::FREE; ENTRIES],
            rd: [0; ENTRIES],
            wt: [0; ENTRIES],
            members: [quiet; MEMBERS],
            threads: [idle; THREADS],
            crashes: setup.crashes,
            restarts: setup.restarts,
            stops: setup.stops,
            owed: [false; ENTRIES],
            turns: [(None, 0); ENTRIES],
            broken: None,
        };
        for (thread, (member, _)) in setup.scripts.iter().enumerate() {
            let member = MemberId::new(u64::from(*member)).expect("a member's number");
            state.threads[thread] = Thread { member, step: Step::Idle, ..idle };
            state.members[member.index()] = Member { alive: true, slot: Slot::Live, ..quiet };
        }
        state
    }

    pub(super) fn ring(&mut self, id: MemberId) {
        self.members[id.index()].rung = true;
    }

    /// After whom the next turn goes.
    pub(super) fn last_turn(&self, entry: usize, leaver: MemberId) -> MemberId {
        self.turns[entry].0.unwrap_or(leaver)
    }

    /// Compares and swaps; says whether it did.
    pub(super) fn swap(&mut self, entry: usize, from: Word, to: Word) -> bool {
        let hit = self.words[entry] == from;
        if hit {
            self.words[entry] = to;
        }
        hit
    }

    /// Whether a thread holds the entry, and not because it has upgraded.
    pub(super) fn holds(&self, thread: usize) -> bool {
        let step = self.threads[thread].step;
        match step {
            Step::Hold | Step::Asleep(Sleep::Upgrade) => !self.threads[thread].upgraded,
            Step::UpgradeBegin
            | Step::UpgradeSignal(_)
            | Step::UpgradeBell
            | Step::UpgradeLook
            | Step::UpgradeScan(_)
            | Step::UpgradeSwap(_)
            | Step::UpgradeEnd
            | Step::UpgradeEndScan(_)
            | Step::UpgradeEndSwap(..) => true,
            _ => false,
        }
    }

    pub(super) fn record_of(&self, dead: MemberId) -> Option<(usize, usize)> {
        (0..THREADS)
            .find(|&thread| self.threads[thread].member == dead && self.threads[thread].record != 0)
            .map(|thread| (thread, self.threads[thread].record as usize - 1))
    }
}
