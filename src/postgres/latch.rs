//! Latches: how one process wakes another, and how a session sleeps.

use super::{
    clock, settings,
    wait_event::{Wait, event},
};
use crate::mechanism::Micros;
use pgrx::pg_sys;

/// Wakes the process with this place among all processes; -1: nobody.
pub fn wake(place: i32) {
    if place >= 0 {
        // SAFETY: a place in the array of all processes stays valid; if the process has gone, the one that has the place now
        // is woken for nothing, which every user of latches allows for.
        unsafe { pg_sys::SetLatch(&raw mut (*(*pg_sys::ProcGlobal).allProcs.add(place as usize)).procLatch) };
    }
}

/// This process's place among all processes.
pub fn own_place() -> i32 {
    // SAFETY: every caller has a place.
    unsafe { pg_sys::MyProc.offset_from((*pg_sys::ProcGlobal).allProcs) as i32 }
}

/// Sleeps for `time`, without a lock, shown as `wait`; cancel and terminate end it at once.
///
/// A sleep on a condition variable that was begun is ended before: its wake-up would be taken for this one's, and the next
/// sleep on it would miss it.
pub fn sleep(time: Micros, wait: Wait) {
    // SAFETY: takes no argument, and may be called when nothing was begun.
    unsafe { pg_sys::ConditionVariableCancelSleep() };
    let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
    // SAFETY: the latch of this process; other code that waits on it looks at its condition again.
    unsafe {
        pg_sys::WaitLatch(pg_sys::MyLatch, events as i32, time / 1000 + 1, event(wait));
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    pgrx::check_for_interrupts!();
}

/// When a wait that begins now is over, on the boot-time clock.
pub fn deadline() -> Micros {
    clock::boot() + settings::wait_timeout()
}
