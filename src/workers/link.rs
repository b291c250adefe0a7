//! The connection to the authority. After any failure it is given up, open questions are asked again on the next host, and
//! callers wait until their own deadline.

use super::{blocks, held::Held, said::Said};
use crate::{
    mechanism::{Micros, SECOND},
    postgres::{
        clock, faults,
        hosts::Hosts,
        latch,
        libpq::{Answer, Connection, Progress},
        process::Waiter,
        settings,
        wait_event::Wait,
    },
    protocol::{
        slot::Slot,
        tickets::{Run, Ticket, Tickets},
    },
    shared::{Shared, place::Refusal},
};
use std::{
    collections::VecDeque,
    ffi::{CStr, CString},
    sync::atomic::Ordering::Relaxed,
};

/// How long one host may take to connect, and to answer.
const PATIENCE: Micros = 2 * SECOND;
/// How long the worker pauses when no host could be used: a sixteenth of the time that this lasts, within these bounds. So it
/// is late by no more than that, and does not fill the log of a host that refuses it.
const SHORTEST_PAUSE: Micros = SECOND / 5;
const LONGEST_PAUSE: Micros = 2 * SECOND;

/// The questions that are not answered yet, in the order of asking.
enum Question {
    Prepare,
    /// For the machine id.
    Grant,
    Strict(u64),
    Block(blocks::Ask),
}

impl Question {
    /// A number for the thing that is asked for: a question that is asked again has the same one.
    fn number(&self) -> u64 {
        match self {
            Question::Prepare => 0,
            Question::Grant => 1,
            Question::Strict(_) => 2,
            Question::Block(ask) => 3 + u64::from(ask.generator),
        }
    }
}

/// The member worker, with its connection if it has one.
pub struct Link {
    shared: &'static Shared,
    authority: CString,
    hosts: Option<Hosts>,
    connection: Option<Connection>,
    /// What the connection waits for while it is being made, or whether there is more to send.
    progress: Progress,
    /// When the connection was begun or given up.
    since: Micros,
    /// Since when no host could be used, if so.
    unusable: Option<Micros>,
    asked: VecDeque<(Question, Micros)>,
    held: Held,
    said: Said,
    tickets: Tickets,
    /// The last generation taken from each slot.
    generations: Vec<u32>,
    blocks: blocks::Leases,
    waiter: Waiter,
}

const ALLOCATE: &CStr = c"idgen_allocate";

impl Link {
    pub fn new(shared: &'static Shared) -> Self {
        shared.backends.slots().iter().for_each(|slot| slot.put_back());
        Link {
            shared,
            authority: CString::default(),
            hosts: None,
            connection: None,
            progress: Progress::Reading,
            since: Micros::MIN,
            unusable: None,
            asked: VecDeque::new(),
            held: Held::start(shared),
            said: Said::new(shared),
            tickets: Tickets::default(),
            generations: vec![0; shared.backends.slots().len()],
            blocks: blocks::Leases::default(),
            waiter: Waiter::new(Wait::Work),
        }
    }

    /// Goes over to this connection string, if it is a new one.
    pub fn follow(&mut self, authority: &CStr) {
        if self.authority.as_c_str() != authority {
            self.give_up();
            self.authority = authority.to_owned();
            (self.since, self.unusable) = (Micros::MIN, None);
            match Hosts::parse(authority) {
                Ok(hosts) => self.hosts = Some(hosts),
                Err(why) => {
                    self.hosts = None;
                    self.said.complain(&format!("idgen.authority: {why}"));
                }
            }
        }
    }

    /// Does everything that needs no waiting. An error means that the connection failed.
    pub fn work(&mut self) -> Result<(), String> {
        self.collect();
        self.held.work(&self.said);
        let (now, connect_at) = (clock::boot(), self.connect_at());
        let Some(hosts) = &mut self.hosts else { return Ok(()) };
        let Some(connection) = &mut self.connection else {
            if now >= connect_at {
                self.shared.member.lock.exclusive(|| self.shared.member.host.set(&hosts.name()));
                self.connection = hosts.connect(now)?;
                if self.connection.is_some() {
                    (self.since, self.progress) = (now, Progress::Writing);
                }
            }
            return Ok(());
        };
        if !connection.is_established() {
            if now > self.since + PATIENCE {
                return Err("the host does not answer".into());
            }
            self.progress = connection.establish()?;
            if self.progress != Progress::Established {
                return Ok(());
            }
            connection.prepare(
                ALLOCATE,
                c"SELECT idgen_authority.allocate($1::text, $2::text, $3::text, $4::text, $5::bigint)",
            )?;
            self.asked.push_back((Question::Prepare, now));
        }
        if self.waiter.readable {
            connection.consume()?;
        }
        while let Some(answer) = self.connection.as_mut().map_or(Ok(None), Connection::answer)? {
            self.hear(answer)?;
        }
        if self.asked.front().is_some_and(|(_, at)| now > at + PATIENCE) {
            return Err("the authority does not answer".into());
        }
        self.ask(now)
    }

