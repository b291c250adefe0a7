//! What the member worker says about its connection: in its title, once in the log, and in `idgen_authority()`.

use crate::{
    mechanism::{Micros, SECOND},
    postgres::{clock, process},
    shared::Shared,
};
use pgrx::log;
use std::sync::atomic::Ordering::Relaxed;

/// How long a refusal is shown while other questions are answered: longer than until the same question is asked again.
const REMEMBERED: Micros = 15 * SECOND;

pub struct Said {
    shared: &'static Shared,
    /// When a question was last refused, and which one: see `Question::number`.
    refused: Option<(Micros, u64)>,
}

impl Said {
    pub fn new(shared: &'static Shared) -> Self {
        Said { shared, refused: None }
    }

    /// Says what is wrong.
    pub fn complain(&self, why: &str) {
        process::show(why);
        let member = &self.shared.member;
        let is_new = member.lock.exclusive(|| {
            let before = member.error.get();
            member.error.set(why);
            before != member.error.get()
        });
        if is_new {
            log!("idgen: authority: {why}");
        }
    }

    /// Says why this question was refused. An answer to another question does not take it back at once.
    pub fn refuse(&mut self, question: u64, why: &str) {
        self.keep(question);
        self.complain(why);
    }

    /// The next complaint is the reason why this question was refused.
    pub fn keep(&mut self, question: u64) {
        self.refused = Some((clock::boot(), question));
    }

    /// This question was answered by `host`: nothing is wrong any more, unless another question was refused.
    pub fn well(&mut self, question: u64, host: impl FnOnce() -> String) {
        let member = &self.shared.member;
        if self.refused.is_some_and(|(at, refused)| refused != question && clock::boot() < at + REMEMBERED) {
            member.connected.store(true, Relaxed);
            return;
        }
        let was_refused = self.refused.take().is_some();
        if !member.connected.swap(true, Relaxed) || was_refused {
            member.lock.exclusive(|| member.error.set(""));
            process::show(&format!("connected to {}", host()));
        }
    }
}
