//! What the member worker says about its connection: in its title, once in the log, and in `idgen_authority()`.

use crate::{
    mechanism::{Micros, SECOND},
    postgres::{clock, process},
    shared::Shared,
};
use pgrx::log;
use std::{cell::RefCell, sync::atomic::Ordering::Relaxed};

/// How long a refusal is shown while other questions are answered: longer than until the same question is asked again.
const REMEMBERED: Micros = 15 * SECOND;
/// How many complaints are not logged again.
const REMEMBERED_COMPLAINTS: usize = 16;

pub struct Said {
    shared: &'static Shared,
    /// What is in the log since all was well: several hosts, or questions, may go wrong in turns.
    logged: RefCell<Vec<String>>,
    /// When a question was last refused, and which one: see `Question::number`.
    refused: Option<(Micros, u64)>,
}

impl Said {
    pub fn new(shared: &'static Shared) -> Self {
        Said { shared, logged: RefCell::default(), refused: None }
    }

    /// Says what is wrong.
    pub fn complain(&self, why: &str) {
        process::show(why);
        let member = &self.shared.member;
        member.lock.exclusive(|| member.error.set(why));
        let mut logged = self.logged.borrow_mut();
        if logged.iter().all(|other| other != why) {
            log!("idgen: authority: {why}");
            logged.truncate(REMEMBERED_COMPLAINTS - 1);
            logged.insert(0, why.to_owned());
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
            self.logged.get_mut().clear();
            process::show(&format!("connected to {}", host()));
        }
    }
}