    /// When the next host may be tried: at once, or after a pause if all were.
    fn connect_at(&self) -> Micros {
        if self.hosts.as_ref().is_some_and(|hosts| !hosts.is_first()) {
            return self.since;
        }
        let lasts = self.unusable.map_or(0, |unusable| self.since - unusable);
        self.since.saturating_add((lasts / 16).clamp(SHORTEST_PAUSE, LONGEST_PAUSE))
    }

    /// Takes the tickets of callers that wait, and looks for blocks that are needed.
    fn collect(&mut self) {
        for (number, slot) in self.shared.backends.slots().iter().enumerate() {
            if let Some((generator, ticket)) = slot.take(number) {
                // A caller that waits again no longer waits for its earlier ticket.
                self.tickets.cancel(ticket.slot, self.generations[number]);
                self.generations[number] = ticket.generation;
                self.tickets.wait(generator, ticket);
            }
        }
        self.blocks.collect(self.shared, clock::boot());
    }

    /// Sends all questions that are due.
    fn ask(&mut self, now: Micros) -> Result<(), String> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let cluster = settings::cluster();
        if let Some(question) = self.held.next(now) {
            connection.ask(
                c"SELECT idgen_authority.grant_machine($1::text, $2::text, $3::text)",
                &[cluster.clone(), number(question), host_name()],
            )?;
            self.asked.push_back((Question::Grant, now));
        }
        while let Some(request) = self.tickets.next(now) {
            let named = self.shared.places.generator_name(request.generator);
            let want = number(request.want);
            connection.ask_prepared(ALLOCATE, &[cluster.clone(), named.schema, named.name, named.definition, want])?;
            self.asked.push_back((Question::Strict(request.number), now));
        }
        if let Some((ask, want)) = self.blocks.next(now) {
            let named = self.shared.places.generator_name(ask.generator);
            let parameters = [cluster, named.schema, named.name, named.definition, number(want)];
            connection.ask(
                c"SELECT idgen_authority.lease_block($1::text, $2::text, $3::text, $4::text, $5::bigint)",
                &parameters,
            )?;
            self.asked.push_back((Question::Block(ask), now));
        }
        let more = connection.flush()?;
        if self.asked.is_empty() {
            self.unusable = None;
        } else {
            faults::point("member:asked");
        }
        self.progress = if more { Progress::Writing } else { Progress::Established };
        Ok(())
    }

    /// Takes the answer to the oldest question.
    fn hear(&mut self, answer: Answer) -> Result<(), String> {
        faults::point("member:heard");
        let Some((question, asked)) = self.asked.pop_front() else { return Err("an answer to nothing".into()) };
        let now = clock::boot();
        let text = match answer {
            Answer::Row(row) => row.and_then(|row| row.into_iter().next().flatten()),
            Answer::Refused { code, message } => return self.refused(question, &code, message, now),
        };
        self.shared.member.round_trip.store(now - asked, Relaxed);
        let (number, mut is_well) = (question.number(), true);
        let numbers = || -> Option<Vec<i64>> { text.as_ref()?.split(' ').map(|number| number.parse().ok()).collect() };
        match question {
            Question::Prepare => {}
            Question::Strict(request) => {
                let run = match numbers().as_deref() {
                    Some([first, count, machine]) => {
                        Run { first: *first as u64, count: *count as u64, machine: *machine as u64 }
                    }
                    _ => return Err("the authority's answer cannot be read".into()),
                };
                let slots = self.shared.backends.slots();
                self.tickets.answered(request, run, now, |ticket, run| deliver(slots, ticket, run));
            }
            Question::Block(ask) => {
                match numbers().as_deref() {
                    Some([first, limit]) => {
                        if !self.blocks.answered(self.shared, ask, *first as u64, *limit as u64, now) {
                            let name = self.shared.places.generator_name(ask.generator).name;
                            let name = name.to_string_lossy();
                            is_well = false;
                            self.said.refuse(number, &format!(
                            "generator \"{name}\" was set back at the authority, below what this server has given"
                        ));
                        }
                    }
                    _ => return Err("the authority's answer cannot be read".into()),
                }
            }
            Question::Grant => {
                let answer = text.as_ref().and_then(|text| text.parse().ok());
                self.held.answered(answer.as_ref().ok_or("the authority's answer cannot be read")?, now);
            }
        }
        // That a host knows the function does not say that it is this member's.
        if number != Question::Prepare.number() {
            self.unusable = None;
        }
        if is_well {
            let hosts = self.hosts.as_ref();
            self.said.well(number, || hosts.map_or(String::new(), |hosts| hosts.name()));
        }
        Ok(())
    }

    /// A refusal. If its reason may pass, the question is asked again, of the next host if this is the wrong one.
    fn refused(&mut self, question: Question, code: &str, message: String, now: Micros) -> Result<(), String> {
        // Shutting down, no lease, no standby that acknowledges; a connection that ends; in recovery.
        let passes = code.starts_with("57") || code.starts_with("08") || code == "25006";
        // If this host is no authority, or not this member's, the next host may be.
        let elsewhere = matches!(question, Question::Grant | Question::Prepare)
            && ["0A000", "3F000", "42883", "42501"].contains(&code)
            && self.hosts.as_ref().is_some_and(|hosts| hosts.count() > 1);
        if passes || elsewhere {
            self.said.keep(question.number());
            self.asked.push_front((question, now));
            return Err(message);
        }
        self.said.refuse(question.number(), &message);
        match question {
            Question::Strict(request) => {
                let none = Run { first: 0, count: 0, machine: 0 };
                let slots = self.shared.backends.slots();
                self.tickets.failed(request, |ticket| deliver(slots, ticket, none));
            }
            Question::Block(ask) => {
                let refusal = match code {
                    "2200H" => Refusal::Exhausted,
                    // Locked there: callers wait.
                    "55P03" => Refusal::None,
                    _ => Refusal::Other,
                };
                self.blocks.refused(self.shared, ask, refusal, now);
            }
            Question::Prepare => return Err(message),
            Question::Grant => self.held.refused(now),
        }
        Ok(())
    }

    /// Gives the connection up and goes on to the next host.
    pub fn lose(&mut self, why: &str) {
        self.said.complain(why);
        self.give_up();
        self.since = clock::boot();
        self.unusable.get_or_insert(self.since);
        if let Some(hosts) = &mut self.hosts {
            hosts.next();
        }
    }

    fn give_up(&mut self) {
        self.connection = None;
        self.asked.clear();
        self.held.lost();
        self.tickets.lost();
        self.blocks.lost(self.shared);
        self.shared.member.connected.store(false, Relaxed);
    }

    /// Waits for the first event. False: the process is to end.
    pub fn wait(&mut self) -> bool {
        let idle = &self.shared.member.idle;
        let is_established = self.connection.as_ref().is_some_and(Connection::is_established);
        let can_send = is_established && self.tickets.len().1 < self.tickets.depth();
        // A caller that comes while nothing could be sent is noticed when an answer comes.
        if can_send {
            idle.set(true);
        }
        // A caller that came before `idle` was set is noticed here; one that comes later wakes the worker.
        self.collect();
        let now = clock::boot();
        let timeout = if can_send && self.tickets.len().0 > 0 || is_established && self.blocks.has_wishes(now) {
            0
        } else {
            match &self.hosts {
                None => SECOND,
                Some(hosts) if self.connection.is_none() && hosts.is_resolving() => SECOND / 50,
                Some(_) if self.connection.is_none() => self.connect_at().saturating_sub(now).clamp(0, LONGEST_PAUSE),
                Some(_) => SECOND / 10,
            }
        };
        let connection = self.connection.as_ref().map(|connection| (connection, self.progress));
        let goes_on = self.waiter.wait(connection, timeout);
        idle.set(false);
        goes_on
    }
}

fn deliver(slots: &[Slot], ticket: Ticket, run: Run) {
    if slots[ticket.slot as usize].answer(ticket, run) {
        latch::wake(ticket.slot as i32);
    }
}

fn number(number: impl ToString) -> CString {
    CString::new(number.to_string()).unwrap_or_default()
}

fn host_name() -> CString {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    CString::new(name.trim()).unwrap_or_default()
}
