// The authority of a simulated world, and all that may happen to it and to the servers. Included beside world.rs.

impl Node {
    fn apply(&mut self, record: Record) {
        match record {
            Record::Row(row) => match self.book.iter_mut().find(|old| old.machine == row.machine) {
                Some(old) => *old = row,
                None => self.book.push(row),
            },
            Record::Horizon(horizon) => self.machine.horizon = self.machine.horizon.max(horizon),
            Record::Block(block) => self.block = self.block.max(block),
        }
        self.log.push(record);
    }

    /// How many records are where an answer may rest on them.
    fn durable(&self) -> usize {
        if self.standby.is_none() { self.log.len() } else { self.acked }
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
            book: vec![],
            block: 0,
            follows,
            standby: None,
            acked: 0,
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

    /// Recovery has ended.
    fn start_node(&mut self, place: usize) {
        let time = self.time;
        let node = &mut self.nodes[place];
        node.life += 1;
        (node.up, node.follows) = (true, None);
        node.machine.start(time);
        node.lease = Lease::start(node.machine.boot(time));
        node.answers.clear();
        node.moves.clear();
        let life = node.life;
        self.after(0, Event::Node(place, life));
    }

    /// A base backup becomes the synchronous standby.
    fn attach(&mut self, primary: usize) {
        let standby = self.add_node(Some(primary));
        let log = self.nodes[primary].log.clone();
        log.iter().for_each(|record| self.nodes[standby].apply(*record));
        self.nodes[primary].standby = Some(standby);
        self.nodes[primary].acked = log.len();
    }

    fn append(&mut self, place: usize, record: Record) -> usize {
        let node = &mut self.nodes[place];
        node.apply(record);
        let count = node.log.len();
        if let Some(standby) = node.standby {
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
        if node.up && node.standby == Some(to) {
            node.acked = node.acked.max(count);
            self.settle(from);
        }
    }

    /// Sends what is durable, if a second look finds it so; opens what a move permits.
    fn settle(&mut self, place: usize) {
        let node = &mut self.nodes[place];
        let durable = node.durable();
        for (_, began, target) in node.moves.extract_if(.., |(count, ..)| *count <= durable) {
            node.lease.acknowledged(began);
            node.machine.limit = node.machine.limit.max(target);
        }
        let ready: Vec<_> = node.answers.extract_if(.., |(count, _)| *count <= durable).collect();
        for (_, packet) in ready {
            if let Body::Row(row) = packet.body {
                if !self.nodes[place].book.contains(&row) {
                    continue;
                }
                self.record(row);
            }
            self.send(packet.from, packet.to, packet.life, packet.body);
        }
    }

    /// Grants of one number lie apart, and the later has the higher epoch.
    fn record(&mut self, row: Row) {
        let rows = self.granted.entry(row.machine).or_default();
        match rows.iter_mut().find(|old| old.epoch == row.epoch && old.holder == row.holder) {
            // It is the holder that ends a grant, which was noted when it did.
            Some(old) if old.open && row.open => old.until = old.until.max(row.until),
            // What was durable on an old authority may be answered after it was released at the next: nobody accepts it.
            Some(_) => return,
            None => rows.push(row),
        }
        let other = rows.iter().filter(|old| old.epoch != row.epoch || old.holder != row.holder).find(|old| {
            let apart = if old.epoch < row.epoch { old.until <= row.from } else { row.until <= old.from };
            !apart || old.epoch == row.epoch
        });
        let other = other.copied();
        self.claim(other.is_none(), || format!("{row:?} overlaps {other:?}"));
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
            Body::Ask(ask, holder, clock) => {
                let of =
                    |machine: u64| node.book.iter().find(|row| row.machine == machine).ok_or(grants::Refusal::NotHeld);
                let (row, epoch) = match ask {
                    Ask::Take { request } => {
                        (grants::take(&node.book, holder, request, clock, now.wall, &self.limits), 0)
                    }
                    Ask::Renew { machine, epoch } => {
                        let renew = |row| grants::renew(row, holder, epoch, clock, now.wall, &self.limits);
                        (of(machine).and_then(renew), epoch)
                    }
                    Ask::Release { machine, epoch, reached } => {
                        (of(machine).and_then(|row| grants::release(row, holder, epoch, reached, now.wall)), epoch)
                    }
                };
                match row {
                    Ok(row) if node.book.contains(&row) => (node.log.len(), reply(Body::Row(row))),
                    Ok(row) => (self.append(place, Record::Row(row)), reply(Body::Row(row))),
                    Err(grants::Refusal::NotHeld) => (0, reply(Body::NotHeld(epoch))),
                    Err(_) => return,
                }
            }
            Body::WantBlock(want, holder) => {
                let first = node.block + 1;
                let count = self.append(place, Record::Block(first + want - 1));
                (count, reply(Body::Block(Block { first, count: want }, holder)))
            }
            Body::Strict(request) if node.lease.serves(now.boot) => {
                match node.machine.take(time, request.want.min(5)) {
                    Some(run) => {
                        self.span(AUTHORITY, (packet.to, 0), run.first, run.first + run.count - 1);
                        (0, reply(Body::Run(request.number, run)))
                    }
                    None => (0, reply(Body::Refused(request.number))),
                }
            }
            Body::Strict(request) => (0, reply(Body::Refused(request.number))),
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
        let began = node.machine.boot(time);
        let target = node.machine.follow(time);
        if node.moves.is_empty() && (target.is_some() || node.lease.is_due(began)) {
            let target = target.unwrap_or(node.machine.horizon);
            let count = self.append(place, Record::Horizon(target));
            self.nodes[place].moves.push((count, began, target));
            self.settle(place);
        }
        self.after(SECOND / 10, Event::Node(place, life));
    }

    fn promote(&mut self, place: usize) {
        if !self.nodes[place].up || self.nodes[place].follows.is_none() {
            return;
        }
        self.start_node(place);
        self.counts.promotions += 1;
        let (life, wait) = (self.nodes[place].life, self.random.random_range(SECOND / 4..2 * SECOND));
        self.after(wait, Event::Attach(place, life));
    }

    // What may happen.

    fn chaos(&mut self) {
        let servers = self.servers.len();
        let place = self.random.random_range(0..servers);
        match self.random.random_range(0..20) {
            0..=2 => self.crash(place),
            3..=7 => self.release(place),
            8 if servers < self.plan.servers + 3 => self.clone_server(place),
            9..=10 => {
                let furthest = if self.hours { 3600 * SECOND } else { 5 * SECOND };
                let server = &mut self.servers[place];
                server.machine.wall += self.random.random_range(-furthest..furthest);
                server.healthy = false;
            }
            11..=12 => (self.servers[place].cut_in, self.servers[place].cut_out) = self.random.random(),
            13 => self.servers.iter_mut().for_each(|server| (server.cut_in, server.cut_out) = (false, false)),
            14 => self.servers[place].gossip.take_over(),
            15..=16 => self.fail_over(),
            17 => {
                let node = self.random.random_range(0..self.nodes.len());
                let furthest = if self.hours { 3600 * SECOND } else { 3 * SECOND };
                self.nodes[node].machine.wall += self.random.random_range(-furthest..furthest);
            }
            18 => {
                // A restart, of whichever still thinks that it is the authority.
                let node = self.random.random_range(0..self.nodes.len());
                if self.is_primary(node, self.nodes[node].life) {
                    self.start_node(node);
                }
            }
            _ => {
                // One that was promoted away is ended at last.
                let node = self.random.random_range(0..self.nodes.len());
                let successor = self.nodes[node].standby.is_some_and(|standby| self.nodes[standby].follows.is_none());
                if successor {
                    self.nodes[node].up = false;
                }
            }
        }
        let wait = self.random.random_range(0..8 * SECOND / servers.min(50) as Micros);
        self.after(wait, Event::Chaos);
    }

    fn crash(&mut self, place: usize) {
        let server = &mut self.servers[place];
        if server.up {
            (server.up, server.fresh) = (false, false);
            server.life += 1;
            server.blocks = Blocks::new(server.gossip.me.by, server.blocks.highest(), &(BLOCK..=8 * BLOCK));
            let (life, wait) = (server.life, self.random.random_range(0..2 * SECOND));
            self.after(wait, Event::Start(place, life));
        }
    }

    fn release(&mut self, place: usize) {
        let server = &mut self.servers[place];
        if let Some(held) = server.member.held.filter(|_| server.up) {
            server.machine.limit = 0;
            let reached = tick_end(server.machine.last);
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
        server.gossip.me = Claim { by, since: 0, takeovers: 0, ..server.gossip.me };
        self.servers.push(server);
        self.counts.clones += 1;
        let wait = self.random.random_range(0..SECOND);
        self.after(wait, Event::Start(place, 0));
    }

    /// The standby of whoever is the authority is promoted, while the old one is dead, stopped for a while, or goes on.
    fn fail_over(&mut self) {
        let current = (0..self.nodes.len()).rev().find(|node| self.nodes[*node].follows.is_none());
        let Some(old) = current else { return };
        let Some(standby) = self.nodes[old].standby else { return };
        match self.random.random_range(0..3) {
            0 => self.nodes[old].up = false,
            1 => self.nodes[old].paused = self.time + self.random.random_range(0..4 * SECOND),
            _ => (),
        }
        let (life, wait) = (self.nodes[standby].life, self.random.random_range(0..SECOND / 2));
        self.after(wait, Event::Promote(standby, life));
    }
}
