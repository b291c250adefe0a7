//! COPY FROM in batches. Where a default is volatile PostgreSQL inserts row by row, since the default might read the table;
//! it excepts only nextval(), by name. The functions that give ids do not read the table either.
//!
//! So while COPY FROM plans its defaults, calls of these functions become calls of their twins, which differ only in their
//! label, STABLE. A twin has one argument more, of type `internal`, of which SQL has no value: SQL cannot call it.
//!
//! A default that is planned for another reason keeps its label, or ALTER TABLE .. ADD COLUMN would give all rows one id.
//! COPY is told from everything else by its memory context: it plans its defaults in its own, while its triggers, checks and
//! defaults run in others. So no state can be left behind, and no statement is slower. If a later PostgreSQL renames that
//! context, rows go in one by one again, and the test `copy::rows_with_ids_go_in_in_batches` fails.

use pgrx::{pg_sys, prelude::*};
use std::{
    ffi::{CStr, CString},
    ptr,
};

/// The context in which COPY FROM plans its defaults.
const COPY: &CStr = c"COPY";

#[unsafe(no_mangle)]
extern "C" fn pg_finfo_idgen_support() -> &'static pg_sys::Pg_finfo_record {
    &pg_sys::Pg_finfo_record { api_version: 1 }
}

/// What the planner asks about a call of these functions. One question is answered: which call can replace it. Null: none.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn idgen_support(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: the planner gives a node, which says what it is; there is a current context, and it has a name.
    unsafe {
        let request = (*(*call).args.as_ptr()).value.cast_mut_ptr::<pg_sys::Node>();
        if (*request).type_ != pg_sys::NodeTag::T_SupportRequestSimplify {
            return pg_sys::Datum::null();
        }
        let request = request.cast::<pg_sys::SupportRequestSimplify>();
        // With a root, a query is planned and not a default.
        if !(*request).root.is_null() || CStr::from_ptr((*pg_sys::CurrentMemoryContext).name) != COPY {
            return pg_sys::Datum::null();
        }
        twin_of((*request).fcall)
    }
}

/// The same call of the twin; null if there is no twin, or if the user may not call both.
#[pg_guard]
unsafe extern "C-unwind" fn twin_of(call: *const pg_sys::FuncExpr) -> pg_sys::Datum {
    // SAFETY: a call that is planned, whose parts are copied.
    unsafe {
        let Some(twin) = find((*call).funcid).filter(|twin| may_call((*call).funcid) && may_call(*twin)) else {
            return pg_sys::Datum::null();
        };
        let (none, size) = (pg_sys::InvalidOid, size_of::<pg_sys::Datum>() as i32);
        let argument = pg_sys::makeConst(pg_sys::INTERNALOID, -1, none, size, pg_sys::Datum::null(), false, true);
        let arguments = pg_sys::lappend(pg_sys::list_copy((*call).args), argument.cast());
        let (result, collation, form) = ((*call).funcresulttype, (*call).inputcollid, (*call).funcformat);
        pg_sys::Datum::from(pg_sys::makeFuncExpr(twin, result, arguments, (*call).funccollid, collation, form))
    }
}

/// The twin of `function`: in its schema, with its name and `_in_copy`.
unsafe fn find(function: pg_sys::Oid) -> Option<pg_sys::Oid> {
    // SAFETY: lookups by the oid of a function, whose name and types are copied.
    unsafe {
        let name = pg_sys::get_func_name(function);
        if name.is_null() {
            return None;
        }
        let name = CString::new([CStr::from_ptr(name).to_bytes(), b"_in_copy"].concat()).ok()?;
        let (mut types, mut count) = (ptr::null_mut(), 0);
        pg_sys::get_func_signature(function, &mut types, &mut count);
        let types: Vec<pg_sys::Oid> =
            (0..count as usize).map(|number| *types.add(number)).chain([pg_sys::INTERNALOID]).collect();
        const OID: i16 = 1;
        let twin = pg_sys::GetSysCacheOid(
            pg_sys::SysCacheIdentifier::PROCNAMEARGSNSP as i32,
            OID,
            pg_sys::Datum::from(name.as_ptr()),
            pg_sys::Datum::from(pg_sys::buildoidvector(types.as_ptr(), types.len() as i32)),
            pg_sys::get_func_namespace(function).into(),
            pg_sys::Datum::null(),
        );
        Some(twin).filter(|twin| *twin != pg_sys::InvalidOid)
    }
}

fn may_call(function: pg_sys::Oid) -> bool {
    let mode = pg_sys::AclMode::from(pg_sys::ACL_EXECUTE);
    // SAFETY: a lookup by oid.
    unsafe {
        #[cfg(feature = "aclcheck_by_kind")]
        let answer = pg_sys::pg_proc_aclcheck(function, pg_sys::GetUserId(), mode);
        #[cfg(not(feature = "aclcheck_by_kind"))]
        let answer = pg_sys::object_aclcheck(pg_sys::ProcedureRelationId, function, pg_sys::GetUserId(), mode);
        answer == pg_sys::AclResult::ACLCHECK_OK
    }
}
