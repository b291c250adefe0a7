//! Workers that are launched on demand: how one is launched, found and woken, and waits for its latch and a connection to
//! another server at once.

use super::{
    clock, latch,
    libpq::{Connection, Progress},
    wait_event::{Wait, event},
};
use crate::mechanism::{Micros, SECOND};
use pgrx::{
    bgworkers::{BackgroundWorker, BackgroundWorkerBuilder, SignalWakeFlags},
    pg_sys,
    prelude::*,
};
use std::{
    ffi::CString,
    ptr,
    sync::atomic::{AtomicBool, AtomicI32, AtomicI64, Ordering::*},
};

/// Has something done if this process ends before this is dropped: an error that ends a process runs no destructors.
pub struct AtExit(pg_sys::pg_on_exit_callback, pg_sys::Datum);

impl AtExit {
    pub fn new<T>(function: unsafe extern "C-unwind" fn(i32, pg_sys::Datum), about: &T) -> Self {
        let (function, about) = (Some(function), pg_sys::Datum::from(std::ptr::from_ref(about)));
        // SAFETY: the function takes what it is given here, which is in shared memory.
        unsafe { pg_sys::before_shmem_exit(function, about) };
        AtExit(function, about)
    }
}

impl Drop for AtExit {
    fn drop(&mut self) {
        // SAFETY: registered in `new`, and nothing since then: a wait registers nothing.
        unsafe { pg_sys::cancel_before_shmem_exit(self.0, self.1) };
    }
}

/// Where a worker is found, in shared memory. Written by the worker.
pub struct Process {
    place: AtomicI32,
    pid: AtomicI32,
    /// Whether there was no place for the worker at the last attempt. Written by the process that launches it.
    homeless: AtomicBool,
    /// The boot time at which it was launched last. Written by the process that launches it.
    launched: AtomicI64,
}

impl Default for Process {
    fn default() -> Self {
        Process {
            place: AtomicI32::new(-1),
            pid: AtomicI32::new(0),
            homeless: AtomicBool::new(false),
            launched: AtomicI64::new(-SECOND),
        }
    }
}

impl Process {
    /// The worker's pid, if it runs.
    pub fn pid(&self) -> Option<i32> {
        Some(self.pid.load(Relaxed)).filter(|pid| *pid != 0)
    }

    pub fn wake(&self) {
        latch::wake(self.place.load(Acquire));
    }

    /// Launches the worker if it does not run, once a second at most. A second one finds the first and ends at once. The
    /// postmaster starts none again: one that cannot live would stay registered with each of those launched after it.
    pub fn launch(&self, name: &str, function: &str) {
        let (now, before) = (clock::boot(), self.launched.load(Relaxed));
        let is_due = self.pid().is_none() && now >= before + SECOND;
        if !is_due || self.launched.compare_exchange(before, now, Relaxed, Relaxed).is_err() {
            return;
        }
        let worker = BackgroundWorkerBuilder::new(name)
            .set_library("idgen")
            .set_function(function)
            .set_restart_time(None)
            .enable_spi_access()
            .load_dynamic();
        // Said once, though it is tried again and again.
        if !self.homeless.swap(worker.is_err(), Relaxed) && worker.is_err() {
            ereport!(
                PgLogLevel::WARNING,
                PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
                format!("background worker \"{name}\" could not be started"),
                "There is no free place for a background worker: max_worker_processes."
            );
        }
    }

    /// The life of the worker: `run` works until the worker is told to end (1), or is not needed any more (0). Without a
    /// database it sees only what all databases share.
    pub fn live(&'static self, database: Option<&str>, run: impl FnOnce() -> i32) {
        #[pg_guard]
        extern "C-unwind" fn leave(_code: i32, process: pg_sys::Datum) {
            // SAFETY: the process that was handed in, in shared memory.
            let process = unsafe { &*process.cast_mut_ptr::<Process>() };
            process.place.store(-1, Release);
            process.pid.store(0, Release);
        }
        BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM);
        let mut status = 0;
        // SAFETY: this process's own pid.
        let pid = unsafe { pg_sys::MyProcPid };
        if self.pid.compare_exchange(0, pid, AcqRel, Relaxed).is_ok() {
            // SAFETY: a function for as long as the process lives.
            unsafe { pg_sys::on_shmem_exit(Some(leave), pg_sys::Datum::from(ptr::from_ref(self))) };
            self.place.store(latch::own_place(), Release);
            BackgroundWorker::connect_worker_to_spi(database, None);
            status = run();
        }
        // SAFETY: ends the process the way PostgreSQL wants it.
        unsafe { pg_sys::proc_exit(status) }
    }
}

