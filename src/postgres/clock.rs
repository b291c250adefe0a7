//! The machine's own clocks.

use crate::mechanism::{Micros, SECOND, clock::Reading};

/// Reads the boot-time clock: it counts sleep and nobody can set it. About 24 ns, without a system call.
#[inline(always)]
pub fn boot() -> Micros {
    read(libc::CLOCK_BOOTTIME)
}

/// Reads both clocks.
pub fn both() -> Reading {
    Reading { boot: boot(), wall: read(libc::CLOCK_REALTIME) }
}

#[inline(always)]
fn read(clock: libc::clockid_t) -> Micros {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writing; both clocks exist on every Linux that PostgreSQL 15 runs on, so that the
    // call cannot fail.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec * SECOND + Micros::from(time.tv_nsec as u32 / 1000)
}
