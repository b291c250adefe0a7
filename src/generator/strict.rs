//! Strict ids on a member: each caller waits in a slot of its own until the member worker has brought stamps that the
//! authority allocated after the wait began.

use crate::{
    error::Error,
    mechanism::allocator::Run,
    postgres::{
        clock, latch, settings,
        wait_event::{Wait, event},
    },
    shared::{Shared, serving::check_not_in_recovery},
};
use pgrx::pg_sys;

/// Takes up to `want` stamps from the authority. Waits at most `idgen.wait_timeout`; cancel and terminate end it at once.
pub fn take(shared: &Shared, generator: u32, want: u64) -> Result<Run, Error> {
    check_not_in_recovery()?;
    if settings::authority().is_none() {
        return Err(Error::NoAuthority);
    }
    let slot = shared.backends.slots().get(latch::own_place() as usize).ok_or(Error::AuthorityTimeout)?;
    let waiting = slot.wait(generator, want);
    shared.member.wake_if_idle();

    let deadline = latch::deadline();
    loop {
        if let Some(run) = waiting.result() {
            return if run.count > 0 { Ok(run) } else { Err(Error::AuthorityRefused(shared.member.error())) };
        }
        let left = deadline - clock::boot();
        if left <= 0 {
            return Err(Error::AuthorityTimeout);
        }
        let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
        // SAFETY: the latch of this process; whoever else waits on it looks at its condition again.
        unsafe {
            pg_sys::WaitLatch(pg_sys::MyLatch, events as i32, left / 1000 + 1, event(Wait::Answer));
            pg_sys::ResetLatch(pg_sys::MyLatch);
        }
        pgrx::check_for_interrupts!();
    }
}
