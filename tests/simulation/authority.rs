// The authority of a simulated world, and the faults that happen to it and to the servers. Included beside world.rs.

impl Node {
    fn apply(&mut self, record: Record) {
        match record {
            Record::Row(row) => match self.book.rows.iter_mut().find(|old| old.machine == row.machine) {
                Some(old) => *old = row,
                None => self.book.rows.push(row),
            },
            Record::State(settles, epoch) => (self.book.settles, self.book.epoch) = (settles, epoch),
            Record::Horizon(horizon) => self.machine.horizon = self.machine.horizon.max(horizon),
            Record::Block(block) => self.block = self.block.max(block),
        }
        self.log.push(record);
    }
}

impl World {
    fn add_node(&mut self, follows: Option<usize>) -> usize {
        let place = self.nodes.len();
        let machine = self.clocks();
        self.nodes.push(Node {
            up: true,
            life: 0,
            paused: 0,
            machine,
            log: vec![],
            book: Book { id: 1, ..Book::default() },
            block: 0,
            follows,
            standbys: vec![],
            grants_from: 0,
            lease: Lease::start(0),
            answers: vec![],
            moves: vec![],
        });
        if follows.is_none() {
            self.start_node(place);
        }
        place
    }

    fn is_primary(&self, node: usize, life: u32) -> bool {
        let node = &self.nodes[node];
        node.up && node.follows.is_none() && node.life == life
    }

    /// Starts a node whose recovery has ended.
    fn start_node(&mut self, place: usize) {
        let (time, fault) = (self.time, self.plan.fault);
        let node = &mut self.nodes[place];
        node.life += 1;
        (node.up, node.follows) = (true, None);
        node.machine.start(time);
        node.lease = Lease::start(node.machine.boot(time));
        node.grants_from = node.machine.boot(time) + if fault == Some(Fault::NoGrace) { 0 } else { book::GRACE };
        node.answers.clear();
        node.moves.clear();
        let life = node.life;
        self.after(0, Event::Node(place, life));
    }

    /// Base backups of the primary become its synchronous standbys.
    fn attach(&mut self, primary: usize) {
        let log = self.nodes[primary].log.clone();
        for _ in 0..self.named {
            let standby = self.add_node(Some(primary));
            log.iter().for_each(|record| self.nodes[standby].apply(*record));
            self.nodes[primary].standbys.push((standby, log.len()));
        }
    }

    /// How many records of a primary are durable, so that an answer may rest on them.
    fn durable(&self, place: usize) -> usize {
        let node = &self.nodes[place];
        let follows = |standby: &usize| self.nodes[*standby].follows == Some(place);
        let acked = node.standbys.iter().filter(|(standby, _)| self.needed == self.named || follows(standby));
        let acked: Vec<usize> = acked.take(self.needed).map(|(_, acked)| *acked).collect();
        match acked.iter().min() {
            None if node.standbys.is_empty() => node.log.len(),
            Some(least) if acked.len() == self.needed => *least,
            _ => 0,
        }
    }

    fn append(&mut self, place: usize, record: Record) -> usize {
        let node = &mut self.nodes[place];
        node.apply(record);
        let count = node.log.len();
        for (standby, _) in node.standbys.clone() {
            let wait = self.random.random_range(200..self.lag);
            self.after(wait, Event::Replicate(place, standby, count));
        }
        count
    }

    fn replicate(&mut self, from: usize, to: usize, count: usize) {
        if self.nodes[to].follows == Some(from) {
            for place in self.nodes[to].log.len()..count {
                let record = self.nodes[from].log[place];
                self.nodes[to].apply(record);
            }
            let wait = self.random.random_range(200..self.lag);
            self.after(wait, Event::Acknowledge(from, to, count));
        }
    }

    fn acknowledge(&mut self, from: usize, to: usize, count: usize) {
        let node = &mut self.nodes[from];
        if node.paused > self.time {
            let wait = node.paused - self.time;
            return self.after(wait, Event::Acknowledge(from, to, count));
        }
        if let Some((_, acked)) = node.standbys.iter_mut().find(|(standby, _)| node.up && *standby == to) {
            *acked = count.max(*acked);
            self.settle(from);
        }
    }

