//! The 64-bit word that is the lock of one entry: it names its holders.
//!
//! ```text
//!  63..55    54      53   52   51   50    49    48   47..36  35..24   23..12   11..0
//! +--------+-------+----+----+----+------+-----+---+-------+-------+--------+-------+
//! | ticket | AWAKE | UP | M1 | M0 | DIED | OVF | Q |  r1   |  r0   | writer | next  |
//! +--------+-------+----+----+----+------+-----+---+-------+-------+--------+-------+
//! ```
//!
//! A name is a member id, 1 to 4095; 0 names no member. Only a member, or a process that recovers it once it is dead,
//! writes or removes that member's name.
//!
//! | field | meaning | who changes it |
//! |---|---|---|
//! | `next` | member whose turn it is; all others stay out | a leaver puts a waiting member in; that member, its recoverer, or a waiter that lost patience takes it out |
//! | `writer` | member that holds exclusively, or drains the readers before it does | that member or its recoverer |
//! | `r0`, `r1` | members that share | that member or its recoverer |
//! | Q | a bit of `wt` may be set | a waiter sets it; a leaver that finds no waiter clears it |
//! | ticket | counts registrations while Q is set, so that a leaver's swap fails when a waiter came after its scan | as Q |
//! | OVF | a bit of `rd` may be set | a reader that finds `r0` and `r1` taken sets it; a writer that has drained clears it |
//! | DIED | a writer died since the last exclusive hold | a recoverer sets it; the next exclusive holder clears it |
//! | M0, M1 | several threads of the member in `r0`, `r1` share its name | that member, under its own mutex of the entry |
//! | AWAKE | the last waiter that registered looks at the word now; a hint | as Q |
//! | UP | `next` is a reader that upgrades; none but it goes on | that reader sets it; it, its recoverer, or a revoker of its hold clears both |
//!
//! | legal state | entered by | why no wake-up is lost |
//! |---|---|---|
//! | all zero | the last leaver | there is no waiter whose bit was seen |
//! | `writer`, no readers | swap from zero or Q, or the end of draining | leaving with Q chooses a `next` in the same swap, or leaves Q |
//! | `writer` and readers or OVF | a writer that came while readers hold | each leaving reader signals `writer` |
//! | readers, `next` zero, Q clear | readers | a writer enters the word instead of waiting for a turn |
//! | readers or none, `next` set | leaving or entering with Q set | the chooser signals `next`, or its recoverer does |
//! | Q alone | a writer that leaves without giving a turn | it signals the waiter whose turn comes next, after its swap |
//! | readers, UP and `next` set | a reader that upgrades | each leaver signals `next` |
//! | the same with `writer` | as above, while a writer waits for readers | that writer is signalled, and goes back in line |
//!
//! Invariant: Q set, and `writer` and `next` zero, is the work of a writer that leaves. It does so a bounded number of times
//! between two turns, and a newcomer may enter once each time. No other newcomer passes a waiter.
//! Invariant: `writer` set without UP implies `next` zero.

use std::fmt;

/// A member's name in words, bitmaps and the table of members; never zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct MemberId(u16);

/// Ids fit a field of the word.
pub(crate) const MAX_MEMBERS: u16 = (1 << FIELD_BITS) - 1;

const FIELD_BITS: u32 = 12;
const FIELD: u64 = (1 << FIELD_BITS) - 1;
const NEXT: u32 = 0;
const WRITER: u32 = 12;
const R0: u32 = 24;
const R1: u32 = 36;
const Q: u64 = 1 << 48;
const OVF: u64 = 1 << 49;
const DIED: u64 = 1 << 50;
const M0: u64 = 1 << 51;
const M1: u64 = 1 << 52;
const UP: u64 = 1 << 53;
const AWAKE: u64 = 1 << 54;
const TICKET_ONE: u64 = 1 << 55;
const TICKETS: u64 = !(TICKET_ONE - 1);

const _: () = assert!(R1 + FIELD_BITS == 48 && Q | OVF | DIED | M0 | M1 | UP | AWAKE | TICKETS == !((1 << 48) - 1));

impl MemberId {
    /// Returns the member with this number; `None` for 0 and for too large numbers.
    pub(crate) const fn new(number: u64) -> Option<Self> {
        if number == 0 || number > MAX_MEMBERS as u64 { None } else { Some(Self(number as u16)) }
    }

    #[inline(always)]
    pub(crate) const fn number(self) -> u16 {
        self.0
    }

    /// Its bit in a bitmap of members, and its place in the table of members.
    #[inline(always)]
    pub(crate) const fn index(self) -> usize {
        self.0 as usize - 1
    }

    /// The member of this place.
    pub(crate) fn at(index: usize) -> Self {
        Self(u16::try_from(index + 1).expect("a table has at most 4095 members"))
    }
}

