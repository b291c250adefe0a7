#!/usr/bin/env -S python3 -B
"""What the orders over several servers cost: an authority and one member on this machine, which does nothing else.

`make bench-members` sets it up, and writes docs/performance/members.md. Everything that is compared runs in turns within
each round, in an order that changes from round to round; the medians of the rounds are shown with their range. Nothing
passes or fails here.

    BENCH=quick    one short round
"""

import os
import pwd
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

BIN = os.environ["PG_BINDIR"]
HERE = os.path.dirname(os.path.abspath(__file__))
QUICK = os.environ.get("BENCH") == "quick"
ROUNDS, SECONDS = (1, 2) if QUICK else (5, 4)
DELAY_US = 500  # each way
AS_OWNER = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
ROOT = tempfile.mkdtemp(prefix="idgen-bench-")
os.chmod(ROOT, 0o755)
SHUFFLE = random.Random(1)
signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
started = []  # processes that are to end with this one


def run(*command, **options):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **options).stdout.strip()


class Server:
    def __init__(self, name, settings):
        self.dir, self.data = f"{ROOT}/{name}", f"{ROOT}/{name}/data"
        os.mkdir(self.dir)
        if AS_OWNER:
            os.chown(self.dir, pwd.getpwnam("postgres").pw_uid, -1)
        run(*AS_OWNER, f"{BIN}/initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        with open(f"{self.data}/postgresql.conf", "a") as file:
            file.write(f"listen_addresses = ''\nunix_socket_directories = '{self.dir}'\nmax_connections = 200\n"
                       f"shared_preload_libraries = 'idgen'\n{settings}\n")
        run(*AS_OWNER, f"{BIN}/pg_ctl", "-w", "-D", self.data, "-l", f"{self.dir}/log", "start", cwd="/")
        started.append(self.stop)
        self.sql("CREATE EXTENSION idgen")
        if "authority_database" in settings:
            self.sql("CREATE EXTENSION idgen_authority")

    def sql(self, text):
        return run(f"{BIN}/psql", "-XAqt", "-v", "ON_ERROR_STOP=1", "-h", self.dir, "-U", "postgres", "-c", text, "postgres")

    def stop(self):
        run(*AS_OWNER, f"{BIN}/pg_ctl", "-D", self.data, "-m", "immediate", "stop", cwd="/")

    def pids(self):
        with open(f"{self.data}/postmaster.pid") as file:
            postmaster = file.readline().strip()
        return [postmaster] + run("pgrep", "-P", postmaster).split()

    def cpu(self):
        """The seconds that its processes have had a CPU; those that ended do not count."""
        total = 0
        for pid in self.pids():
            try:
                with open(f"/proc/{pid}/schedstat") as file:
                    total += int(file.read().split()[0])
            except FileNotFoundError:
                pass
        return total / 1e9


def pgbench(server, script, sessions, *options):
    path = f"{ROOT}/script.sql"
    with open(path, "w") as file:
        file.write(script + ";\n")
    return run(f"{BIN}/pgbench", "-h", server.dir, "-U", "postgres", "-n", "-M", "prepared", "-D", "connected=0", "-f", path, "-c", str(sessions),
               "-j", "2", "-T", str(SECONDS), *options, "postgres", stderr=subprocess.STDOUT)


def rate(text):
    return float(re.search(r"tps = ([\d.]+)", text)[1])


def turns(runs):
    """Each name with what its function returned in each round."""
    results = {name: [] for name in runs}
    for number in range(ROUNDS):
        for name in SHUFFLE.sample(list(runs), len(runs)):
            results[name].append(runs[name]())
        print(f"   {time.strftime('%H:%M:%S')}  round {number + 1} of {ROUNDS}", file=sys.stderr, flush=True)
    return results


def spread(values, digits=0):
    text = f"{statistics.median(values):,.{digits}f}"
    return text if len(values) == 1 else f"{text} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"


def ratio(over, under):
    return spread([a / b for a, b in zip(over, under)], 2)


def cpu_per_id(server, script, sessions):
    """Microseconds of the server's CPU for an id; its sessions must outlive the measurement."""
    process = subprocess.Popen(
        [f"{BIN}/pgbench", "-h", member.dir, "-U", "postgres", "-n", "-M", "prepared", "-D", "connected=0", "-f", script, "-c", str(sessions),
         "-j", "2", "-T", str(SECONDS + 3), "-P", "1", "postgres"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    rates, marks = [], []
    for line in process.stderr:
        if match := re.search(r"progress: .* ([\d.]+) tps", line):
            rates.append(float(match[1]))
            marks.append((time.monotonic(), server.cpu()))
    process.wait()
    (t0, c0), (t1, c1) = marks[0], marks[-2]
    ids = statistics.mean(rates[1:-1]) * (t1 - t0)
    return (c1 - c0) / ids * 1e6


try:
    authority = Server("authority", "idgen.machine_id = 0\nidgen.authority_database = postgres\nidgen.ordering = strict")
    run("rustc", "-O", "-o", f"{ROOT}/delay", f"{HERE}/delay.rs")
    port = 20000 + os.getpid() % 20000
    delay = subprocess.Popen([f"{ROOT}/delay", str(port), f"{authority.dir}/.s.PGSQL.5432", str(DELAY_US)])
    started.append(delay.kill)
    near = f"host={authority.dir} user=postgres dbname=postgres"
    far = f"host=127.0.0.1 port={port} user=postgres dbname=postgres"
    member = Server("member", f"idgen.machine_id = 1\nidgen.ordering = strict\nidgen.authority = '{near}'\n"
                    "idgen.min_block_size = 1000\nidgen.max_block_size = 1000000")
    authority.sql("CREATE SEQUENCE s; CREATE VIEW nv AS SELECT nextval('s') AS id")
    for server in authority, member:
        server.sql("SELECT idgen_create_generator('b', 'counter', ordering => 'block')")
    has_links = member.sql("SELECT count(*) FROM pg_available_extensions WHERE name IN ('dblink', 'postgres_fdw')") == "2"
    if not has_links:
        sys.exit("this PostgreSQL has no dblink and postgres_fdw to compare with")
    member.sql(f"""
        CREATE EXTENSION dblink; CREATE EXTENSION postgres_fdw; CREATE SEQUENCE own;
        CREATE SERVER a FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{authority.dir}', dbname 'postgres');
        CREATE USER MAPPING FOR postgres SERVER a OPTIONS (user 'postgres');
        CREATE FOREIGN TABLE nv (id bigint) SERVER a OPTIONS (table_name 'nv')""")
    def by_dblink(to):
        """One connection of each session, made when it first asks."""
        return (f"\\if :connected\n\\else\nSELECT dblink_connect('a', '{to}');\n\\set connected 1\n\\endif\n"
                "SELECT id FROM dblink('a', 'SELECT idgen_next()') AS t(id bigint)")

    STRICT = "SELECT idgen_next()"
    print("   strict ids, no delay", file=sys.stderr)
    table = []
    for sessions in 1, 4, 16, 64:
        found = turns({
            "strict": lambda: rate(pgbench(member, STRICT, sessions)),
            "dblink": lambda: rate(pgbench(member, by_dblink(near), sessions)),
            "fdw": lambda: rate(pgbench(member, "SELECT id FROM nv", sessions)),
            "direct": lambda: rate(pgbench(authority, STRICT, sessions)),
            "nothing": lambda: rate(pgbench(member, "SELECT 1", sessions)),
        })
        # A statement on the member that does nothing, followed by one on the authority.
        both = [1 / (1 / a + 1 / b) for a, b in zip(found["direct"], found["nothing"])]
        table.append(f"| {sessions} | {spread(found['strict'])} | {ratio(found['strict'], found['dblink'])} "
                     f"| {ratio(found['strict'], found['fdw'])} | {ratio(found['strict'], found['direct'])} | {ratio(both, found['direct'])} |")
    print("   strict ids, 1 ms away", file=sys.stderr)
    def point(to):
        member.sql(f"ALTER SYSTEM SET idgen.authority = '{to}'")
        member.sql("SELECT pg_reload_conf()")
        for _ in range(100):
            time.sleep(0.1)
            host = to.split("port=")[1].split()[0] if "port=" in to else authority.dir
            if member.sql(f"SELECT connected AND host LIKE '%{host}%' FROM idgen_authority()") == "t":
                return
            subprocess.run([f"{BIN}/psql", "-XAqt", "-h", member.dir, "-U", "postgres", "-c", STRICT, "postgres"],
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        sys.exit("the member does not reach its authority")
    point(far)
    distant = []
    for sessions in 1, 4, 16, 64:
        found = turns({
            "strict": lambda: rate(pgbench(member, STRICT, sessions)),
            "dblink": lambda: rate(pgbench(member, by_dblink(far), sessions)),
        })
        distant.append(f"| {sessions} | {spread(found['strict'])} | {ratio(found['strict'], found['dblink'])} |")
    point(near)
    print("   CPU of the authority", file=sys.stderr)
    scripts = {}
    for name, text in ("strict", STRICT), ("dblink", by_dblink(near)):
        scripts[name] = f"{ROOT}/{name}.sql"
        with open(scripts[name], "w") as file:
            file.write(text + ";\n")
    cpu = turns({name: (lambda path: lambda: cpu_per_id(authority, path, 64))(path) for name, path in scripts.items()})
    print("   blocks", file=sys.stderr)
    member.sql("SELECT idgen_next('b')")
    blocks = turns({
        "block": lambda: rate(pgbench(member, "SELECT idgen_next('b')", 64)),
        "nextval": lambda: rate(pgbench(member, "SELECT nextval('own')", 64)),
    })
    tenth = max(1, int(statistics.median(blocks["block"]) / 10))
    def stalled():
        """The slowest call, in ms, at a tenth of that rate, with the authority stopped for a second in the middle or not."""
        pgbench(member, "SELECT idgen_next('b')", 16, "-R", str(tenth), "-l", f"--log-prefix={ROOT}/log")
        worst = 0
        for name in os.listdir(ROOT):
            if name.startswith("log."):
                with open(f"{ROOT}/{name}") as file:
                    worst = max([worst] + [int(line.split()[2]) - int(line.split()[6]) for line in file])
                os.remove(f"{ROOT}/{name}")
        return worst / 1000
    def with_stop():
        stopped = authority.pids()
        subprocess.Popen(["sh", "-c", f"sleep {SECONDS / 2 - 0.5}; kill -STOP {' '.join(stopped)}; sleep 1; kill -CONT {' '.join(stopped)}"])
        return stalled()
    stall = turns({"stopped": with_stop, "not": stalled})
    many = member.sql("SELECT idgen_next_many(1000)").count("\n") + 1

    version = re.search(r"\d+(\.\d+)?", run(f"{BIN}/postgres", "--version"))[0]
    commit = run("git", "-C", HERE, "rev-parse", "--short", "HEAD")
    with open("/proc/cpuinfo") as file:
        cores = file.read().count("processor\t:")
    text = f"""# What the orders over several servers cost

Made by `make bench-members`: PostgreSQL {version}, commit {commit}, {cores} cores, authority and member and pgbench on the same machine.
{ROUNDS} round{'s' * (ROUNDS > 1)} of {SECONDS} s, medians with their range. A call is a statement of its own (`pgbench -M prepared`).

## Strict, no delay

| sessions | ids a second | times a connection for each session (dblink) | times `nextval()` through postgres_fdw | times sessions on the authority itself | what those would be with a statement `SELECT 1` on the member before each |
|---|---|---|---|---|---|
{chr(10).join(table)}

A strict id is asked for when its call has begun, so that a session on a member makes two round trips where one on the authority makes one: the last
column is what two statements one after the other get. It is no bound: a round trip costs less while the machine is awake from the one before it.

## Strict, {2 * DELAY_US / 1000:g} ms of round trip added

| sessions | ids a second | times a connection for each session (dblink) |
|---|---|---|
{chr(10).join(distant)}

The authority's CPU for an id, 64 sessions, no delay: {spread(cpu['strict'], 1)} µs with one member worker, {spread(cpu['dblink'], 1)} µs with a
connection for each session: 1/{statistics.median([b / a for a, b in zip(cpu['strict'], cpu['dblink'])]):.0f}. `idgen_next_many(1000)`: one request for {many:,} ids.

## Blocks

64 sessions: {spread(blocks['block'])} ids a second, {ratio(blocks['block'], blocks['nextval'])} of a local `nextval()`. At {tenth:,} ids a second from 16 sessions the slowest
call took {spread(stall['not'], 1)} ms, and {spread(stall['stopped'], 1)} ms where the authority stood still for a second meanwhile.
"""
    with open(f"{HERE}/../../docs/performance/members.md", "w") as file:
        file.write(text)
    print(text)
finally:
    for stop in reversed(started):
        stop()
    shutil.rmtree(ROOT, ignore_errors=True)
