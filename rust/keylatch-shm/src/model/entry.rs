//! Entering, waiting and leaving, one access to shared memory a step.

use super::fault::Fault;
use super::state::{Op, Setup, Sleep, State, Step, THREADS, Then, bit, choose};
use crate::word::{MemberId, Place, Waits, Word};

impl Setup {
    /// Runs the next access of a thread.
    ///
    /// Recovery and joining are in [`super::recovery`].
    pub(super) fn run(&self, s: &mut State, t: usize) {
        let me = s.threads[t].member;
        let op = self.op(s, t);
        let entry = op.map_or(0, Op::entry);
        let exclusive = op.is_some_and(Op::is_exclusive) || s.threads[t].upgraded;
        let next = match s.threads[t].step {
            Step::Idle => match op {
                None => Step::Done,
                Some(_) => {
                    if !self.has(Fault::LogAfterSwap) {
                        s.threads[t].record = entry as u8 + 1;
                    }
                    Step::Fast
                }
            },
            Step::Fast => {
                let wanted = if exclusive { Word::only_writer(me) } else { Word::only_reader(me) };
                let open = s.words[entry];
                let own_waits = s.wt[entry] & bit(me) != 0;
                if exclusive && open.is_left_open() && !own_waits {
                    s.words[entry] = open.with_writer(me);
                    self.passes(s, t, entry);
                    s.threads[t].place = Place::Word;
                    self.entered(s, t, entry)
                } else if s.swap(entry, Word::FREE, wanted) {
                    if exclusive {
                        self.passes(s, t, entry);
                    }
                    s.threads[t].place = Place::Word;
                    if self.has(Fault::LogAfterSwap) { Step::LateLog } else { self.entered(s, t, entry) }
                } else if matches!(op, Some(Op::TryExclusive(_))) {
                    Step::ClearLog
                } else {
                    Step::Enter
                }
            }
            Step::LateLog => {
                s.threads[t].record = entry as u8 + 1;
                self.entered(s, t, entry)
            }
            Step::Enter => self.enter(s, t, entry, exclusive),
            Step::ReaderScan(v) => {
                let last = if v.next() == Some(me) { me } else { self.last_turn(s, entry, me) };
                Step::ReaderSwap(v, self.chosen(s.wt[entry] & !bit(me), last))
            }
            Step::ReaderSwap(v, choice) => match v.without_turn(me).with_turn(choice).with_reader(me) {
                Some(to) if s.swap(entry, v, to) => {
                    s.threads[t].place = Place::Word;
                    self.entered_reader_turn(s, t, entry, choice)
                }
                _ => Step::Enter,
            },
            Step::OverflowSet => {
                s.rd[entry] |= bit(me);
                Step::OverflowCheck
            }
            Step::OverflowCheck => {
                let v = s.words[entry];
                s.threads[t].place = Place::Overflow;
                if !v.is_open_to(me) && !self.has(Fault::OverflowWithoutRecheck) {
                    Step::OverflowUndo
                } else if v.without_turn(me).needs_turn() && !self.has(Fault::NoBaton) {
                    Step::OverflowScan(v)
                } else {
                    s.words[entry] = v.without_turn(me).with_overflow();
                    self.entered(s, t, entry)
                }
            }
            Step::OverflowScan(v) => {
                let last = if v.next() == Some(me) { me } else { self.last_turn(s, entry, me) };
                Step::OverflowSwap(v, self.chosen(s.wt[entry] & !bit(me), last))
            }
            Step::OverflowSwap(v, choice) => {
                if s.swap(entry, v, v.without_turn(me).with_turn(choice).with_overflow()) {
                    self.entered_reader_turn(s, t, entry, choice)
                } else {
                    Step::OverflowCheck
                }
            }
            Step::OverflowUndo => {
                s.rd[entry] &= !bit(me);
                if self.has(Fault::UndoWithoutWake) { Step::WaitBell } else { Step::OverflowSignal }
            }
            Step::OverflowSignal => {
                if let Some(writer) = s.words[entry].writer() {
                    s.ring(writer);
                }
                if let (Some(upgrader), false) = (s.words[entry].upgrader(), self.has(Fault::UndoForgetsUpgrade)) {
                    s.ring(upgrader);
                }
                Step::WaitBell
            }
            Step::DrainBell => {
                s.members[me.index()].rung = false;
                Step::DrainCheck
            }
            Step::DrainCheck => {
                let v = s.words[entry];
                if v.has_named_readers() {
                    if self.makes_room(v) { Step::RoomSet } else { Step::Asleep(Sleep::Drain) }
                } else if !v.has_overflow() || self.has(Fault::DrainIgnoresOverflow) {
                    s.words[entry] = v.without_died();
                    s.threads[t].saw_death |= v.died();
                    self.entered(s, t, entry)
                } else {
                    Step::DrainScan(v)
                }
            }
            Step::DrainScan(v) => {
                if s.rd[entry] == 0 {
                    Step::DrainClear(v)
                } else if self.makes_room(v) {
                    Step::RoomSet
                } else {
                    Step::Asleep(Sleep::Drain)
                }
            }
            Step::DrainClear(v) => {
                s.swap(entry, v, v.without_overflow());
                Step::DrainCheck
            }
            Step::WaitBell => {
                if !self.has(Fault::BellReadLate) {
                    s.members[me.index()].rung = false;
                }
                Step::WaitSet
            }
            Step::WaitSet => {
                s.wt[entry] |= bit(me);
                s.threads[t].waited = true;
                if self.has(Fault::SleepWithoutRecheck) { Step::Asleep(Sleep::Turn) } else { Step::WaitQueue }
            }
            Step::WaitQueue => {
                let v = s.words[entry];
                if v.is_open_to(me) {
                    Step::Enter
                } else {
                    if !self.has(Fault::SleepWithoutQueueBit) {
                        s.words[entry] = if self.tickets && !self.has(Fault::RegistersWithoutTicket) {
                            v.registered(Waits::Asleep)
                        } else {
                            v.with_queue()
                        };
                    }
                    s.threads[t].registered = true;
                    if self.has(Fault::BellReadLate) { Step::LateBell } else { Step::Asleep(Sleep::Turn) }
                }
            }
            Step::LateBell => {
                s.members[me.index()].rung = false;
                Step::Asleep(Sleep::Turn)
            }
            Step::Asleep(sleep) => match sleep {
                Sleep::Turn => Step::Enter,
                Sleep::Drain => Step::DrainBell,
                Sleep::Upgrade => Step::UpgradeBell,
            },
            Step::ClearWait(then) => {
                s.wt[entry] &= !bit(me);
                s.threads[t].waited = false;
                if self.has(Fault::CancelWithoutCheck) { self.go(s, t, then) } else { Step::CheckTurn(then) }
            }
            Step::CheckTurn(then) => {
                let is_open = s.words[entry].needs_turn() && !self.has(Fault::OpenTurnNotGiven);
                if s.words[entry].next() == Some(me) || is_open {
                    Step::Pass(me, entry, then)
                } else {
                    self.go(s, t, then)
                }
            }
            Step::Pass(gone, entry, then) => {
                let v = s.words[entry];
                if v.next() != Some(gone) && !v.needs_turn() {
                    self.go(s, t, then)
                } else if v.without_turn(gone).needs_turn() {
                    Step::PassScan(v, gone, entry, then)
                } else {
                    s.words[entry] = v.without_turn(gone);
                    self.go(s, t, then)
                }
            }
            Step::PassScan(v, gone, entry, then) => {
                let last = if v.next() == Some(gone) { gone } else { self.last_turn(s, entry, gone) };
                let choice = self.chosen(s.wt[entry] & !bit(gone), last).or(self.again(s, entry, gone));
                Step::PassSwap(v, gone, choice, entry, then)
            }
            Step::PassSwap(v, gone, choice, entry, then) => {
                if s.swap(entry, v, v.without_turn(gone).with_turn(choice)) {
                    self.chose(s, t, choice, entry, then)
                } else {
                    Step::Pass(gone, entry, then)
                }
            }
            Step::SignalTurn(id, entry, then) => {
                s.ring(id);
                if self.has(Fault::ChosenNotValidated) { self.go(s, t, then) } else { Step::Validate(id, entry, then) }
            }
            Step::Validate(id, entry, then) => {
                if s.wt[entry] & bit(id) == 0 {
                    Step::Pass(id, entry, then)
                } else {
                    self.go(s, t, then)
                }
            }
            Step::Rescan(entry, then) => {
                self.ring_all(s, entry);
                self.go(s, t, then)
            }
            Step::Hold => {
                if self.has(Fault::LogClearedFirst) {
                    s.threads[t].record = 0;
                }
                let is_done = s.threads[t].upgraded || s.threads[t].gave_up;
                if op.is_some_and(Op::upgrades) && !is_done {
                    Step::UpgradeBegin
                } else if s.threads[t].place == Place::Overflow {
                    Step::LeaveOverflow
                } else {
                    Step::Leave
                }
            }
            Step::LeaveOverflow => {
                s.rd[entry] &= !bit(me);
                Step::Leave
            }
            Step::Leave => {
                let v = s.words[entry];
                let to = self.left(s, t, v, exclusive);
                let leaves = s.turns[entry].1;
                let may = leaves < self.open_leaves || self.has(Fault::LeavesOpenForEver) && self.open_leaves > 0;
                if exclusive && to.is_left_open() && may {
                    s.turns[entry].1 = (leaves + 1).min(self.open_leaves);
                    Step::OpenSwap(v)
                } else if to.needs_turn() {
                    Step::LeaveScan(v)
                } else {
                    s.words[entry] = to;
                    Step::SignalWriter(to, None, false)
                }
            }
            Step::OpenSwap(v) => {
                let to = self.left(s, t, v, exclusive);
                if s.swap(entry, v, to) {
                    if self.has(Fault::LeavesOpenSilently) { Step::ClearLog } else { Step::OpenScan }
                } else {
                    Step::Leave
                }
            }
            Step::OpenScan => match self.chosen(s.wt[entry], self.last_turn(s, entry, me)) {
                Some(id) => Step::OpenSignal(id),
                None => Step::Pass(me, entry, Then::ClearLog),
            },
            Step::OpenSignal(id) => {
                s.ring(id);
                Step::ClearLog
            }
            Step::LeaveScan(v) => Step::LeaveSwap(v, self.chosen(s.wt[entry], self.last_turn(s, entry, me))),
            Step::LeaveSwap(v, choice) => {
                let to = self.left(s, t, v, exclusive).with_turn(choice);
                if s.swap(entry, v, to) { Step::SignalWriter(to, choice, choice.is_none()) } else { Step::Leave }
            }
            Step::SignalWriter(to, choice, dropped) => {
                if let (Some(writer), false) = (to.writer(), self.has(Fault::ReaderLeavesSilently)) {
                    s.ring(writer);
                }
                if let Some(upgrader) = self.upgrader_to_signal(to) {
                    s.ring(upgrader);
                }
                if dropped || choice.is_some() {
                    self.chose(s, t, choice, entry, Then::ClearLog)
                } else {
                    Step::ClearLog
                }
            }
            Step::ClearLog => {
                let thread = &mut s.threads[t];
                thread.record = 0;
                thread.op += 1;
                thread.saw_death = false;
                thread.gave_up = false;
                thread.upgraded = false;
                Step::Idle
            }
            Step::Done => Step::Done,
            _ => self.run_upgrade(s, t),
        };
        s.threads[t].step = next;
    }

