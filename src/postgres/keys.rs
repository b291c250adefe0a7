//! The largest key of a table, read by oid and through an index of PostgreSQL's own kind. A query would look the table's name
//! up again, which may be another's by then, and would run what the table's owner made: views, policies, expressions of
//! indexes, constraints of children.

use pgrx::{PgList, pg_sys};
use std::{ffi::CStr, ptr};

/// The largest value of this bigint column in the table itself, without those below it. None: it has none, or no index begins
/// with the column; it is no ordinary table, or gone; or the caller may not read all of it. Waits for whoever alters it.
pub fn largest(table: pg_sys::Oid, column: &CStr) -> Option<i64> {
    let mode = pg_sys::AccessShareLock as i32;
    // SAFETY: a relation that is opened, if it is there, and closed. An error closes it too.
    unsafe {
        let relation = pg_sys::try_relation_open(table, mode);
        if relation.is_null() {
            return None;
        }
        let class = &*(*relation).rd_rel;
        let is_ordinary = class.relkind as u8 == pg_sys::RELKIND_RELATION
            && class.relpersistence as u8 == pg_sys::RELPERSISTENCE_PERMANENT;
        let may_read = pg_sys::pg_class_aclcheck(table, pg_sys::GetUserId(), pg_sys::AclMode::from(pg_sys::ACL_SELECT))
            == pg_sys::AclResult::ACLCHECK_OK
            && pg_sys::check_enable_rls(table, pg_sys::InvalidOid, true)
                != pg_sys::CheckEnableRlsResult::RLS_ENABLED as i32;
        let largest = (is_ordinary && may_read).then(|| {
            let number = pg_sys::get_attnum(table, column.as_ptr());
            let indexes = PgList::<pg_sys::Oid>::from_pg(pg_sys::RelationGetIndexList(relation));
            // In an index an expression stands for column 0, which a name that is gone has too.
            indexes.iter_oid().filter(|_| number > 0).find_map(|index| last_of(relation, index, number))
        });
        pg_sys::relation_close(relation, mode);
        largest.flatten()
    }
}

/// The largest value of column `number`, if `index` is one over all rows that begins with it.
unsafe fn last_of(table: pg_sys::Relation, index: pg_sys::Oid, number: pg_sys::AttrNumber) -> Option<i64> {
    let mode = pg_sys::AccessShareLock as i32;
    // SAFETY: an index of an open table, which is closed again; a column of it.
    unsafe {
        let index = pg_sys::index_open(index, mode);
        let about = (*index).rd_index;
        let fits = (*(*index).rd_rel).relam == pg_sys::BTREE_AM_OID
            && *(*index).rd_opfamily == pg_sys::INTEGER_BTREE_FAM_OID
            && *(*index).rd_opcintype == pg_sys::INT8OID
            && *(*about).indkey.values.as_ptr() == number
            && (*about).indisvalid
            && pg_sys::heap_attisnull((*index).rd_indextuple, pg_sys::Anum_pg_index_indpred as i32, ptr::null_mut());
        let value = fits.then(|| {
            let descends = u32::from(*(*index).rd_indoption as u16) & pg_sys::INDOPTION_DESC != 0;
            let direction = if descends {
                pg_sys::ScanDirection::ForwardScanDirection
            } else {
                pg_sys::ScanDirection::BackwardScanDirection
            };
            let mut key = pg_sys::ScanKeyData::default();
            let flags = (pg_sys::SK_ISNULL | pg_sys::SK_SEARCHNOTNULL) as i32;
            let none = pg_sys::InvalidOid;
            pg_sys::ScanKeyEntryInitialize(&mut key, flags, number, 0, none, none, none, pg_sys::Datum::from(0));
            let scan = pg_sys::systable_beginscan_ordered(table, index, pg_sys::GetActiveSnapshot(), 1, &mut key);
            let tuple = pg_sys::systable_getnext_ordered(scan, direction);
            let mut is_null = true;
            let value = (!tuple.is_null())
                .then(|| pg_sys::heap_getattr(tuple, number.into(), (*table).rd_att, &mut is_null).value() as i64);
            pg_sys::systable_endscan_ordered(scan);
            value.filter(|_| !is_null)
        });
        pg_sys::index_close(index, mode);
        value.flatten()
    }
}