/// Whether the name of a reader stands in the word or in the bitmap `rd`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) enum Place {
    Word,
    Overflow,
}

/// Whether a waiter looks at the word for a while, or sleeps next.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) enum Waits {
    Awake,
    Asleep,
}

/// A value of the word.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Word(pub(crate) u64);

impl Word {
    pub(crate) const FREE: Self = Self(0);

    /// Returns the word of an exclusive holder without any other use.
    #[inline(always)]
    pub(crate) const fn only_writer(me: MemberId) -> Self {
        Self((me.0 as u64) << WRITER)
    }

    /// The same for one that a single thread shares.
    #[inline(always)]
    pub(crate) const fn only_reader(me: MemberId) -> Self {
        Self((me.0 as u64) << R0)
    }

    #[inline(always)]
    const fn field(self, shift: u32) -> u64 {
        (self.0 >> shift) & FIELD
    }

    const fn with_field(self, shift: u32, id: u64) -> Self {
        Self(self.0 & !(FIELD << shift) | id << shift)
    }

    const fn named(self, shift: u32) -> Option<MemberId> {
        MemberId::new(self.field(shift))
    }

    pub(crate) const fn next(self) -> Option<MemberId> {
        self.named(NEXT)
    }

    pub(crate) const fn writer(self) -> Option<MemberId> {
        self.named(WRITER)
    }

    pub(crate) const fn readers(self) -> [Option<MemberId>; 2] {
        [self.named(R0), self.named(R1)]
    }

    pub(crate) const fn has_queue(self) -> bool {
        self.0 & Q != 0
    }

    pub(crate) const fn has_overflow(self) -> bool {
        self.0 & OVF != 0
    }

    pub(crate) const fn died(self) -> bool {
        self.0 & DIED != 0
    }

    /// Whether no step makes such a word.
    pub(crate) const fn is_damaged(self) -> bool {
        let ticket_without_queue = self.0 & (AWAKE | TICKETS) != 0 && !self.has_queue();
        let is_upgraded = self.0 & UP != 0;
        let upgrade_without_name = is_upgraded && self.field(NEXT) == 0;
        let turn_beside_writer = !is_upgraded && self.field(WRITER) != 0 && self.field(NEXT) != 0;
        ticket_without_queue || upgrade_without_name || turn_beside_writer
    }

    /// Whether no member holds, drains, or has its turn; bits of `rd` aside.
    pub(crate) const fn is_unnamed(self) -> bool {
        self.0 & ((1 << 48) - 1) == 0
    }

    /// Whether a member may enter now: no writer or upgrade, and no turn of another.
    pub(crate) fn is_open_to(self, me: MemberId) -> bool {
        let is_turn = self.field(NEXT) == 0 || self.field(NEXT) == u64::from(me.0);
        self.field(WRITER) == 0 && self.0 & UP == 0 && is_turn
    }

    /// The reader that upgrades.
    pub(crate) const fn upgrader(self) -> Option<MemberId> {
        if self.0 & UP == 0 { None } else { self.next() }
    }

    /// The word in which the reader upgrades.
    ///
    /// A turn that was given is taken back: its member still waits. Caller has seen that none upgrades.
    pub(crate) fn with_upgrade(self, me: MemberId) -> Self {
        Self(self.with_field(NEXT, u64::from(me.0)).0 | UP)
    }

    /// The word after the reader has given its upgrade up; it stays a reader.
    pub(crate) fn without_upgrade(self, me: MemberId) -> Self {
        if self.upgrader() == Some(me) { Self(self.with_field(NEXT, 0).0 & !UP) } else { self }
    }

    /// The word in which the reader that upgrades is the writer, and no reader.
    pub(crate) fn with_upgraded(self, me: MemberId) -> Self {
        self.without_upgrade(me).without_reader(me).with_writer(me)
    }

    /// The word in which a revoker is the writer in the place of the holder.
    pub(crate) fn with_writer_replaced(self, revoker: MemberId) -> Self {
        self.with_field(WRITER, u64::from(revoker.0))
    }

    /// Whether no member is named or has its turn, and some may wait.
    ///
    /// A writer that gave no turn has left such a word; the first that comes enters.
    pub(crate) const fn is_left_open(self) -> bool {
        self.has_queue() && self.0 & !(Q | AWAKE | TICKETS) == 0
    }

    /// Whether readers still have their names in the word.
    pub(crate) const fn has_named_readers(self) -> bool {
        self.field(R0) | self.field(R1) != 0
    }

    /// Where the member stands as a reader.
    fn reader_field(self, me: MemberId) -> Option<(u32, u64)> {
        let me = u64::from(me.0);
        if self.field(R0) == me {
            Some((R0, M0))
        } else if self.field(R1) == me {
            Some((R1, M1))
        } else {
            None
        }
    }

    pub(crate) fn is_reader(self, me: MemberId) -> bool {
        self.reader_field(me).is_some()
    }