    fn left(&self, s: &State, t: usize, v: Word, exclusive: bool) -> Word {
        let me = s.threads[t].member;
        let to = if exclusive { v.without_writer(me) } else { v };
        let to = if !exclusive && s.threads[t].place == Place::Word { to.without_reader(me) } else { to };
        if s.threads[t].gave_up && self.has(Fault::CancellerClearsOverflow) { to.without_overflow() } else { to }
    }

    fn enter(&self, s: &mut State, t: usize, entry: usize, exclusive: bool) -> Step {
        let me = s.threads[t].member;
        let v = s.words[entry];
        let ignores = self.has(Fault::TurnIgnored) && v.writer().is_none();
        if !v.is_open_to(me) && !ignores {
            return Step::WaitBell;
        }
        if exclusive {
            s.words[entry] = v.with_writer(me);
            self.passes(s, t, entry);
            if v.next() == Some(me) {
                s.turns[entry] = (Some(me), 0);
            }
            return if s.threads[t].waited { Step::ClearWait(Then::Drain) } else { Step::DrainBell };
        }
        if v.without_turn(me).needs_turn() && !self.has(Fault::NoBaton) && v.with_reader(me).is_some() {
            return Step::ReaderScan(v);
        }
        match v.without_turn(me).with_reader(me) {
            Some(to) => {
                s.words[entry] = to;
                s.threads[t].place = Place::Word;
                s.threads[t].saw_death |= v.died();
                self.entered(s, t, entry)
            }
            None => Step::OverflowSet,
        }
    }