    /// Sends answers whose records are durable by now; opens the bounds that a move permits.
    fn settle(&mut self, place: usize) {
        let durable = self.durable(place);
        let node = &mut self.nodes[place];
        for (_, began, target) in node.moves.extract_if(.., |(count, ..)| *count <= durable) {
            node.lease.acknowledged(node.machine.boot(self.time), began);
            node.machine.limit = node.machine.limit.max(target);
            node.machine.open(AUTHORITY, node.lease.until);
        }
        let ready: Vec<_> = node.answers.extract_if(.., |(count, _)| *count <= durable).collect();
        for (_, packet) in ready {
            if let Body::Granted(answer, holder) = &packet.body {
                self.record(answer, *holder);
            }
            self.send(packet.from, packet.to, packet.life, packet.body);
        }
    }

    /// Grants of one number must not overlap, and the later one must have the higher epoch.
    fn record(&mut self, answer: &Answer, holder: Incarnation) {
        let Said::Open { machine, epoch, from, until, .. } = answer.said else { return };
        let new = Granted { holder, epoch, from, until, open: true };
        let set_back = self.set_back;
        let rows = self.granted.entry(machine).or_default();
        match rows.iter_mut().find(|old| old.epoch == epoch && old.holder == holder) {
            // The holder ends a grant, and that was noted when it did.
            Some(old) if old.open => old.until = old.until.max(until),
            // An old authority's durable answer may come after the release at the next one: nobody accepts it.
            Some(_) => return,
            None => rows.push(new),
        }
        let other = rows.iter().filter(|old| old.epoch != epoch || old.holder != holder).find(|old| {
            let (before, after) = (old.until <= from, until <= old.from);
            // An authority that was set back counts its epochs anew.
            !(if set_back {
                before || after
            } else if old.epoch < epoch {
                before
            } else {
                after && old.epoch > epoch
            })
        });
        let other = other.copied();
        self.claim(other.is_none(), || format!("{new:?} of {machine} overlaps {other:?}"));
    }

    fn serve(&mut self, packet: Packet) {
        let (time, place) = (self.time, packet.to - NODES);
        let node = &mut self.nodes[place];
        if !node.up || node.follows.is_some() {
            return;
        }
        if node.paused > time {
            let wait = node.paused - time;
            return self.after(wait, Event::Deliver(packet));
        }
        let now = node.machine.now(time);
        let reply = |body| Packet { from: packet.to, to: packet.from, life: packet.life, body };
        let early = self.plan.fault == Some(Fault::AnswerBeforeStandby);
        let (count, answer) = match packet.body {
            Body::Ask(question) => {
                let clock = node.machine.effective(time);
                let limits = Limits { grace: node.grants_from - now.boot, wall: now.wall, ..self.limits.clone() };
                let mut book = node.book.clone();
                let answer = book.answer(&question, 0, clock, self.random.random(), &limits);
                let mut records: Vec<Record> = book
                    .rows
                    .iter()
                    .filter(|row| book.changed.contains(&row.machine))
                    .map(|row| Record::Row(*row))
                    .collect();
                if (book.settles, book.epoch) != (node.book.settles, node.book.epoch) {
                    records.push(Record::State(book.settles, book.epoch));
                }
                let mut count = node.log.len();
                for record in records {
                    count = self.append(place, record);
                }
                let Ok(answer) = answer else { return };
                (count, reply(Body::Granted(answer, question.holder)))
            }
            Body::WantBlock(want) => {
                let first = node.block + 1;
                let count = self.append(place, Record::Block(first + want - 1));
                (count, reply(Body::Block(Block { first, count: want })))
            }
            Body::Strict(request) => match node.machine.take(time, request.want.min(5)) {
                Some(run) => {
                    self.span(AUTHORITY, (packet.to, 0), run.first, run.first + run.count - 1);
                    (0, reply(Body::Run(request.number, run)))
                }
                None => (0, reply(Body::Refused)),
            },
            _ => return,
        };
        let count = if early { 0 } else { count };
        self.nodes[place].answers.push((count, answer));
        self.settle(place);
    }

    fn work_node(&mut self, place: usize) {
        let time = self.time;
        let node = &mut self.nodes[place];
        let life = node.life;
        if node.paused > time {
            let wait = node.paused - time;
            return self.after(wait, Event::Node(place, life));
        }
        let target = node.machine.follow(time);
        let (boot, began) = (node.machine.boot(time), node.machine.effective(time));
        if node.moves.is_empty() && (target.is_some() || node.lease.due(boot, began) <= boot) {
            let target = target.unwrap_or(node.machine.horizon);
            let count = self.append(place, Record::Horizon(target));
            self.nodes[place].moves.push((count, began, target));
            self.settle(place);
        }
        self.after(SECOND / 10, Event::Node(place, life));
    }