    /// Whether several threads of the reader share its name.
    pub(crate) fn is_joined(self, me: MemberId) -> bool {
        self.reader_field(me).is_some_and(|(_, joined)| self.0 & joined != 0)
    }

    /// Marks the reader's name as shared by several threads.
    pub(crate) fn joined(self, me: MemberId) -> Self {
        Self(self.0 | self.reader_field(me).map_or(0, |(_, joined)| joined))
    }

    /// The word after an exclusive entry: the writer's turn is used up.
    pub(crate) fn with_writer(self, me: MemberId) -> Self {
        self.with_field(WRITER, u64::from(me.0)).with_field(NEXT, 0)
    }

    /// The word after a shared entry, or `None` when both places are taken.
    pub(crate) fn with_reader(self, me: MemberId) -> Option<Self> {
        let shift = if self.field(R0) == 0 {
            R0
        } else if self.field(R1) == 0 {
            R1
        } else {
            return None;
        };
        Some(self.with_field(shift, u64::from(me.0)))
    }

    /// With Q, and without a ticket: what remains when the ticket has wrapped.
    #[cfg(test)]
    pub(crate) const fn with_queue(self) -> Self {
        Self(self.0 | Q)
    }

    /// The word after one more waiter has registered.
    pub(crate) const fn registered(self, waits: Waits) -> Self {
        let awake = match waits {
            Waits::Awake => AWAKE,
            Waits::Asleep => 0,
        };
        Self((self.0.wrapping_add(TICKET_ONE) | Q) & !AWAKE | awake)
    }

    /// Whether a waiter would take a turn without having to wake up.
    pub(crate) const fn has_awake_waiter(self) -> bool {
        self.0 & AWAKE != 0
    }

    pub(crate) const fn with_overflow(self) -> Self {
        Self(self.0 | OVF)
    }

    pub(crate) const fn without_overflow(self) -> Self {
        Self(self.0 & !OVF)
    }

    pub(crate) const fn with_died(self) -> Self {
        Self(self.0 | DIED)
    }

    pub(crate) const fn without_died(self) -> Self {
        Self(self.0 & !DIED)
    }

    /// The word without the member as a writer.
    pub(crate) fn without_writer(self, me: MemberId) -> Self {
        if self.field(WRITER) == u64::from(me.0) { self.with_field(WRITER, 0) } else { self }
    }

    /// Returns the word without the member as a reader, however many threads share it.
    ///
    /// Its upgrade ends with that.
    pub(crate) fn without_reader(self, me: MemberId) -> Self {
        match self.reader_field(me) {
            Some((shift, joined)) => Self(self.without_upgrade(me).with_field(shift, 0).0 & !joined),
            None => self,
        }
    }

    /// The word without the reader, or `None` if several threads share its name.
    pub(crate) fn without_lone_reader(self, member: MemberId) -> Option<Self> {
        (!self.is_joined(member)).then(|| self.without_reader(member))
    }

    /// The word in which the reader is the writer.
    ///
    /// `None` if another member, or another of the threads that share its name, is in the way. A waiter whose turn it is
    /// comes first.
    pub(crate) fn upgraded(self, me: MemberId, threads: u32) -> Option<Self> {
        let alone = self.without_reader(me);
        let is_shared = self.is_joined(me) && threads > 1;
        let is_free = self.field(WRITER) == 0 && self.field(NEXT) == 0 && !alone.has_named_readers();
        (self.is_reader(me) && is_free && !is_shared).then(|| alone.with_writer(me))
    }

    /// The word without the member's turn. An upgrade is none.
    pub(crate) fn without_turn(self, me: MemberId) -> Self {
        let is_turn = self.0 & UP == 0 && self.field(NEXT) == u64::from(me.0);
        if is_turn { self.with_field(NEXT, 0) } else { self }
    }

    /// Whether the maker of this word has to choose the member whose turn it is.
    pub(crate) const fn needs_turn(self) -> bool {
        self.field(WRITER) == 0 && self.field(NEXT) == 0 && self.has_queue()
    }

    /// The word with the choice, or without Q when no member waits.
    pub(crate) fn with_turn(self, choice: Option<MemberId>) -> Self {
        match choice {
            Some(id) => self.with_field(NEXT, u64::from(id.0)),
            None => Self(self.0 & !(Q | AWAKE | TICKETS)),
        }
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [next, writer, r0, r1] = [NEXT, WRITER, R0, R1].map(|shift| self.field(shift));
        write!(f, "next {next} writer {writer} readers {r0} {r1}")?;
        for (bit, name) in [(Q, "Q"), (OVF, "OVF"), (DIED, "DIED"), (M0, "M0"), (M1, "M1"), (UP, "UP")] {
            if self.0 & bit != 0 {
                write!(f, " {name}")?;
            }
        }
        Ok(())
    }
}