    /// Counts an entry for those that wait; a writer's from when it is named.
    fn passes(&self, s: &mut State, t: usize, entry: usize) {
        let me = s.threads[t].member;
        for other in 0..THREADS {
            let thread = &mut s.threads[other];
            let same = self.scripts.get(other).and_then(|script| script.1.get(thread.op as usize)).map(|op| op.entry());
            if thread.registered && thread.member != me && same == Some(entry) && self.bypass_bound != u8::MAX {
                thread.passed += 1;
                if thread.passed > self.bypass_bound {
                    s.broken = Some("a waiter was passed more often than the bound says");
                }
            }
        }
    }

    /// What a thread does that has just become a holder.
    fn entered(&self, s: &mut State, t: usize, entry: usize) -> Step {
        s.threads[t].registered = false;
        s.threads[t].passed = 0;
        let exclusive = self.op(s, t).is_some_and(Op::is_exclusive);
        if !exclusive {
            self.passes(s, t, entry);
        }
        if exclusive && s.owed[entry] {
            if !s.threads[t].saw_death {
                s.broken = Some("a successor did not hear that a writer died");
            }
            s.owed[entry] = false;
        }
        if s.threads[t].waited { Step::ClearWait(Then::Hold) } else { Step::Hold }
    }

    fn entered_reader_turn(&self, s: &mut State, t: usize, entry: usize, choice: Option<MemberId>) -> Step {
        // The baton goes on first; the bit in `wt` is cleared after that.
        let waits = s.threads[t].waited;
        let _ = self.entered(s, t, entry);
        s.threads[t].waited = waits;
        self.chose(s, t, choice, entry, Then::Hold)
    }