    fn promote(&mut self, place: usize) {
        let Some(old) = self.nodes[place].follows else { return };
        let is_first = self.nodes[old].standbys.iter().all(|(standby, _)| self.nodes[*standby].follows == Some(old));
        if !self.nodes[place].up || !is_first {
            return;
        }
        self.start_node(place);
        self.counts.promotions += 1;
        let (life, wait) = (self.nodes[place].life, self.random.random_range(SECOND / 4..2 * SECOND));
        self.after(wait, Event::Attach(place, life));
    }

    // The faults.

    /// The clock of a machine, new or not, is not set at its boot, leaps or pauses, and is then set right.
    fn misset(&mut self, place: usize) {
        const DAY: Micros = 86_400 * SECOND;
        let ran = self.random.random_ratio(2, 3);
        let before = [0, 7200 * SECOND, 7 * DAY, 300 * DAY][self.random.random_range(0..4)];
        let far = self.random.random_range(-20 * 3600 * SECOND..20 * 3600 * SECOND);
        let boots = match self.random.random_range(0..6) {
            0 => -NOON,
            1 => far,
            2 if ran => -before - 2 * 3600 * SECOND - far.abs(),
            3 if ran => 12 * 365 * DAY,
            _ => 0,
        };
        if ran {
            self.machine(place).horizon = NOON - before + LEAD;
        }
        self.set_clock(place, true, boots);
        let mut at = self.random.random_range(0..4 * SECOND);
        self.after(at, Event::Clock(place, true, 0));
        at += self.random.random_range(0..2 * SECOND);
        let (runs, off) = [(true, far), (false, 0), (true, 0)][self.random.random_range(0..3)];
        self.after(at, Event::Clock(place, runs, off));
        at += self.random.random_range(0..3 * SECOND);
        self.after(at, Event::Clock(place, true, 0));
        self.right = self.right.max(at);
    }

    fn machine(&mut self, place: usize) -> &mut Machine {
        if place < NODES { &mut self.servers[place].machine } else { &mut self.nodes[place - NODES].machine }
    }

    fn set_clock(&mut self, place: usize, runs: bool, off: Micros) {
        let time = self.time;
        let machine = self.machine(place);
        let boot = machine.boot(time);
        machine.fast = if runs { 0 } else { -1_000_000 };
        machine.zero += boot - machine.boot(time);
        machine.wall = NOON + time + off - boot;
    }

    fn chaos(&mut self) {
        let servers = self.servers.len();
        let place = self.random.random_range(0..servers);
        match self.random.random_range(0..20) {
            0..=2 => self.crash(place),
            3..=7 => self.release(place),
            8 if servers < self.plan.servers + 3 => self.clone_server(place),
            9 => {
                let furthest = if self.hours { 3600 * SECOND } else { 5 * SECOND };
                let server = &mut self.servers[place];
                server.machine.wall += self.random.random_range(-furthest..furthest);
                server.healthy = false;
            }
            11..=12 => (self.servers[place].cut_in, self.servers[place].cut_out) = self.random.random(),
            13 => self.servers.iter_mut().for_each(|server| (server.cut_in, server.cut_out) = (false, false)),
            14 => self.take_over(place),
            10 => self.lie(place),
            15..=16 => self.fail_over(),
            19 if self.restores => self.restore(),
            // In a world in which authorities are set back, their clocks are not changed.
            17 if !self.restores => {
                let node = self.random.random_range(0..self.nodes.len());
                let furthest = if self.hours { 3600 * SECOND } else { 3 * SECOND };
                self.nodes[node].machine.wall += self.random.random_range(-furthest..furthest);
            }
            18 => {
                // A restart of a node that still thinks that it is the authority.
                let node = self.random.random_range(0..self.nodes.len());
                if self.is_primary(node, self.nodes[node].life) {
                    self.start_node(node);
                }
            }
            _ => {
                // A primary whose standby was promoted ends at last.
                let node = self.random.random_range(0..self.nodes.len());
                let is_promoted = |(standby, _): &(usize, usize)| self.nodes[*standby].follows.is_none();
                if self.nodes[node].standbys.iter().any(is_promoted) {
                    self.nodes[node].up = false;
                }
            }
        }
        let wait = self.random.random_range(0..8 * SECOND / servers.min(50) as Micros);
        self.after(wait, Event::Chaos);
    }

