//! How a wait is called in pg_stat_activity: by a name of its own from PostgreSQL 17 on, before that by the name of all
//! extensions.

use pgrx::pg_sys;

/// What is waited for.
#[derive(Clone, Copy)]
pub enum Wait {
    /// The durable horizon.
    Horizon,
    /// The end of a loan: a burst ran too far ahead of the clock.
    Loan,
    /// A block of a counter, which another session or the member worker takes.
    Block,
    /// A record that is to be on disk and on the synchronous standbys.
    Durable,
    /// Another server's answer.
    Answer,
    /// Something to do, for a worker with connections.
    Work,
}

#[cfg(feature = "no_wait_names")]
pub fn event(_wait: Wait) -> u32 {
    pg_sys::PG_WAIT_EXTENSION
}

/// The number that PostgreSQL reports. The first call in a process takes a lock.
#[cfg(not(feature = "no_wait_names"))]
pub fn event(wait: Wait) -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    static KNOWN: [AtomicU32; 6] = [const { AtomicU32::new(0) }; 6];

    let name = match wait {
        Wait::Horizon => c"IdgenHorizon",
        Wait::Loan => c"IdgenLoan",
        Wait::Block => c"IdgenBlock",
        Wait::Durable => c"IdgenDurable",
        Wait::Answer => c"IdgenAnswer",
        Wait::Work => c"IdgenWork",
    };
    let known = &KNOWN[wait as usize];
    if known.load(Relaxed) == 0 {
        // SAFETY: a text that ends with a zero; the server keeps a copy.
        known.store(unsafe { pg_sys::WaitEventExtensionNew(name.as_ptr()) }, Relaxed);
    }
    known.load(Relaxed)
}