    pub(super) fn chose(&self, s: &mut State, t: usize, choice: Option<MemberId>, entry: usize, then: Then) -> Step {
        match choice {
            Some(id) => Step::SignalTurn(id, entry, then),
            None if self.has(Fault::NoRescan) => self.go(s, t, then),
            None => Step::Rescan(entry, then),
        }
    }

    pub(super) fn chosen(&self, bits: u8, last: MemberId) -> Option<MemberId> {
        if self.has(Fault::ChoiceWithoutRotation) {
            return choose(bits, MemberId::at(super::state::MEMBERS - 1));
        }
        choose(bits, last)
    }

    pub(super) fn last_turn(&self, s: &State, entry: usize, leaver: MemberId) -> MemberId {
        if self.has(Fault::TurnAfterLeaver) { leaver } else { s.last_turn(entry, leaver) }
    }

    /// The member itself, when no other waits and it still does.
    fn again(&self, s: &State, entry: usize, gone: MemberId) -> Option<MemberId> {
        (s.wt[entry] & bit(gone) != 0).then_some(gone)
    }

    pub(super) fn ring_all(&self, s: &mut State, entry: usize) {
        for index in 0..super::state::MEMBERS {
            if s.wt[entry] & 1 << index != 0 {
                s.ring(MemberId::at(index));
            }
        }
    }

    pub(super) fn go(&self, s: &State, t: usize, then: Then) -> Step {
        match then {
            Then::Hold if s.threads[t].waited => Step::ClearWait(Then::Hold),
            Then::Hold => Step::Hold,
            Then::Drain => Step::DrainBell,
            Then::ClearLog => Step::ClearLog,
            Then::Sleep => Step::Asleep(Sleep::Turn),
            Then::RecoverRecord(dead, entry) => Step::RecoverRecord(dead, entry),
        }
    }
}
