//! Wall clocks that tests can set: each server's own, through the preloaded `wall_clock.c`, and what they showed at any moment.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, OnceLock};

pub const SECOND: i64 = 1_000_000_000;
pub const HOUR: i64 = 3600 * SECOND;
pub const YEAR: i64 = 8766 * HOUR;

/// The clock that cannot be set, in nanoseconds, the same for every process of the machine.
pub fn monotonic() -> i64 {
    read(libc::CLOCK_MONOTONIC)
}

/// The machine's own wall clock, in nanoseconds since the Unix epoch, at a moment of [`monotonic`] (its slewing left out).
pub fn machine_wall(at: i64) -> i64 {
    static DIFFERENCE: OnceLock<i64> = OnceLock::new();
    at + DIFFERENCE.get_or_init(|| read(libc::CLOCK_REALTIME) - monotonic())
}

fn read(clock: libc::clockid_t) -> i64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` outlives the call, which writes nothing else.
    let result = unsafe { libc::clock_gettime(clock, &mut t) };
    assert_eq!(result, 0, "clock {clock} cannot be read");
    t.tv_sec * SECOND + t.tv_nsec
}

/// The fields of `struct setting` in `wall_clock.c`, and the moment from which they hold.
#[derive(Clone, Copy, Default)]
struct Setting {
    offset: i64,
    since: i64,
    permille: i64,
}

impl Setting {
    fn wall(&self, at: i64) -> i64 {
        machine_wall(at) + self.offset + ((at - self.since) as i128 * self.permille as i128 / 1000) as i64
    }
}

/// The wall clock of one server. It starts as the machine's own.
pub struct Clock {
    file: File,
    settings: Mutex<Vec<Setting>>,
}

impl Clock {
    pub fn create(path: &Path) -> Clock {
        let file = File::create(path).unwrap();
        file.set_len(32).unwrap();
        Clock { file, settings: Mutex::new(vec![Setting::default()]) }
    }

    /// Steps the clock to the machine's time plus `offset`, and lets it go at its rate from there.
    pub fn set(&self, offset: i64) {
        self.change(|_, now| Setting { offset, since: now, permille: 0 });
    }

    /// Lets the clock go on from where it stands, too fast by `permille` (100: a tenth; -1000: it stands still).
    pub fn drift(&self, permille: i64) {
        self.change(|old, now| Setting { offset: old.wall(now) - machine_wall(now), since: now, permille });
    }

    /// What the clock showed at a moment of [`monotonic`], in nanoseconds since the Unix epoch.
    pub fn at(&self, moment: i64) -> i64 {
        let settings = self.settings.lock().unwrap();
        settings.iter().rev().find(|setting| setting.since <= moment).unwrap_or(&settings[0]).wall(moment)
    }

    pub fn now(&self) -> i64 {
        self.at(monotonic())
    }

    fn change(&self, next: impl FnOnce(&Setting, i64) -> Setting) {
        let mut settings = self.settings.lock().unwrap();
        let setting = next(&settings[settings.len() - 1], monotonic());
        let version = 2 * settings.len() as u64;
        let write = |place: u64, word: i64| self.file.write_all_at(&word.to_ne_bytes(), place * 8).unwrap();
        write(0, version as i64 - 1);
        write(1, setting.offset);
        write(2, setting.since);
        write(3, setting.permille);
        write(0, version as i64);
        settings.push(setting);
    }
}
