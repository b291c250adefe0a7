//! Lightweight locks: idgen's own, and those of PostgreSQL that it takes.

use pgrx::{pg_sys::panic::ErrorReport, prelude::*};
use std::ffi::CStr;

const NAME: &CStr = c"idgen";

/// idgen's lock, in shared memory. It is held for a few instructions, and never while anything is waited for.
#[derive(Clone, Copy)]
pub struct Lock(*mut pg_sys::LWLock);

impl Lock {
    /// Where shared memory may be requested.
    pub fn request() {
        // SAFETY: a static name.
        unsafe { pg_sys::RequestNamedLWLockTranche(NAME.as_ptr(), 1) };
    }

    /// Once it was requested, where shared memory may be initialized.
    pub fn find() -> Self {
        // SAFETY: requested under this name.
        Lock(unsafe { &raw mut (*pg_sys::GetNamedLWLockTranche(NAME.as_ptr())).lock })
    }

    pub fn shared<T>(self, action: impl FnOnce() -> T) -> T {
        self.held(pg_sys::LWLockMode::LW_SHARED, action)
    }

    pub fn exclusive<T>(self, action: impl FnOnce() -> T) -> T {
        self.held(pg_sys::LWLockMode::LW_EXCLUSIVE, action)
    }

    fn held<T>(self, mode: pg_sys::LWLockMode::Type, action: impl FnOnce() -> T) -> T {
        // SAFETY: a lock in shared memory; should `action` raise, PostgreSQL releases it at the end of the transaction
        // or of the process.
        unsafe {
            pg_sys::LWLockAcquire(self.0, mode);
            let result = action();
            pg_sys::LWLockRelease(self.0);
            result
        }
    }
}

/// Locks of PostgreSQL that idgen takes: number and name in storage/lwlocknames.h. No header tells them to Rust, so their
/// names are compared at the start.
pub const ADDIN_SHMEM_INIT_LOCK: (u16, &CStr) = (21, c"AddinShmemInit");
pub const SYNC_REP_LOCK: (u16, &CStr) = (32, c"SyncRep");

/// One of these locks, whose name must have been compared.
pub unsafe fn individual_lock((number, _): (u16, &CStr)) -> *mut pg_sys::LWLock {
    // SAFETY: the array is in shared memory for as long as the process lives, and has all individual locks.
    unsafe { &raw mut (*pg_sys::MainLWLockArray.add(usize::from(number))).lock }
}

/// Stops a server in which these numbers belong to other locks.
pub fn compare_locks() {
    for (number, name) in [ADDIN_SHMEM_INIT_LOCK, SYNC_REP_LOCK] {
        // SAFETY: the number of an individual lock; the name is static.
        let found = unsafe { CStr::from_ptr(pg_sys::GetLWLockIdentifier(pg_sys::PG_WAIT_LWLOCK, number)) };
        if found != name {
            let message = format!("idgen was not made for this PostgreSQL: lock {number} is {found:?}, not {name:?}");
            ErrorReport::new(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, message, "idgen").report(PgLogLevel::FATAL);
        }
    }
}
