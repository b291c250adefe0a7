//! The settings, all under `idgen.`. None that a session can change can break uniqueness or order.

use crate::{
    error::Error,
    forms::opaque,
    mechanism::{Micros, SECOND},
};
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, pg_sys, prelude::*};
use std::ffi::{CStr, CString, c_char, c_void};

/// This server's number; -1: unset.
pub static MACHINE_ID: GucSetting<i32> = GucSetting::<i32>::new(-1);
/// How many generators can be in use at once.
pub static MAX_GENERATORS: GucSetting<i32> = GucSetting::<i32>::new(256);
/// The key of the opaque form; none or empty: there is no such form.
pub static OPAQUE_KEY: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static HORIZON_LEAD: GucSetting<i32> = GucSetting::<i32>::new(4_000);
static MAX_BORROW: GucSetting<i32> = GucSetting::<i32>::new(1_000);
static MAX_CLOCK_JUMP: GucSetting<i32> = GucSetting::<i32>::new(86_400);
static WAIT_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(5_000);

/// The machine id to put into ids whose largest is `max`; a layout without machine bits takes any, and needs none.
pub fn machine_id(max: u64) -> Result<u64, Error> {
    match MACHINE_ID.get() {
        _ if max == 0 => Ok(0),
        id if id < 0 => Err(Error::MachineIdUnset),
        id if id as u64 > max => Err(Error::MachineIdTooLarge { machine: id, max }),
        id => Ok(id as u64),
    }
}

/// How far ahead of the clock the horizon is promised.
pub fn horizon_lead() -> Micros {
    Micros::from(HORIZON_LEAD.get()) * 1000
}

/// How far a burst may run ahead of the clock.
pub fn max_borrow() -> Micros {
    Micros::from(MAX_BORROW.get()) * 1000
}

/// How far the wall clock may leap ahead and still be followed; negative: any distance.
pub fn max_clock_jump() -> Micros {
    Micros::from(MAX_CLOCK_JUMP.get()) * SECOND
}

/// How long a call waits for the horizon.
pub fn wait_timeout() -> Micros {
    Micros::from(WAIT_TIMEOUT.get()) * 1000
}

/// Defines the settings. While preloading only: a session may not define what is fixed at server start.
pub fn define() {
    GucRegistry::define_int_guc(
        c"idgen.machine_id",
        c"This server's number in every id it gives out.",
        c"Each server needs its own, from 0 to 1023 for idgen_next(). -1 is unset: no ids are given out.",
        &MACHINE_ID,
        -1,
        i32::MAX,
        GucContext::Postmaster,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"idgen.max_generators",
        c"How many generators can be in use at once, over all databases.",
        c"Each takes 512 bytes of shared memory from its first use until it is dropped or the server is restarted.",
        &MAX_GENERATORS,
        0,
        1_000_000,
        GucContext::Postmaster,
        GucFlags::default(),
    );
    let reloadable = |name, short, long, setting, min, max, flags| {
        GucRegistry::define_int_guc(name, short, long, setting, min, max, GucContext::Sighup, flags);
    };
    reloadable(
        c"idgen.horizon_lead",
        c"How far ahead of the clock ids are promised to stay, durably.",
        c"Longer: fewer records of WAL, and with an asynchronous standby more lag is covered. A crash skips at most this.",
        &HORIZON_LEAD,
        100,
        3_600_000,
        GucFlags::UNIT_MS,
    );
    reloadable(
        c"idgen.max_borrow",
        c"How far a burst of ids may run ahead of the clock before calls wait.",
        c"A layout has a number of ids for each tick of its clock; a burst beyond it takes those of coming ticks.",
        &MAX_BORROW,
        0,
        3_600_000,
        GucFlags::UNIT_MS,
    );
    reloadable(
        c"idgen.max_clock_jump",
        c"How far in all the wall clock of a running server may leap ahead and still be followed.",
        c"A leap beyond it is held, with a warning and in idgen_status, until idgen_accept_clock(). -1 follows any leap.",
        &MAX_CLOCK_JUMP,
        -1,
        i32::MAX,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_int_guc(
        c"idgen.wait_timeout",
        c"How long a call waits for the durable horizon before it fails.",
        c"Calls wait when the horizon cannot move: no background worker, or a synchronous standby that is away.",
        &WAIT_TIMEOUT,
        1,
        i32::MAX,
        GucContext::Userset,
        GucFlags::UNIT_MS,
    );
    // SAFETY: the hook does not panic.
    unsafe {
        GucRegistry::define_string_guc_with_hooks(
            c"idgen.opaque_key",
            c"The key of idgen_to_opaque() and idgen_from_opaque(), the same on every server.",
            c"16 to 56 bytes. Who changes it can no longer read the texts given out before.",
            &OPAQUE_KEY,
            GucContext::Sighup,
            GucFlags::SUPERUSER_ONLY | GucFlags::NO_SHOW_ALL,
            Some(check_opaque_key),
            None,
            None,
        );
    }
    // SAFETY: a NUL-terminated literal; PostgreSQL copies it.
    unsafe { pg_sys::MarkGUCPrefixReserved(c"idgen".as_ptr()) };
}

/// Refuses a key of another length, so that a server goes on with the one that it has.
#[pg_guard]
unsafe extern "C-unwind" fn check_opaque_key(
    key: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: PostgreSQL hands in a NUL-terminated string, or null by default.
    let length = unsafe { if (*key).is_null() { 0 } else { CStr::from_ptr(*key).count_bytes() } };
    let good = length == 0 || opaque::KEY_LENGTHS.contains(&length);
    if !good {
        // SAFETY: reported at once by who called; a literal that is never changed.
        unsafe { pg_sys::GUC_check_errdetail_string = c"A key has 16 to 56 bytes.".as_ptr().cast_mut() };
    }
    good
}
