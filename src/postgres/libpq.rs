//! Connections to other servers by libpq: the library that the server's own libpqwalreceiver brings along. So idgen needs no
//! more libraries and header files than a standby does, and none where it has no authority and no peers.
//!
//! Nothing here waits: the owner of a connection waits for its socket together with its own latch.

mod functions;

use functions::{Functions, Raw, Text, fe, functions};
use pgrx::pg_sys;
use std::{
    ffi::{CStr, CString, c_int, c_void},
    ptr,
    sync::atomic::{AtomicU64, Ordering},
};

/// What libpq says, without the line feed at its end.
unsafe fn string(text: Text) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller has it from libpq: NUL-terminated.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().trim_end().to_owned()
}

/// The keywords and values of a connection string, with those of the service that it names. `has_threads`: without the
/// service's, since a thread may read the environment. An error says what is wrong, without a password.
pub fn options(text: &CStr, has_threads: bool) -> Result<Vec<(CString, CString)>, String> {
    let pq = functions()?;
    let mut error = ptr::null_mut();
    // SAFETY: a NUL-terminated string; what comes back is null, or an array that ends with a null keyword.
    unsafe {
        let parsed = (pq.PQconninfoParse)(text.as_ptr(), &mut error);
        if parsed.is_null() {
            (pq.PQfreemem)(error.cast());
            // libpq's own message may quote what is in the string.
            return Err("the connection string cannot be read".into());
        }
        let mut options = taken(pq, parsed);
        if let Some((_, service)) =
            options.iter().find(|(name, _)| name.as_c_str() == c"service").filter(|_| !has_threads)
        {
            for (name, value) in of_service(pq, service) {
                if options.iter().all(|(own, _)| *own != name) {
                    options.push((name, value));
                }
            }
        }
        Ok(options)
    }
}

/// What the service file says of `service`; nothing if it cannot be read, which the connection will be told. libpq reads that
/// file only to connect, and would then go through all hosts at once.
unsafe fn of_service(pq: &Functions, service: &CStr) -> Vec<(CString, CString)> {
    const VARIABLE: &CStr = c"PGSERVICE";
    // SAFETY: the environment of this process, which has no other thread, and is as before afterwards. What comes back is null, or
    // an array that ends with a null keyword.
    unsafe {
        let before = libc::getenv(VARIABLE.as_ptr());
        let before = (!before.is_null()).then(|| CStr::from_ptr(before).to_owned());
        libc::setenv(VARIABLE.as_ptr(), service.as_ptr(), 1);
        let found = (pq.PQconndefaults)();
        match before {
            Some(before) => libc::setenv(VARIABLE.as_ptr(), before.as_ptr(), 1),
            None => libc::unsetenv(VARIABLE.as_ptr()),
        };
        if found.is_null() {
            return Vec::new();
        }
        let keep = [c"host", c"hostaddr", c"port", c"user", c"dbname", c"password", c"passfile"];
        let is_of_service = |name: &CStr| {
            keep.contains(&name) || name.to_bytes().starts_with(b"ssl") || name == c"target_session_attrs"
        };
        taken(pq, found).into_iter().filter(|(name, _)| is_of_service(name)).collect()
    }
}

/// The keywords that have a value, from an array of libpq's, which is freed.
unsafe fn taken(pq: &Functions, first: *mut fe::InfoOption) -> Vec<(CString, CString)> {
    let (mut options, mut option) = (Vec::new(), first);
    // SAFETY: the caller has it from libpq: an array that ends with a null keyword, of NUL-terminated strings or nulls.
    unsafe {
        while !(*option).keyword.is_null() {
            if !(*option).val.is_null() {
                options.push((CStr::from_ptr((*option).keyword).to_owned(), CStr::from_ptr((*option).val).to_owned()));
            }
            option = option.add(1);
        }
        (pq.PQconninfoFree)(first);
    }
    options
}

/// A connection that is being made or stands. In pipeline mode: answers come in the order of the questions, and each question
/// is a transaction of its own.
pub struct Connection {
    raw: Raw,
    pq: &'static Functions,
    established: bool,
    /// What the socket of a connection that is being made has to be ready for.
    progress: Progress,
    /// Whether the answer to [`OWN_SCHEMA`] is still to come.
    greeted: bool,
    /// A number that no other connection of this process has or had.
    pub serial: u64,
}

