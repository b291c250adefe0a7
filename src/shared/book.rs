//! What the sessions of members share with the worker that writes the authority's book.

use super::{
    errand::{Asking, Errand},
    text::Text,
};
use crate::postgres::{latch, lock::Lock, process::Process};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering::Relaxed};

/// How many questions can be open at once; the members ask again for more.
const ENTRIES: usize = 64;

/// The longest question, in bytes. One of the largest numbers has 260.
pub const QUESTION: usize = 400;

/// What the sessions of members share with the worker that writes the book.
pub struct Book {
    lock: Lock,
    pub process: Process,
    entries: [Entry; ENTRIES],
}

/// A question and its answer. Its words are written by whoever has the errand, its texts under idgen's lock.
#[derive(Default)]
pub struct Entry {
    pub errand: Errand,
    /// The place among all processes of the session that waits, and its role.
    asker: AtomicI32,
    role: AtomicU32,
    host: Text<64>,
    question: Text<QUESTION>,
    answer: Text<400>,
}

/// A question as the worker takes it.
pub struct Asked {
    pub question: String,
    /// The role of the session that asks.
    pub role: u32,
    pub host: String,
}

impl Book {
    pub fn new(lock: Lock) -> Self {
        Book { lock, process: Process::default(), entries: std::array::from_fn(|_| Entry::default()) }
    }

    /// Leaves a question of this session to the worker. Whatever ends the session, it holds nothing of the book. None: too
    /// many questions are open.
    pub fn ask(&self, role: u32, question: &str, host: &str) -> Option<(&Entry, Asking<'_>)> {
        let (entry, asking) = self.entries.iter().find_map(|entry| Some((entry, entry.errand.claim()?)))?;
        entry.asker.store(latch::own_place(), Relaxed);
        entry.role.store(role, Relaxed);
        self.lock.exclusive(|| {
            entry.host.set(host);
            entry.question.set(question);
        });
        asking.ask();
        Some((entry, asking))
    }

    /// The worker's answer, once it is done.
    pub fn answer(&self, entry: &Entry) -> String {
        self.lock.shared(|| entry.answer.get()).unwrap_or_default()
    }

    /// Worker only, when it begins: questions that an earlier worker had taken are to be taken again.
    pub fn put_back(&self) {
        self.entries.iter().for_each(|entry| entry.errand.put_back());
    }

    /// Worker only: takes all open questions.
    pub fn take(&self) -> Vec<(&Entry, Asked)> {
        let taken = self.entries.iter().filter(|entry| entry.errand.take());
        self.lock.shared(|| {
            let read = |entry: &Entry| Asked {
                question: entry.question.get().unwrap_or_default(),
                role: entry.role.load(Relaxed),
                host: entry.host.get().unwrap_or_default(),
            };
            taken.map(|entry| (entry, read(entry))).collect()
        })
    }

    /// Worker only: hands out the outcome of each of these questions.
    pub fn done(&self, answers: &[(&Entry, &str)]) {
        self.lock.exclusive(|| answers.iter().for_each(|(entry, answer)| entry.answer.set(answer)));
        for (entry, _) in answers {
            entry.errand.done();
            latch::wake(entry.asker.load(Relaxed));
        }
    }
}
