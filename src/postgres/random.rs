//! Numbers that nobody can guess.

use crate::error::{Error, OrRaise};
use pgrx::pg_sys;
use std::cell::RefCell;

/// Random bits. They are taken from the system 512 bytes at a time, because each time costs 5 microseconds (measured).
pub fn bits() -> Result<u64, Error> {
    thread_local! {
        static STORE: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
    }
    STORE.with_borrow_mut(|store| {
        if store.is_empty() {
            let mut bits = [0u64; 64];
            // SAFETY: writes this many bytes.
            if unsafe { pg_sys::pg_strong_random(bits.as_mut_ptr().cast(), size_of_val(&bits)) } {
                store.extend(bits);
            }
        }
        store.pop().ok_or(Error::NoRandomness)
    })
}

/// Random bits, but not 0. Raises an ERROR if there are none.
pub fn number() -> u64 {
    bits().or_raise().max(1)
}
