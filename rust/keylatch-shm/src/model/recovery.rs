//! Recovering a dead member, and joining in its slot.

use super::fault::Fault;
use super::state::{Setup, State, Step, THREADS, Then, bit};
use crate::word::{MemberId, Word};

use super::state::Slot;

impl Setup {
    /// A dead member that needs recovery, as a thread that looks finds it.
    pub(super) fn dead_member(&self, s: &State, me: MemberId) -> Option<MemberId> {
        let is_dead = |index: &usize| {
            let member = s.members[*index];
            let false_death = self.has(Fault::FalseDeath) && *index != me.index() && member.slot == Slot::Live;
            (!member.alive && member.slot != Slot::Quiet) || false_death
        };
        (0..super::state::MEMBERS).find(is_dead).map(MemberId::at)
    }

    pub(super) fn run_recovery(&self, s: &mut State, t: usize) -> Step {
        let me = s.threads[t].member;
        match s.threads[t].step {
            Step::Announce(dead) => {
                if !self.has(Fault::NoAnnouncement) {
                    s.members[me.index()].recovering = Some(dead);
                }
                Step::ConfirmDeath(dead)
            }
            Step::ConfirmDeath(dead) => {
                let member = &mut s.members[dead.index()];
                let is_dead = !member.alive || self.has(Fault::NoRecheckOfDeath) || self.has(Fault::FalseDeath);
                if is_dead && member.slot != Slot::Quiet {
                    member.slot = Slot::Dead;
                    Step::RecoverNext(dead)
                } else {
                    Step::Unannounce
                }
            }
            Step::RecoverNext(dead) => match s.record_of(dead) {
                None => Step::Quiet(dead),
                Some((thread, entry)) => {
                    if self.has(Fault::RecordClearedBeforeRecovery) {
                        s.threads[thread].record = 0;
                    }
                    Step::RecoverWait(dead, entry)
                }
            },
            Step::RecoverWait(dead, entry) => {
                s.wt[entry] &= !bit(dead);
                Step::RecoverRead(dead, entry)
            }
            Step::RecoverRead(dead, entry) => {
                s.rd[entry] &= !bit(dead);
                Step::RecoverLeave(dead, entry)
            }
            Step::RecoverLeave(dead, entry) => {
                let v = s.words[entry];
                let to = self.recovered(v, dead);
                if to.needs_turn() && !self.has(Fault::RecoveryWithoutWake) {
                    Step::RecoverScan(dead, entry, v)
                } else {
                    s.words[entry] = to;
                    Step::RecoverWriter(dead, entry)
                }
            }
            Step::RecoverScan(dead, entry, v) => {
                let last = if v.next() == Some(dead) { dead } else { self.last_turn(s, entry, dead) };
                Step::RecoverSwap(dead, entry, v, self.chosen(s.wt[entry], last))
            }
            Step::RecoverSwap(dead, entry, v, choice) => {
                if s.swap(entry, v, self.recovered(v, dead).with_turn(choice)) {
                    Step::RecoverWriter(dead, entry)
                } else {
                    Step::RecoverLeave(dead, entry)
                }
            }
            Step::RecoverWriter(dead, entry) => {
                if let (Some(writer), false) = (s.words[entry].writer(), self.has(Fault::RecoveryWithoutWake)) {
                    s.ring(writer);
                }
                if let Some(upgrader) = self.upgrader_to_signal(s.words[entry]) {
                    s.ring(upgrader);
                }
                Step::RecoverWakeAll(dead, entry)
            }
            Step::RecoverWakeAll(dead, entry) => {
                let trusts = self.has(Fault::RecoveryTrustsQueueBit) && !s.words[entry].has_queue();
                if !trusts && !self.has(Fault::RecoveryWithoutWake) {
                    self.ring_all(s, entry);
                }
                Step::RecoverTurn(dead, entry)
            }
            Step::RecoverTurn(dead, entry) => match s.words[entry].next() {
                Some(id) if !self.has(Fault::RecoveryWithoutWake) => {
                    Step::SignalTurn(id, entry, Then::RecoverRecord(dead, entry))
                }
                _ => Step::RecoverRecord(dead, entry),
            },
            Step::RecoverRecord(dead, entry) => {
                for thread in &mut s.threads {
                    if thread.member == dead && thread.record as usize == entry + 1 {
                        thread.record = 0;
                    }
                }
                Step::RecoverNext(dead)
            }
            Step::Quiet(dead) => {
                s.members[dead.index()].slot = Slot::Quiet;
                if dead == me { Step::JoinLive } else { Step::Unannounce }
            }
            Step::Unannounce => {
                s.members[me.index()].recovering = None;
                Step::Idle
            }
            Step::JoinCheck => {
                if self.has(Fault::JoinWithoutRecovery) {
                    for thread in &mut s.threads {
                        if thread.member == me {
                            thread.record = 0;
                        }
                    }
                    return Step::JoinLive;
                }
                Step::RecoverNext(me)
            }
            Step::JoinLive => {
                let member = &mut s.members[me.index()];
                member.slot = Slot::Live;
                member.recovering = None;
                for t in 0..THREADS {
                    let thread = &mut s.threads[t];
                    if thread.member == me {
                        thread.step = Step::Idle;
                    }
                }
                Step::Idle
            }
            _ => unreachable!("a step of the entry"),
        }
    }

    /// The word without the dead member.
    fn recovered(&self, v: Word, dead: MemberId) -> Word {
        let died = v.writer() == Some(dead) && !self.has(Fault::DeathNotReported);
        let to = if self.has(Fault::RecoveryKeepsUpgrade) { v } else { v.without_upgrade(dead) };
        let to = to.without_writer(dead).without_reader(dead).without_turn(dead);
        if died { to.with_died() } else { to }
    }

    /// Whether a member may go on in the slot that it claimed.
    pub(super) fn may_join(&self, s: &State, me: MemberId) -> bool {
        let announced = s.members.iter().any(|member| member.alive && member.recovering == Some(me));
        !announced || self.has(Fault::JoinIgnoresAnnouncement)
    }
}
