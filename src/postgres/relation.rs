//! Relations, by their oid.

use pgrx::pg_sys;
use std::ffi::{CStr, CString};

/// A relation, for an error message: its name, or its oid if it is not there.
pub fn shown(relation: pg_sys::Oid) -> String {
    // SAFETY: a lookup by oid; the name is a string or null.
    unsafe {
        let name = pg_sys::get_rel_name(relation);
        if name.is_null() { relation.to_u32().to_string() } else { CStr::from_ptr(name).to_string_lossy().into_owned() }
    }
}

/// Schema and name of a relation that is locked.
pub fn name(relation: pg_sys::Oid) -> [CString; 2] {
    // SAFETY: lookups by oid; the names are palloc'd, and copied.
    unsafe {
        let names = [pg_sys::get_namespace_name(pg_sys::get_rel_namespace(relation)), pg_sys::get_rel_name(relation)];
        names.map(|name| if name.is_null() { CString::default() } else { CStr::from_ptr(name).to_owned() })
    }
}
