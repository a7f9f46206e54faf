//! Upgrading beside other readers, and a writer that makes room, one access to shared memory a step.

use super::fault::Fault;
use super::state::{Op, Setup, Sleep, State, Step, Then, bit};
use crate::word::{MemberId, Place, Waits, Word};

impl Setup {
    pub(super) fn run_upgrade(&self, s: &mut State, t: usize) -> Step {
        let me = s.threads[t].member;
        let entry = self.op(s, t).map_or(0, Op::entry);
        match s.threads[t].step {
            Step::UpgradeBegin => {
                let v = s.words[entry];
                if v.upgrader().is_some() && !self.has(Fault::SecondUpgradeWaits) {
                    s.threads[t].gave_up = true;
                    return Step::Hold;
                }
                s.words[entry] = v.with_upgrade(me);
                Step::UpgradeSignal(v.writer())
            }
            Step::UpgradeSignal(writer) => {
                if let Some(writer) = writer {
                    s.ring(writer);
                }
                Step::UpgradeBell
            }
            Step::UpgradeBell => {
                s.members[me.index()].rung = false;
                Step::UpgradeLook
            }
            Step::UpgradeLook => {
                let v = s.words[entry];
                let has_others = v.without_reader(me).has_named_readers() && !self.has(Fault::UpgradePassesReaders);
                if v.writer().is_some() || has_others {
                    Step::Asleep(Sleep::Upgrade)
                } else if v.has_overflow() && !self.has(Fault::UpgradeIgnoresOverflow) {
                    Step::UpgradeScan(v)
                } else {
                    Step::UpgradeSwap(v)
                }
            }
            Step::UpgradeScan(v) => {
                if s.rd[entry] & !bit(me) == 0 {
                    Step::UpgradeSwap(v)
                } else {
                    Step::Asleep(Sleep::Upgrade)
                }
            }
            Step::UpgradeSwap(v) => {
                if v.upgrader() == Some(me) && s.swap(entry, v, v.with_upgraded(me)) {
                    Step::UpgradeClear
                } else {
                    Step::UpgradeLook
                }
            }
            Step::UpgradeClear => {
                s.rd[entry] &= !bit(me);
                s.threads[t].place = Place::Word;
                s.threads[t].upgraded = true;
                Step::UpgradeDrain
            }
            Step::UpgradeDrain => {
                let v = s.words[entry];
                s.words[entry] = v.without_died();
                s.threads[t].saw_death |= v.died();
                if s.owed[entry] && !s.threads[t].saw_death {
                    s.broken = Some("an upgraded reader did not hear that a writer died");
                }
                s.owed[entry] = false;
                Step::Hold
            }
            Step::UpgradeEnd => {
                let v = s.words[entry];
                s.threads[t].gave_up = true;
                let to = v.without_upgrade(me);
                if v.upgrader() == Some(me) && to.needs_turn() {
                    Step::UpgradeEndScan(v)
                } else {
                    s.words[entry] = to;
                    Step::Hold
                }
            }
            Step::UpgradeEndScan(v) => Step::UpgradeEndSwap(v, self.chosen(s.wt[entry], self.last_turn(s, entry, me))),
            Step::UpgradeEndSwap(v, choice) => {
                if s.swap(entry, v, v.without_upgrade(me).with_turn(choice)) {
                    self.chose(s, t, choice, entry, Then::Hold)
                } else {
                    Step::UpgradeEnd
                }
            }
            Step::RoomSet => {
                if !self.has(Fault::MakesRoomUnseen) {
                    s.wt[entry] |= bit(me);
                }
                Step::RoomSwap
            }
            Step::RoomSwap => {
                let v = s.words[entry];
                let Some(upgrader) = v.upgrader() else { return Step::RoomTakenBack };
                let to = v.without_writer(me);
                s.words[entry] = if self.tickets { to.registered(Waits::Asleep) } else { to.with_queue() };
                s.threads[t].waited = true;
                Step::RoomSignal(upgrader)
            }
            Step::RoomTakenBack => {
                s.wt[entry] &= !bit(me);
                Step::DrainBell
            }
            Step::RoomSignal(upgrader) => {
                if !self.has(Fault::MakesRoomSilently) {
                    s.ring(upgrader);
                }
                if self.has(Fault::MakesRoomUnseen) { Step::Asleep(Sleep::Turn) } else { Step::Enter }
            }
            _ => self.run_recovery(s, t),
        }
    }

    /// Whether a writer that waits for readers makes room for one that upgrades.
    pub(super) fn makes_room(&self, v: Word) -> bool {
        v.upgrader().is_some() && !self.has(Fault::WriterMakesNoRoom)
    }

    /// Who upgrades, if a leaver has to signal it.
    pub(super) fn upgrader_to_signal(&self, v: Word) -> Option<MemberId> {
        v.upgrader().filter(|_| !self.has(Fault::LeavesUpgradeSilently))
    }
}
