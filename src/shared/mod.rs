//! What all processes of the server share: one block of words, wiped by every crash and restart; the register brings
//! back what must be kept.
//!
//! ```text
//! Shared | Place x idgen.max_generators | Slot x backends | how far the streams of each backend reached
//! ```
//!
//! Each part owns its words and the rules about them, and says who writes them. A part knows no other part, except by
//! argument; only [`serving`] and [`waiting`], above them, look at several at once. Giving out ids takes no lock.

pub mod backends;
pub mod book;
pub mod errand;
pub mod gossip;
pub mod grant;
pub mod horizon;
pub mod member;
pub mod place;
pub mod places;
pub mod serving;
pub mod state;
pub mod text;
pub mod waiting;

use crate::protocol::slot::Slot;
use crate::{
    error::Error,
    postgres::{
        lock::{self, Lock},
        settings,
    },
};
use backends::Backends;
use book::Book;
use gossip::Gossip;
use grant::Grant;
use horizon::Horizon;
use member::Member;
use pgrx::prelude::*;
use place::Place;
use places::Places;
use state::State;
use std::{
    ptr,
    sync::atomic::{AtomicPtr, Ordering::*},
};

/// The shared words.
pub struct Shared {
    pub places: Places,
    pub horizon: Horizon,
    pub grant: Grant,
    pub backends: Backends,
    pub member: Member,
    pub book: Book,
    pub gossip: Gossip,
    pub state: State,
}

/// Where this process sees the shared memory; null where the library was not preloaded.
static SHARED: AtomicPtr<Shared> = AtomicPtr::new(ptr::null_mut());

static mut PREVIOUS_REQUEST: pg_sys::shmem_request_hook_type = None;
static mut PREVIOUS_STARTUP: pg_sys::shmem_startup_hook_type = None;

/// Asks for the shared memory. While preloading only.
pub fn request() {
    // SAFETY: the hooks of this process, before there is any other thread or process; each calls the one before it.
    unsafe {
        PREVIOUS_REQUEST = pg_sys::shmem_request_hook;
        pg_sys::shmem_request_hook = Some(on_request);
        PREVIOUS_STARTUP = pg_sys::shmem_startup_hook;
        pg_sys::shmem_startup_hook = Some(on_startup);
    }
}

/// How many generators and how many backends there is room for, and the size of everything.
fn sizes() -> (usize, usize, usize) {
    // SAFETY: set before the hooks are called.
    let (generators, backends) = (settings::MAX_GENERATORS.get() as usize, unsafe { pg_sys::MaxBackends } as usize);
    (generators, backends, size_of::<Shared>() + Places::size(generators) + Backends::size(backends))
}

#[pg_guard]
unsafe extern "C-unwind" fn on_request() {
    // SAFETY: called by PostgreSQL where shared memory may be requested.
    unsafe {
        if let Some(previous) = PREVIOUS_REQUEST {
            previous();
        }
        pg_sys::RequestAddinShmemSpace(sizes().2);
        Lock::request();
    }
}

/// Called once in the postmaster, and again after every crash: the memory is new each time.
#[pg_guard]
unsafe extern "C-unwind" fn on_startup() {
    // SAFETY: called by PostgreSQL where shared memory may be initialized; the memory is as large as asked, aligned to
    // PG_CACHE_LINE_SIZE (128), and zero-filled or not: every part is written before the lock is released.
    unsafe {
        if let Some(previous) = PREVIOUS_STARTUP {
            previous();
        }
        lock::compare_locks();
        let (generators, backends, size) = sizes();
        let init_lock = lock::individual_lock(lock::ADDIN_SHMEM_INIT_LOCK);
        pg_sys::LWLockAcquire(init_lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
        let mut found = false;
        let shared = pg_sys::ShmemInitStruct(c"idgen".as_ptr(), size, &mut found).cast::<Shared>();
        if !found {
            const { assert!(size_of::<Shared>().is_multiple_of(align_of::<Place>())) };
            const { assert!(size_of::<Place>().is_multiple_of(align_of::<Slot>())) };
            let lock = Lock::find();
            let places: *mut u8 = shared.add(1).cast();
            shared.write(Shared {
                places: Places::new(lock, places, generators),
                horizon: Horizon::default(),
                grant: Grant::new(lock),
                backends: Backends::new(places.add(Places::size(generators)), backends),
                member: Member::new(lock),
                book: Book::new(lock),
                gossip: Gossip::new(lock),
                state: State::new(lock),
            });
        }
        pg_sys::LWLockRelease(init_lock);
        SHARED.store(shared, Release);
    }
}

/// The shared words, if the library was preloaded.
#[inline(always)]
pub fn attached() -> Option<&'static Shared> {
    // SAFETY: initialized by `on_startup`, and in place for as long as the process lives.
    unsafe { SHARED.load(Relaxed).as_ref() }
}

/// The shared words, or an error in a session that loaded the library without preload.
pub fn shared() -> Result<&'static Shared, Error> {
    attached().ok_or(Error::NotPreloaded)
}
