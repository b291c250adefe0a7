//! The sequence under a counter: one tuple on one page, changed and logged as nextval() does it, and its row in pg_sequence.

use super::relation;
use crate::error::Error;
use pgrx::prelude::*;

/// A sequence, opened and locked for a new block.
pub struct Locked(pg_sys::Relation);

impl Locked {
    /// None: another session has the lock.
    pub fn try_new(sequence: pg_sys::Oid) -> Option<Self> {
        // SAFETY: the caller holds a lock on the sequence for the transaction.
        unsafe {
            let relation = pg_sys::relation_open(sequence, pg_sys::NoLock as i32);
            if pg_sys::ConditionalLockRelationForExtension(relation, pg_sys::ExclusiveLock as i32) {
                return Some(Locked(relation));
            }
            pg_sys::relation_close(relation, pg_sys::NoLock as i32);
            None
        }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // SAFETY: opened and locked in `try_new`, in the same transaction: a raised error unwinds before it ends.
        unsafe {
            pg_sys::UnlockRelationForExtension(self.0, pg_sys::ExclusiveLock as i32);
            pg_sys::relation_close(self.0, pg_sys::NoLock as i32);
        }
    }
}

/// A block of a counter that is logged but perhaps not durable yet: values `first .. limit`, the end of its record, and the
/// file of the sequence that it was taken from (0: the block is leased).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    pub first: u64,
    pub limit: u64,
    pub record: pg_sys::XLogRecPtr,
    pub file: u32,
}

/// The one tuple of a sequence, as in commands/sequence.h.
#[repr(C)]
struct SequenceData {
    last_value: i64,
    log_cnt: i64,
    is_called: bool,
}

/// Moves the sequence `relation` up by `size` values, but not beyond `max`, and logs that. The record is 0 if the sequence is
/// new in this transaction: it goes to disk with its file. `check` is given the first value. No other heavyweight lock may be
/// taken under the extension lock, so `check` must not look into the catalog.
pub fn advance(
    relation: &Locked,
    max: u64,
    size: u64,
    check: impl FnOnce(u64) -> Result<(), Error>,
) -> Result<Next, Error> {
    let relation = relation.0;
    // SAFETY: the sequence is open and locked. The page is changed as commands/sequence.c does it: buffer locked, in a
    // critical section, marked dirty before the record is inserted, its LSN set after. Nothing in the section can
    // raise but into the PANIC that PostgreSQL means by it. Guarded calls of pgrx leave the section as it is.
    unsafe {
        let buffer = pg_sys::ReadBuffer(relation, 0);
        pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_EXCLUSIVE as _);
        let page = pg_sys::BufferGetPage(buffer);
        let ((tuple, length), data) = sequence_data(page);

        // After the last of all numbers none is left.
        let first = (*data).last_value.checked_add(i64::from((*data).is_called)).unwrap_or(i64::MAX);
        let exhausted = (*data).is_called && (*data).last_value >= max as i64;
        let checked = if first < 1 {
            Err(Error::NotACounter)
        } else if exhausted || first as u64 > max {
            Err(Error::CounterExhausted)
        } else {
            check(first as u64)
        };
        if let Err(error) = checked {
            pg_sys::UnlockReleaseBuffer(buffer);
            return Err(error);
        }
        let first = first as u64;
        let last = first.saturating_add(size - 1).min(max);

        let logged = needs_wal(relation);
        pg_sys::CritSectionCount += 1;
        pg_sys::MarkBufferDirty(buffer);
        (*data).last_value = last as i64;
        (*data).is_called = true;
        (*data).log_cnt = 0;
        if logged {
            const XLOG_SEQ_LOG: u8 = 0;
            #[cfg(feature = "rel_file_nodes")]
            let mut locator = (*relation).rd_node;
            #[cfg(not(feature = "rel_file_nodes"))]
            let mut locator = (*relation).rd_locator;
            pg_sys::XLogBeginInsert();
            pg_sys::XLogRegisterBuffer(0, buffer, pg_sys::REGBUF_WILL_INIT as u8);
            pg_sys::XLogRegisterData((&raw mut locator).cast(), size_of_val(&locator) as _);
            pg_sys::XLogRegisterData(tuple.cast(), length as _);
            let end = pg_sys::XLogInsert(pg_sys::RmgrIds::RM_SEQ_ID as u8, XLOG_SEQ_LOG);
            // As PageSetLSN() does: in one write, the higher half first. Pages are aligned to more than this.
            const { assert!(size_of::<pg_sys::PageXLogRecPtr>() == size_of::<u64>()) };
            let lsn = &raw mut (*page.cast::<pg_sys::PageHeaderData>()).pd_lsn;
            lsn.cast::<u64>().write(if cfg!(target_endian = "little") { end.rotate_left(32) } else { end });
        }
        pg_sys::CritSectionCount -= 1;
        pg_sys::UnlockReleaseBuffer(buffer);

        let record = if logged { pg_sys::XactLastRecEnd } else { 0 };
        Ok(Next { first, limit: last + 1, record, file: (*(*relation).rd_rel).relfilenode.to_u32() })
    }
}