/// Asked first: from then on functions are found where idgen is installed, and nowhere that others may write to; one
/// question does not wait long for a lock, since all others wait behind it, nor for the horizon: whoever asked has given up by
/// then, and his session would stay.
const OWN_SCHEMA: &CStr = c"SELECT pg_catalog.set_config('search_path', pg_catalog.quote_ident(nspname), false),
        pg_catalog.set_config('lock_timeout', '250ms', false), pg_catalog.set_config('idgen.wait_timeout', '1500ms', false)
    FROM pg_catalog.pg_extension AS e JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
    WHERE extname OPERATOR(pg_catalog.=) 'idgen'";

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    Reading,
    Writing,
    Established,
}

/// The answer to one question.
#[derive(Debug)]
pub enum Answer {
    /// The first row, if there is one; each value as text.
    Row(Option<Vec<Option<String>>>),
    Refused {
        code: String,
        message: String,
    },
}

impl Connection {
    /// Begins to connect with these keywords and values. A host in them must have an address, or this would wait for a name
    /// service.
    pub fn start(options: &[(CString, CString)]) -> Result<Self, String> {
        let pq = functions()?;
        let end = std::iter::once(ptr::null());
        let keywords: Vec<Text> = options.iter().map(|(name, _)| name.as_ptr()).chain(end.clone()).collect();
        let values: Vec<Text> = options.iter().map(|(_, value)| value.as_ptr()).chain(end).collect();
        // SAFETY: two arrays of strings that end with null.
        let raw = unsafe { (pq.PQconnectStartParams)(keywords.as_ptr(), values.as_ptr(), 0) };
        if raw.is_null() {
            return Err("out of memory".into());
        }
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let connection =
            Connection { raw, pq, established: false, progress: Progress::Writing, greeted: false, serial };
        // SAFETY: a connection that was made, and a function for as long as the process lives.
        unsafe { (pq.PQsetNoticeReceiver)(raw, Some(ignore), ptr::null_mut()) };
        // SAFETY: a connection that was made.
        if unsafe { (pq.PQstatus)(raw) } == fe::CONNECTION_BAD { Err(connection.error()) } else { Ok(connection) }
    }

    /// Goes on connecting, if the socket is ready for what was waited for: libpq would wait for it without end.
    pub fn establish(&mut self) -> Result<Progress, String> {
        if !self.is_ready() {
            return Ok(self.progress);
        }
        // SAFETY: a connection that is being made.
        self.progress = match unsafe { (self.pq.PQconnectPoll)(self.raw) } {
            fe::PGRES_POLLING_READING => Progress::Reading,
            fe::PGRES_POLLING_WRITING => Progress::Writing,
            fe::PGRES_POLLING_OK => {
                // SAFETY: a connection that stands and is idle.
                let ready = unsafe {
                    (self.pq.PQsetnonblocking)(self.raw, 1) == 0 && (self.pq.PQenterPipelineMode)(self.raw) == 1
                };
                self.checked(ready)?;
                self.ask(OWN_SCHEMA, &[])?;
                self.established = true;
                Progress::Established
            }
            _ => return Err(self.error()),
        };
        Ok(self.progress)
    }

    fn is_ready(&self) -> bool {
        let events = if self.progress == Progress::Reading { libc::POLLIN } else { libc::POLLOUT };
        let mut socket = libc::pollfd { fd: self.socket(), events, revents: 0 };
        // SAFETY: one socket, which is only looked at.
        unsafe { libc::poll(&mut socket, 1, 0) > 0 }
    }

    pub fn is_established(&self) -> bool {
        self.established
    }

    /// The socket to wait for; each call of [`Connection::establish`] may change it.
    pub fn socket(&self) -> pg_sys::pgsocket {
        // SAFETY: a connection.
        unsafe { (self.pq.PQsocket)(self.raw) }
    }

    /// The first line of what libpq says.
    fn error(&self) -> String {
        // SAFETY: a connection; the text is its own.
        let text = unsafe { string((self.pq.PQerrorMessage)(self.raw)) };
        text.lines().next().unwrap_or_default().into()
    }

    fn checked(&self, good: bool) -> Result<(), String> {
        if good { Ok(()) } else { Err(self.error()) }
    }

    /// Prepares `sql` under `name`: a question like any other.
    pub fn prepare(&mut self, name: &CStr, sql: &CStr) -> Result<(), String> {
        // SAFETY: an established connection and NUL-terminated strings.
        let sent = unsafe {
            (self.pq.PQsendPrepare)(self.raw, name.as_ptr(), sql.as_ptr(), 0, ptr::null()) == 1
                && (self.pq.PQpipelineSync)(self.raw) == 1
        };
        self.checked(sent)
    }