    /// Somebody tells a server that many have its machine id, took it over, and are far in the future.
    fn lie(&mut self, place: usize) {
        for _ in 0..7 {
            let by = Incarnation { system: self.random.random(), timeline: 1, nonce: self.random.random() };
            let machine = self.servers[place].gossip.me.machine;
            let claim = Claim { machine, by, epoch: 0, taken_over: NOON + self.time, since: 0 };
            let told = Claim { by: Incarnation { timeline: 2, ..by }, ..claim };
            let heard = vec![Heard { claim: told, age: 0, behind: Some(0) }];
            let far = NOON + 2_000_000_000 * SECOND;
            let body = Body::Question(Message { claim, wall: far, reach: far, heard }, 0);
            let from = self.random.random_range(0..self.servers.len());
            self.send(from, place, u32::MAX, body);
        }
    }

    fn crash(&mut self, place: usize) {
        let server = &mut self.servers[place];
        if server.up {
            (server.up, server.fresh) = (false, false);
            server.life += 1;
            let (life, wait) = (server.life, self.random.random_range(0..2 * SECOND));
            self.after(wait, Event::Start(place, life));
        }
    }

    fn release(&mut self, place: usize) {
        let server = &mut self.servers[place];
        if let Some(held) = server.member.held.filter(|_| server.up) {
            server.machine.words.close();
            server.machine.words.leave_tick(&SERVER);
            let reached = server.machine.reach();
            server.machine.raise(self.time, reached);
            server.member.release(reached);
            let reached = server.member.released.map_or(0, |(.., reached)| reached);
            let rows = self.granted.get_mut(&held.machine).into_iter().flatten();
            for row in rows.filter(|row| row.epoch == held.epoch && row.holder == server.member.me) {
                (row.until, row.open) = (row.until.min(reached), false);
            }
        }
    }

    /// A base backup of a server is started beside it, on another machine.
    fn clone_server(&mut self, origin: usize) {
        let place = self.servers.len();
        let mut server = self.servers[origin].clone();
        let machine = Machine { horizon: server.machine.horizon, ..self.clocks() };
        (server.machine, server.healthy, server.fresh) = (machine, false, false);
        (server.up, server.life, server.history) = (false, 0, vec![]);
        let by = Incarnation { timeline: server.gossip.me.by.timeline + 1, nonce: place as u64, ..server.gossip.me.by };
        server.gossip.me = Claim { by, since: 0, taken_over: 0, ..server.gossip.me };
        self.servers.push(server);
        self.counts.clones += 1;
        let wait = self.random.random_range(0..SECOND);
        self.after(wait, Event::Start(place, 0));
    }

    /// A standby of the present authority is promoted, while the old one is dead, stopped for a while, or goes on.
    fn fail_over(&mut self) {
        let Some(old) = self.authority() else { return };
        let following = self.nodes[old].standbys.iter().map(|(standby, _)| *standby);
        let following: Vec<usize> = following.filter(|standby| self.nodes[*standby].follows == Some(old)).collect();
        // Where not all standbys must have a record, the first by name has it.
        let pick = if self.needed < self.named { 0 } else { self.random.random_range(0..following.len().max(1)) };
        let Some(standby) = following.get(pick).copied() else { return };
        match self.random.random_range(0..3) {
            0 => self.nodes[old].up = false,
            1 => self.nodes[old].paused = self.time + self.random.random_range(0..4 * SECOND),
            _ => (),
        }
        let (life, wait) = (self.nodes[standby].life, self.random.random_range(0..SECOND / 2));
        self.after(wait, Event::Promote(standby, life));
    }

    fn authority(&self) -> Option<usize> {
        (0..self.nodes.len()).rev().find(|node| self.nodes[*node].follows.is_none())
    }

    /// An old backup is started in place of the authority and its standbys.
    fn restore(&mut self) {
        let Some(old) = self.authority() else { return };
        self.nodes.iter_mut().for_each(|node| node.up = false);
        let place = self.add_node(Some(old));
        self.nodes[place].machine = Machine { horizon: 0, ..self.nodes[old].machine.clone() };
        let kept = self.random.random_range(0..=self.nodes[old].log.len());
        let log = self.nodes[old].log.clone();
        log[..kept].iter().for_each(|record| self.nodes[place].apply(*record));
        self.start_node(place);
        self.set_back = true;
        self.counts.restored += 1;
        let life = self.nodes[place].life;
        self.after(SECOND / 4, Event::Attach(place, life));
    }
}
