//! The functions of libpq that idgen calls, found in the library that PostgreSQL's own libpqwalreceiver brings along.

use once_cell::sync::OnceCell;
use pgrx::pg_sys;
use std::ffi::{c_char, c_int, c_void};

/// Types and numbers of libpq-fe.h, the same since PostgreSQL 14.
pub mod fe {
    pub const CONNECTION_BAD: i32 = 1;
    pub const PGRES_POLLING_READING: i32 = 1;
    pub const PGRES_POLLING_WRITING: i32 = 2;
    pub const PGRES_POLLING_OK: i32 = 3;
    pub const PGRES_TUPLES_OK: i32 = 2;
    pub const PGRES_COMMAND_OK: i32 = 1;
    pub const PGRES_PIPELINE_SYNC: i32 = 10;
    pub const PG_DIAG_SQLSTATE: i32 = b'C' as i32;
    pub const PG_DIAG_MESSAGE_PRIMARY: i32 = b'M' as i32;

    /// PQconninfoOption.
    #[repr(C)]
    pub struct InfoOption {
        pub keyword: *const std::ffi::c_char,
        pub envvar: *const std::ffi::c_char,
        pub compiled: *const std::ffi::c_char,
        pub val: *const std::ffi::c_char,
        pub label: *const std::ffi::c_char,
        pub dispchar: *const std::ffi::c_char,
        pub dispsize: std::ffi::c_int,
    }
}

pub type Raw = *mut c_void;
pub type Text = *const c_char;

macro_rules! functions {
    ($($name:ident($($argument:ty),*) $(-> $result:ty)?;)*) => {
        #[allow(non_snake_case)]
        pub struct Functions { $(pub $name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)* }

        impl Functions {
            fn load() -> Result<Self, String> {
                // SAFETY: libpqwalreceiver only sets a table of its own; PostgreSQL loads libraries so that their
                // symbols, and those of what they need, can be found. Each is the function of that name in libpq-fe.h.
                unsafe {
                    pg_sys::load_file(c"libpqwalreceiver".as_ptr(), false);
                    Ok(Functions { $($name: std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($argument),*) $(-> $result)?>(
                        symbol(concat!(stringify!($name), "\0"))?),)* })
                }
            }
        }
    };
}

functions! {
    PQconninfoParse(Text, *mut *mut c_char) -> *mut fe::InfoOption;
    PQconninfoFree(*mut fe::InfoOption);
    PQconndefaults() -> *mut fe::InfoOption;
    PQfreemem(*mut c_void);
    PQconnectStartParams(*const Text, *const Text, c_int) -> Raw;
    PQconnectPoll(Raw) -> c_int;
    PQstatus(Raw) -> c_int;
    PQsocket(Raw) -> c_int;
    PQerrorMessage(Raw) -> Text;
    PQfinish(Raw);
    PQsetNoticeReceiver(Raw, Option<unsafe extern "C" fn(*mut c_void, *const c_void)>, *mut c_void) -> *mut c_void;
    PQsetnonblocking(Raw, c_int) -> c_int;
    PQenterPipelineMode(Raw) -> c_int;
    PQpipelineSync(Raw) -> c_int;
    PQsendQueryParams(Raw, Text, c_int, *const c_void, *const Text, *const c_int, *const c_int, c_int) -> c_int;
    PQsendPrepare(Raw, Text, Text, c_int, *const c_void) -> c_int;
    PQsendQueryPrepared(Raw, Text, c_int, *const Text, *const c_int, *const c_int, c_int) -> c_int;
    PQflush(Raw) -> c_int;
    PQconsumeInput(Raw) -> c_int;
    PQisBusy(Raw) -> c_int;
    PQgetResult(Raw) -> Raw;
    PQresultStatus(Raw) -> c_int;
    PQresultErrorField(Raw, c_int) -> Text;
    PQntuples(Raw) -> c_int;
    PQnfields(Raw) -> c_int;
    PQgetisnull(Raw, c_int, c_int) -> c_int;
    PQgetvalue(Raw, c_int, c_int) -> Text;
    PQclear(Raw);
}

fn symbol(name: &'static str) -> Result<*mut c_void, String> {
    // SAFETY: a NUL-terminated name.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr().cast()) };
    if found.is_null() { Err(format!("libpq has no {}", name.trim_end_matches('\0'))) } else { Ok(found) }
}

/// All of them, loaded when they are first needed.
pub fn functions() -> Result<&'static Functions, String> {
    static FUNCTIONS: OnceCell<Functions> = OnceCell::new();
    FUNCTIONS.get_or_try_init(Functions::load)
}