/// Reads the settings' files again.
pub fn reload() {
    // SAFETY: outside a transaction, as the postmaster's other children do it.
    unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
}

/// Shows in the process title what the process does, or what is in its way.
pub fn show(doing: &str) {
    let doing = CString::new(doing).unwrap_or_default();
    // SAFETY: a text that ends with a zero, which is copied.
    unsafe { pg_sys::set_ps_display(doing.as_ptr()) };
}

/// Waits for the latch and one connection, and keeps what the kernel was told to watch while that stays the same.
pub struct Waiter {
    set: *mut pg_sys::WaitEventSet,
    /// The connection that the set watches, and its place in the set.
    watched: Option<(u64, i32)>,
    /// Whether the connection can be read.
    pub readable: bool,
    /// The wait event that is shown.
    wait: Wait,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if !self.set.is_null() {
            // SAFETY: its own, and not used any more.
            unsafe { pg_sys::FreeWaitEventSet(self.set) };
        }
    }
}

impl Waiter {
    pub fn new(wait: Wait) -> Self {
        Waiter { set: ptr::null_mut(), watched: None, readable: false, wait }
    }

    /// For a worker: as [`Waiter::wait_for`], and reloads the settings if that is asked for. False: the process is to end.
    pub fn wait(&mut self, connection: Option<(&Connection, Progress)>, timeout: Micros) -> bool {
        self.wait_for(connection, timeout);
        if BackgroundWorker::sighup_received() {
            reload();
        }
        !BackgroundWorker::sigterm_received()
    }

    /// Waits for the latch, for `connection` as far as `progress` says, or for `timeout`. Cancel and terminate end it.
    pub fn wait_for(&mut self, connection: Option<(&Connection, Progress)>, timeout: Micros) {
        let read = pg_sys::WL_SOCKET_READABLE;
        let events = connection.map_or(0, |(connection, progress)| match progress {
            Progress::Writing if connection.is_established() => read | pg_sys::WL_SOCKET_WRITEABLE,
            Progress::Writing => pg_sys::WL_SOCKET_WRITEABLE,
            Progress::Reading | Progress::Established => read,
        });
        // A connection that is being made may go from socket to socket.
        let same = self.watched.map(|(serial, _)| serial)
            == connection.map(|(connection, _)| connection.serial).filter(|_| !self.set.is_null());
        let settled = connection.is_none_or(|(connection, _)| connection.is_established());
        // SAFETY: this process's latch; a socket that is open as long as its connection; the set belongs to this waiter, and
        // is freed before another is made.
        unsafe {
            if self.set.is_null() || !same || !settled {
                self.watch(connection.map(|(connection, _)| connection), events);
            } else if let Some((_, position)) = self.watched {
                pg_sys::ModifyWaitEvent(self.set, position, events, ptr::null_mut());
            }
            let mut occurred = [pg_sys::WaitEvent::default(); 2];
            let count = pg_sys::WaitEventSetWait(
                self.set,
                ((timeout + 999) / 1000) as _,
                occurred.as_mut_ptr(),
                occurred.len() as i32,
                event(self.wait),
            );
            self.readable = !settled || occurred[..count as usize].iter().any(|event| event.events & read != 0);
            pg_sys::ResetLatch(pg_sys::MyLatch);
        }
        pgrx::check_for_interrupts!();
    }

    unsafe fn watch(&mut self, connection: Option<&Connection>, events: u32) {
        // SAFETY: as the caller says.
        unsafe {
            if !self.set.is_null() {
                pg_sys::FreeWaitEventSet(self.set);
            }
            #[cfg(feature = "wait_sets_in_contexts")]
            let owner = pg_sys::TopMemoryContext;
            #[cfg(not(feature = "wait_sets_in_contexts"))]
            let owner = ptr::null_mut();
            self.set = pg_sys::CreateWaitEventSet(owner, 3);
            let none = pg_sys::PGINVALID_SOCKET;
            pg_sys::AddWaitEventToSet(self.set, pg_sys::WL_LATCH_SET, none, pg_sys::MyLatch, ptr::null_mut());
            pg_sys::AddWaitEventToSet(self.set, pg_sys::WL_EXIT_ON_PM_DEATH, none, ptr::null_mut(), ptr::null_mut());
            self.watched = connection.map(|connection| {
                let socket = connection.socket();
                let position = pg_sys::AddWaitEventToSet(self.set, events, socket, ptr::null_mut(), ptr::null_mut());
                (connection.serial, position)
            });
        }
    }
}
