//! Deliberate faults for the controls: they write to the table's file what the library would never write.

use crate::Random;
use crate::options::Control;
use std::os::unix::fs::FileExt;
use std::path::Path;

const HEADER: u64 = 4096;
const MEMBER: u64 = 320;
const PID_AT: u64 = 28;
const OWNER_DIED: u32 = 1 << 30;
const WAITERS: u32 = 1 << 31;
const DIED_BYTE: u64 = 6;
const DIED_BIT: u8 = 1 << 2;

pub(crate) struct Sabotage {
    file: Option<std::fs::File>,
    control: Control,
}

impl Sabotage {
    pub(crate) fn new(path: &Path, control: Control) -> Self {
        if control == Control::None {
            return Self { file: None, control };
        }
        loop {
            if let Ok(file) = std::fs::OpenOptions::new().read(true).write(true).open(path) {
                return Self { file: Some(file), control };
            }
            std::thread::yield_now();
        }
    }

    fn number(&self, at: u64) -> u32 {
        let mut bytes = [0; 4];
        let file = self.file.as_ref().expect("there is a control");
        file.read_exact_at(&mut bytes, at).expect("the table's file");
        u32::from_ne_bytes(bytes)
    }

    fn members(&self) -> u64 {
        u64::from(self.number(24))
    }

    /// Comes before each kill.
    pub(crate) fn kills(&self, pid: libc::pid_t) {
        let (Control::NoRecovery, Some(file)) = (self.control, &self.file) else { return };
        for member in 0..self.members() {
            let at = HEADER + member * MEMBER;
            if self.number(at + PID_AT) == pid as u32 {
                // A thread that is not there, and looks alive: the kernel leaves the word alone.
                file.write_all_at(&(WAITERS | 0x0FFF_FFFF).to_ne_bytes(), at).expect("the table's file");
            }
        }
    }

    /// Comes now and then.
    pub(crate) fn act(&self, random: &mut Random) {
        let Some(file) = &self.file else { return };
        match self.control {
            Control::FalseDeaths => {
                let at = HEADER + random.below(8) * MEMBER;
                file.write_all_at(&(OWNER_DIED | WAITERS).to_ne_bytes(), at).expect("the table's file");
            }
            Control::SilentDeaths => self.wipe(file),
            Control::None | Control::NoRecovery => {}
        }
    }

    /// Clears DIED in all words, again and again for a moment.
    fn wipe(&self, file: &std::fs::File) {
        let buckets = u64::from(self.number(32));
        let gates = HEADER + self.members() * MEMBER;
        let entries = (gates + buckets * 64).next_multiple_of(128);
        for _ in 0..20 {
            for entry in 0..buckets * 8 {
                let at = entries + entry * 128 + DIED_BYTE;
                let mut byte = [0];
                file.read_exact_at(&mut byte, at).expect("the table's file");
                if byte[0] & DIED_BIT != 0 {
                    file.write_all_at(&[byte[0] & !DIED_BIT], at).expect("the table's file");
                }
            }
        }
    }
}