/// How many values of `sequence` were used, if `is_wanted`, which is given its file, said before that it is of the wanted kind;
/// those below its start count too.
/// None: it is gone, of another kind, or locked if the caller `waits` for nobody; or the caller may neither use it nor monitor
/// the server.
pub fn count(sequence: pg_sys::Oid, waits: bool, is_wanted: impl FnOnce(u32) -> bool) -> Option<i64> {
    /// Of pg_authid.dat, the same in every version.
    const PG_MONITOR: pg_sys::Oid = pg_sys::Oid::from_u32(3373);
    // SAFETY: a relation that is opened, if it is there still, and closed; its one tuple is read under the buffer's lock.
    unsafe {
        let mode = pg_sys::AccessShareLock as i32;
        if waits {
            pg_sys::LockRelationOid(sequence, mode);
        } else if !pg_sys::ConditionalLockRelationOid(sequence, mode) {
            return None;
        }
        let relation = pg_sys::try_relation_open(sequence, pg_sys::NoLock as i32);
        if relation.is_null() {
            pg_sys::UnlockRelationOid(sequence, mode);
            return None;
        }
        let user = pg_sys::GetUserId();
        let mode = pg_sys::AclMode::from(pg_sys::ACL_USAGE | pg_sys::ACL_SELECT | pg_sys::ACL_UPDATE);
        let allowed = pg_sys::pg_class_aclcheck(sequence, user, mode) == pg_sys::AclResult::ACLCHECK_OK
            || pg_sys::has_privs_of_role(user, PG_MONITOR);
        let row = &*(*relation).rd_rel;
        let is_wanted = row.relkind as u8 == pg_sys::RELKIND_SEQUENCE && is_wanted(row.relfilenode.to_u32());
        let count = (allowed && is_wanted).then(|| {
            let buffer = pg_sys::ReadBuffer(relation, 0);
            pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as _);
            let data = sequence_data(pg_sys::BufferGetPage(buffer)).1;
            let count = (*data).last_value - i64::from(!(*data).is_called);
            pg_sys::UnlockReleaseBuffer(buffer);
            count
        });
        pg_sys::relation_close(relation, pg_sys::AccessShareLock as i32);
        count
    }
}

/// The one tuple on the page of a sequence with its length, and the data in it.
unsafe fn sequence_data(page: pg_sys::Page) -> ((*mut u8, u32), *mut SequenceData) {
    // SAFETY: as the caller says, the locked page of a sequence.
    unsafe {
        let item = pg_sys::PageGetItemId(page, 1);
        let tuple = pg_sys::PageGetItem(page, item).cast::<u8>();
        let start = usize::from((*tuple.cast::<pg_sys::HeapTupleHeaderData>()).t_hoff);
        ((tuple, (*item).lp_len()), tuple.add(start).cast::<SequenceData>())
    }
}

/// RelationNeedsWAL() of utils/rel.h, for a permanent relation.
unsafe fn needs_wal(relation: pg_sys::Relation) -> bool {
    // SAFETY: an open relation, and a setting.
    unsafe {
        #[cfg(feature = "rel_file_nodes")]
        let new_file = (*relation).rd_firstRelfilenodeSubid;
        #[cfg(not(feature = "rel_file_nodes"))]
        let new_file = (*relation).rd_firstRelfilelocatorSubid;
        pg_sys::wal_level >= pg_sys::WalLevel::WAL_LEVEL_REPLICA as i32
            || (*relation).rd_createSubid == 0 && new_file == 0
    }
}

/// The MAXVALUE of a sequence that is locked. An error if it was altered so that it cannot carry a counter: every ALTER
/// SEQUENCE that does this gives it another file, so those that know the sequence notice.
pub fn highest(sequence: pg_sys::Oid, is_permanent: bool) -> Result<u64, Error> {
    /// Columns of pg_sequence.
    const INCREMENT: i16 = 4;
    const MAX: i16 = 5;
    const CYCLE: i16 = 8;
    // SAFETY: a lookup by oid; the columns are not null.
    unsafe {
        let cache = pg_sys::SysCacheIdentifier::SEQRELID as i32;
        let tuple = pg_sys::SearchSysCache1(cache, sequence.into());
        if tuple.is_null() {
            return Err(Error::NotAGenerator(relation::shown(sequence)));
        }
        let mut null = false;
        let mut column = |number| pg_sys::SysCacheGetAttr(cache, tuple, number, &mut null).value() as i64;
        let (increment, max, cycle) = (column(INCREMENT), column(MAX), column(CYCLE) & 1);
        pg_sys::ReleaseSysCache(tuple);
        // A crash would set an unlogged sequence back to its start.
        if increment != 1 || cycle != 0 || !is_permanent { Err(Error::NotACounter) } else { Ok(max.max(0) as u64) }
    }
}