    /// Asks the question that was prepared under `name`.
    pub fn ask_prepared(&mut self, name: &CStr, parameters: &[CString]) -> Result<(), String> {
        let values: Vec<Text> = parameters.iter().map(|value| value.as_ptr()).collect();
        let none = ptr::null();
        // SAFETY: as above; as many values as said.
        let sent = unsafe {
            (self.pq.PQsendQueryPrepared)(
                self.raw,
                name.as_ptr(),
                values.len() as c_int,
                values.as_ptr(),
                none,
                none,
                0,
            ) == 1
                && (self.pq.PQpipelineSync)(self.raw) == 1
        };
        self.checked(sent)
    }

    /// Asks `sql`.
    pub fn ask(&mut self, sql: &CStr, parameters: &[CString]) -> Result<(), String> {
        let values: Vec<Text> = parameters.iter().map(|value| value.as_ptr()).collect();
        let (count, none) = (values.len() as c_int, ptr::null());
        // SAFETY: as above.
        let sent = unsafe {
            (self.pq.PQsendQueryParams)(self.raw, sql.as_ptr(), count, ptr::null(), values.as_ptr(), none, none, 0) == 1
                && (self.pq.PQpipelineSync)(self.raw) == 1
        };
        self.checked(sent)
    }

    /// Sends what there is to send. True: some of it must wait until the socket can be written to.
    pub fn flush(&mut self) -> Result<bool, String> {
        // SAFETY: an established connection.
        match unsafe { (self.pq.PQflush)(self.raw) } {
            -1 => Err(self.error()),
            left => Ok(left == 1),
        }
    }

    /// Reads what came. To be called when the socket can be read.
    pub fn consume(&mut self) -> Result<(), String> {
        // SAFETY: an established connection.
        let good = unsafe { (self.pq.PQconsumeInput)(self.raw) } == 1;
        self.checked(good)
    }

    /// The next answer that has come, in the order of the questions.
    pub fn answer(&mut self) -> Result<Option<Answer>, String> {
        let pq = self.pq;
        let mut between = false;
        loop {
            // SAFETY: an established connection; a result is cleared after it was read, once.
            unsafe {
                if (pq.PQisBusy)(self.raw) == 1 {
                    return Ok(None);
                }
                let result = (pq.PQgetResult)(self.raw);
                if result.is_null() {
                    // One null stands between two questions; two in a row: no question is open.
                    if std::mem::replace(&mut between, true) {
                        return Ok(None);
                    }
                } else if let Some(answer) = self.read(result) {
                    match answer {
                        Answer::Refused { message, .. } if !self.greeted => return Err(message),
                        _ if !self.greeted => (self.greeted, between) = (true, false),
                        answer => return Ok(Some(answer)),
                    }
                } else {
                    between = false;
                }
            }
        }
    }

    /// Reads and clears a result; None if it only separates two questions.
    unsafe fn read(&self, result: Raw) -> Option<Answer> {
        let pq = self.pq;
        // SAFETY: a result that nobody else has.
        unsafe {
            let answer = match (pq.PQresultStatus)(result) {
                fe::PGRES_PIPELINE_SYNC => None,
                fe::PGRES_COMMAND_OK => Some(Answer::Row(None)),
                fe::PGRES_TUPLES_OK if (pq.PQntuples)(result) == 0 => Some(Answer::Row(None)),
                fe::PGRES_TUPLES_OK => {
                    let value = |column| {
                        let there = (pq.PQgetisnull)(result, 0, column) == 0;
                        there.then(|| string((pq.PQgetvalue)(result, 0, column)))
                    };
                    Some(Answer::Row(Some((0..(pq.PQnfields)(result)).map(value).collect())))
                }
                _ => Some(Answer::Refused {
                    code: string((pq.PQresultErrorField)(result, fe::PG_DIAG_SQLSTATE)),
                    message: string((pq.PQresultErrorField)(result, fe::PG_DIAG_MESSAGE_PRIMARY)),
                }),
            };
            (pq.PQclear)(result);
            answer
        }
    }
}

/// Notices of another server are in its own log.
unsafe extern "C" fn ignore(_: *mut c_void, _result: *const c_void) {}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: made by this libpq, and finished once.
        unsafe { (self.pq.PQfinish)(self.raw) };
    }
}
