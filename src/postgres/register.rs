//! The register: one time in microseconds since 1970, which only goes forward, survives crash and failover, and is
//! WAL-logged by PostgreSQL itself. Two functions hide what carries it.
//!
//! The carrier is the position of a replication origin with a fixed id and no row in pg_replication_origin: 64 bits,
//! checkpointed, replayed by standbys even without this library, and out of reach of DROP. It permanently takes one of
//! the places for replication origins (max_replication_slots; from PostgreSQL 18 on max_active_replication_origins).

use super::lock;
use crate::mechanism::Micros;
use pgrx::pg_sys;
use std::{
    ffi::CStr,
    hash::{DefaultHasher, Hash, Hasher},
};

/// Above what pg_replication_origin_create() hands out in practice, below the reserved 65535.
const ORIGIN: u16 = 65530;

/// Reads the register; 0 if it was never written. The value may not be flushed yet: it tells where to go on, and permits
/// nothing.
pub fn read() -> Micros {
    // SAFETY: takes its locks itself; an unknown origin reads as 0.
    unsafe { pg_sys::replorigin_get_progress(ORIGIN, false) as Micros }
}

/// Moves the register to `to`. Returns the end of its record, which is not on disk yet. Raises 53400 if there is no place for
/// the origin: that error leaves locks held, so the process must end by it.
pub fn write(to: Micros) -> pg_sys::XLogRecPtr {
    // SAFETY: outside recovery, in a process that may write WAL. XactLastRecEnd is this process's last record, the one
    // that replorigin_advance wrote: it was not idle, `wal_log` is set.
    unsafe {
        if cfg!(feature = "no_horizon") {
            return 0;
        }
        pg_sys::replorigin_advance(ORIGIN, to as pg_sys::XLogRecPtr, 0, false, true);
        pg_sys::XactLastRecEnd
    }
}

/// Returns when everything up to `record` is on disk.
pub fn flush(record: pg_sys::XLogRecPtr) {
    // SAFETY: the end of a record of this server, or 0.
    unsafe { pg_sys::XLogFlush(record) };
}

/// Whether everything up to `record` is on disk.
pub fn is_flushed(record: pg_sys::XLogRecPtr) -> bool {
    // SAFETY: reads shared memory, outside recovery; the timeline is not asked for.
    unsafe { pg_sys::GetFlushRecPtr(std::ptr::null_mut()) >= record }
}

/// A hash of the synchronous standbys that this process's settings ask for; 0: none. Meant for the worker, whose settings are
/// those of the configuration files, so that no session's synchronous_commit changes anything.
pub fn synchronous_standbys() -> u64 {
    let local = pg_sys::SyncCommitLevel::SYNCHRONOUS_COMMIT_LOCAL_FLUSH as i32;
    // SAFETY: settings of this process, kept by PostgreSQL; the names are a string or null.
    let names = unsafe {
        if pg_sys::SyncRepStandbyNames.is_null() || pg_sys::synchronous_commit <= local {
            return 0;
        }
        CStr::from_ptr(pg_sys::SyncRepStandbyNames)
    };
    if names.is_empty() {
        return 0;
    }
    let mut hash = DefaultHasher::new();
    names.hash(&mut hash);
    hash.finish().max(1)
}

/// Where the next record of the WAL begins.
pub fn end_of_wal() -> pg_sys::XLogRecPtr {
    // SAFETY: reads shared memory, outside recovery.
    unsafe { pg_sys::GetXLogInsertRecPtr() }
}

/// Up to where synchronous standbys had everything on disk: those that are named now, or others that were named before. It never
/// goes back.
pub fn acknowledged() -> pg_sys::XLogRecPtr {
    // SAFETY: WalSndCtl and the lock are in shared memory for as long as the process lives.
    unsafe {
        let lock = lock::individual_lock(lock::SYNC_REP_LOCK);
        pg_sys::LWLockAcquire(lock, pg_sys::LWLockMode::LW_SHARED);
        let flushed = (*pg_sys::WalSndCtl).lsn[pg_sys::SYNC_REP_WAIT_FLUSH as usize];
        pg_sys::LWLockRelease(lock);
        flushed
    }
}
