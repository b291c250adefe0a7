//! The words of one generator in shared memory.

use crate::{
    mechanism::{
        allocator::Words,
        definition::{Definition, Order},
        layout::Layout,
    },
    postgres::{sequence::Next, settings},
};
use pgrx::pg_sys;
use std::{
    ffi::CString,
    sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::*},
};

/// As the description of idgen.max_generators says.
const _: () = assert!(size_of::<Place>() == 512);

const NAME_LENGTH: usize = pg_sys::NAMEDATALEN as usize;

/// The names by which an authority knows a generator. The server generator has neither schema nor name.
pub struct Named {
    pub schema: CString,
    pub name: CString,
    pub definition: CString,
}

/// With what the authority refused a block.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Refusal {
    None,
    /// There are no more values.
    Exhausted,
    /// The generator is missing there, or another one, or not granted.
    Other,
}

/// The words of one generator, and what they belong to.
///
/// Its number, for the member worker, is one more than the index of the place; 0 is the server generator.
pub struct Place {
    pub words: Words,
    /// Database and oid of the sequence; 0: free. Written under the lock.
    pub key: AtomicU64,
    /// The definition: see [`Layout::to_words`] and [`Order`]. Written under the lock, before the key.
    layout: [AtomicU64; 3],
    order: AtomicU8,
    flush_every: AtomicU32,
    /// Schema and name, each ended by 0, as the last backend that looked found them. Under the lock.
    name: [AtomicU8; 2 * NAME_LENGTH],
    /// Of a counter: the file of the sequence that the block was taken from. Written by the backend that takes a block.
    pub file: AtomicU32,
    /// Of a counter: the file of the sequence before the present one, and how far the counter went in it: a RESTART that is
    /// rolled back returns to that file. Written under the lock.
    pub old_file: AtomicU32,
    pub old_last: AtomicU64,
    /// Of a counter that was set back: how far it went before. Written under the lock.
    went_before: AtomicU64,
    /// Of a counter: the block after the one in use, see [`Next`]. Written under the lock; `limit` 0: none.
    next: [AtomicU64; 4],
    /// Of a counter with leased blocks: see [`Refusal`]. Written by the member worker.
    refusal: AtomicU8,
}

impl Default for Place {
    fn default() -> Self {
        Place {
            words: Words::default(),
            key: AtomicU64::new(0),
            layout: Default::default(),
            order: AtomicU8::new(0),
            name: [const { AtomicU8::new(0) }; 2 * NAME_LENGTH],
            flush_every: AtomicU32::new(0),
            file: AtomicU32::new(0),
            old_file: AtomicU32::new(0),
            old_last: AtomicU64::new(0),
            went_before: AtomicU64::new(0),
            next: Default::default(),
            refusal: AtomicU8::new(0),
        }
    }
}

impl Place {
    /// The generator's layout and its whole definition, under the lock or while the generator is locked against DROP.
    pub fn layout(&self) -> Layout {
        Layout::from_words(self.layout.each_ref().map(|word| word.load(Relaxed)))
    }

    pub fn definition(&self) -> Definition {
        Definition {
            layout: self.layout(),
            flush_every: self.flush_every.load(Relaxed),
            order: Order::from_number(self.order.load(Relaxed)),
        }
    }

    /// Makes it the place of a generator with this definition, which has no block yet.
    pub fn define(&self, definition: &Definition, name: &[CString; 2]) {
        self.file.store(0, Relaxed);
        self.old_file.store(0, Relaxed);
        self.went_before.store(0, Relaxed);
        self.set_next(None);
        self.set_refusal(Refusal::None);
        self.set_name(name);

        for (word, value) in self.layout.iter().zip(definition.layout.to_words()) {
            word.store(value, Relaxed);
        }
        self.order.store(definition.order as u8, Relaxed);
        self.flush_every.store(definition.flush_every, Relaxed);
    }

    /// Of a counter whose sequence has `file`: how far it went in that file, or in the file that `file` replaced.
    pub fn went_to(&self, file: u32) -> u64 {
        if self.old_file.load(Relaxed) == file {
            self.old_last.load(Relaxed)
        } else if self.file.load(Relaxed) == 0 {
            // The words of a new place say nothing.
            0
        } else {
            self.words.last()
        }
    }

    /// Of a counter whose sequence has `file`: how far it ever went on this server.
    pub fn ever_went_to(&self, file: u32) -> u64 {
        self.went_to(file).max(self.went_before.load(Relaxed))
    }

    /// Notes, before a block that begins at `first` is taken from `file`, how far it went if this block sets it back.
    pub fn note_set_back(&self, file: u32, first: u64) {
        let went_to = self.went_to(file);
        if first <= went_to {
            self.went_before.fetch_max(went_to, Relaxed);
        }
    }

    /// Whether its blocks come from the authority.
    pub fn is_leased(&self) -> bool {
        self.definition().order == Order::Block && !settings::is_authority()
    }

    /// The block after the one in use. Read without the lock, only its presence means anything.
    #[inline(always)]
    pub fn next(&self) -> Option<Next> {
        let [first, limit, record, file] = self.next.each_ref().map(|word| word.load(Relaxed));
        (limit != 0).then_some(Next { first, limit, record, file: file as u32 })
    }

    /// With what the authority refused the last question for a block.
    pub fn refusal(&self) -> Refusal {
        [Refusal::None, Refusal::Exhausted, Refusal::Other][usize::from(self.refusal.load(Relaxed)).min(2)]
    }

    pub fn set_refusal(&self, refusal: Refusal) {
        self.refusal.store(refusal as u8, Relaxed);
    }

    pub fn set_name(&self, name: &[CString; 2]) {
        for (half, text) in self.name.chunks(NAME_LENGTH).zip(name) {
            half.iter().zip(text.to_bytes_with_nul()).for_each(|(place, byte)| place.store(*byte, Relaxed));
        }
    }

    pub fn named(&self) -> Named {
        let [schema, name] = [0, NAME_LENGTH].map(|start| {
            let bytes = self.name[start..].iter().map(|byte| byte.load(Relaxed)).take_while(|byte| *byte != 0);
            CString::new(bytes.take(NAME_LENGTH - 1).collect::<Vec<u8>>()).unwrap_or_default()
        });
        Named { schema, name, definition: CString::new(self.definition().to_string()).unwrap_or_default() }
    }

    pub fn set_next(&self, next: Option<Next>) {
        let next = next.map_or([0; 4], |next| [next.first, next.limit, next.record, u64::from(next.file)]);
        for (word, value) in self.next.iter().zip(next) {
            word.store(value, Relaxed);
        }
    }
}
