#!/usr/bin/env -S python3 -B
"""What ids cost: one call, many sessions, whole jobs, and the slowest calls, beside what else there is.

Runs on the server that PGHOST names, with the programs in PG_BINDIR; `make bench` sets both up. Everything that is
compared runs in turns within each round, in an order that changes from round to round: other work of the
machine hits all of them. A ratio is taken within a round, and the median over the rounds is shown with its quartiles.
Nothing passes or fails here.

    BENCH=quick    fewer rounds and rows: two or three minutes instead of fifteen
"""

import glob
import os
import random
import re
import statistics
import subprocess
import sys
import time

from report import Report

QUICK = os.environ.get("BENCH") == "quick"
BIN = os.environ["PG_BINDIR"]
SCRATCH = os.environ["PGHOST"]  # the server's own folder: it can read what lies here
HERE = os.path.dirname(os.path.abspath(__file__))
SHUFFLE = random.Random(1)


def pick(full, quick):
    return quick if QUICK else full


def progress(text):
    print(f"   {time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)


def shuffled(items):
    return SHUFFLE.sample(list(items), len(items))


def sessions_of(n):
    return f"{n} session" + "s" * (n > 1)


def rounds_of(n):
    return f"{n} round" + "s" * (n > 1)


def output(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


class Session:
    """A session of psql that stays connected, so that nothing of it is measured but the statement."""

    def __init__(self):
        self.psql = subprocess.Popen(
            [f"{BIN}/psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", "postgres"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )
        self.process = f"/proc/{self.value('SELECT pg_backend_pid()')}"

    def run(self, sql):
        """The rows of the statement, and the milliseconds that it took."""
        self.psql.stdin.write(f"\\timing on\n{sql};\n\\timing off\n")
        rows = []
        for line in self.psql.stdout:
            if match := re.match(r"Time: ([\d.]+) ms", line):
                return rows, float(match[1])
            rows.append(line.rstrip("\n"))
        raise SystemExit(f"failed: {sql}")

    def value(self, sql):
        return self.run(sql)[0][0]

    def cpu_ns(self, sql):
        """The nanoseconds that the statement took on a CPU, without those of other processes."""
        def used():
            with open(f"{self.process}/schedstat") as file:
                return int(file.read().split()[0])
        before = used()
        self.run(sql)
        return used() - before

    def ended_cpu_s(self):
        """The seconds that the server's processes that have ended took on a CPU."""
        time.sleep(0.1)  # till the last of them is gone
        stat = lambda path: open(f"{path}/stat").read().rpartition(")")[2].split()
        server = stat(f"/proc/{stat(self.process)[1]}")
        return (int(server[13]) + int(server[14])) / os.sysconf("SC_CLK_TCK")


def pgbench(script, sessions, *options):
    """Runs `script` and gives its transactions a second and, for each of them, its session, microseconds and script.

    Without a rate if it met a duplicate key: there are ids that repeat.
    """
    path = f"{SCRATCH}/script.sql"
    with open(path, "w") as file:
        file.write(script)
    for old in glob.glob(f"{SCRATCH}/log.*"):
        os.remove(old)
    done = subprocess.run(
        [f"{BIN}/pgbench", "-n", "-M", "prepared", "-c", str(sessions), "-j", str(min(sessions, os.cpu_count())),
         "-l", f"--log-prefix={SCRATCH}/log", "-f", path, *options, "postgres"], capture_output=True, text=True)
    if done.returncode and "duplicate key" not in done.stderr:
        raise SystemExit(done.stderr)
    if done.returncode:
        return None, []
    calls = []
    for log in glob.glob(f"{SCRATCH}/log.*"):
        with open(log) as file:
            calls += [tuple(int(fields[i]) for i in (0, 2, 3)) for fields in map(str.split, file)]
    return float(re.search(r"tps = ([\d.]+)", done.stdout)[1]), calls


def bench_calls(session, report):
    """CPU time of one call: a scan that calls the function for each row, less the bare scan."""
    rows, rounds = pick(300_000, 200_000), pick(21, 7)
    first = int(session.value("SELECT idgen_next()"))
    numbers = f"generate_series(1, {rows}) g"
    ids = f"generate_series({first}::bigint, {first + rows - 1}) g"
    times = f"generate_series(timestamptz '2026-01-01', timestamptz '2026-01-01' + {rows - 1} * interval '1 ms', '1 ms') g"
    thousands = lambda f: f"(SELECT {f} FROM generate_series(1, {rows // 1000})) s(g)"
    series = thousands("generate_series(1, 1000)")
    # A function without arguments reads no column of the scan, and neither does its baseline.
    bare = {numbers: "1", ids: "g", times: "g", series: "g"}
    parts = ("bench_empty()", "bench_clock()", "bench_exchange()", "bench_floor()")
    rivals = ("nextval('plain')", "clock_timestamp()", "gen_random_uuid()", session.uuid_v7, "instagram()")
    generators = ("idgen_next()", "idgen_next('snowflake')", "idgen_next('wide')", "idgen_next('streams')",
                  "idgen_next('counter_1000')", "idgen_next('counter_10000')")
    calls = {f: (f, numbers, numbers) for f in (*parts, *generators, *rivals)}
    many = "idgen_next_many(1000), an id"
    calls[many] = ("g", thousands("idgen_next_many(1000)"), series)
    pairs = {  # a function and the same said in SQL
        "idgen_timestamp(id)": ("idgen_timestamp(g)", "to_timestamp(((g >> 22) + 1735689600000) / 1000.0::float8)", ids),
        "idgen_machine(id)": ("idgen_machine(g)", "((g >> 12) & 1023)::int", ids),
        "idgen_sequence(id)": ("idgen_sequence(g)", "g & 4095", ids),
        "idgen_min_id(time)": ("idgen_min_id(g)", "((extract(epoch FROM g) * 1000)::bigint - 1735689600000) << 22", times),
    }
    for name, (f, sql, source) in pairs.items():
        calls[name], calls[f"{name} as SQL"] = (f, source, source), (sql, source, source)
    found = {name: [] for name in calls}
    for i in range(rounds):
        progress(f"one call: round {i + 1} of {rounds}")
        taken = {name: [] for name in [*calls, *bare]}
        for name in shuffled([*calls, *bare, *bare, *bare]):
            f, source = (bare[name], name) if name in bare else calls[name][:2]
            taken[name].append(session.cpu_ns(f"SELECT count({f}) FROM {source}") / rows)
        for name, (_, _, less) in calls.items():
            found[name].append(taken[name][0] - statistics.median(taken[less]))
    report.group("One call, ns of CPU", f"{rounds_of(rounds)} of {rows:,} calls in one statement, less the bare scan")
    against = dict.fromkeys(generators + rivals, "nextval('plain')") | {many: "nextval('plain')"}
    against |= {name: f"{name} as SQL" for name in pairs}
    for name in (*parts, *generators, many, *rivals, *pairs, *(f"{name} as SQL" for name in pairs)):
        report.row(name, found[name], against.get(name), found.get(against.get(name)))
        if name == "idgen_next()":
            report.row(name, found[name], "bench_floor()", found["bench_floor()"])
    for plot, title, shown in (
            ("parts", "CPU time of one call and of its parts", (*parts, *generators, many, "nextval('plain')")),
            ("calls", "CPU time of one call, beside what else there is", (generators[0], many, *rivals))):
        report.plot(plot, title, "ns, less the bare scan", [("", [(name, found[name]) for name in shown])])


def bench_sessions(session, report):
    """Ids a second of sessions that do nothing else, and what the slowest of them gets."""
    batch, seconds, rounds = 10_000, pick(2, 1), pick(3, 2)
    functions = ("bench_floor()", "idgen_next('wide')", "idgen_next('streams')", "idgen_next('counter_1000')", "nextval('plain')")
    bare = "1"
    counts = (1, 2, 8, 32, 64)
    rate = {(f, n): [] for f in (*functions, bare) for n in counts}
    share = {(f, n): [] for f in (*functions, bare) for n in counts}
    many = "SELECT count(id) FROM (SELECT idgen_next_many(12000000) AS id) s"
    limit = {many: [], "SELECT count(idgen_next()) FROM (SELECT generate_series(1, 12000000)) s": []}
    for i in range(rounds):
        for n in counts:
            progress(f"{sessions_of(n)}: round {i + 1} of {rounds}")
            for f in shuffled((*functions, bare)):
                tps, calls = pgbench(f"SELECT count({f}) FROM generate_series(1, {batch});", n, "-T", str(seconds))
                each = [0] * n
                for client, *_ in calls:
                    each[client] += 1
                rate[f, n].append(tps * batch / 1e6)
                share[f, n].append(min(each) / statistics.mean(each))
        for query, reached in limit.items():
            # First all that may be borrowed is used up, until calls sleep: what is measured then can go on for ever.
            sleeps = lambda: int(session.value("SELECT loan_sleeps FROM idgen_status()"))
            before = sleeps()
            while sleeps() == before:
                session.run(many)
            reached.append(12e3 / session.run(query)[1])
    report.group("Many sessions, million ids a second", f"{rounds_of(rounds)} of {seconds} s, statements of {batch:,} calls")
    for n in counts:
        for f in functions:
            other = f != "nextval('plain')" and "nextval('plain')"
            report.row(f"{f}, {sessions_of(n)}", rate[f, n], other, other and rate[other, n])
    for name, reached in zip(("idgen_next_many(12000000)", "idgen_next()"), limit.values()):
        report.row(f"{name}, 1 session, when its layout's 4.096 limit it", reached)
    report.group("The same without the scan, nanoseconds from one id to the next of all sessions", "less those of the bare scan")
    net = {run: [1e3 / mine - 1e3 / scan for mine, scan in zip(rates, rate[bare, run[1]])] for run, rates in rate.items()}
    for n in counts:
        for f in functions:
            other = f != "nextval('plain')" and "nextval('plain')"
            report.row(f"{f}, {sessions_of(n)}", net[f, n], other, other and net[other, n])
    report.group("The slowest session's part of the mean", "the same runs")
    for f in functions:
        for n in counts[2:]:
            report.row(f"{f}, {sessions_of(n)}", share[f, n])
    report.plot("sessions", "Ids a second of sessions that do nothing else", "million a second",
                [(sessions_of(n), [(f, rate[f, n]) for f in functions]) for n in counts])


def bench_jobs(session, report):
    """Rows with a primary key, however they come."""
    kinds = {
        "idgen_next()": "bigint DEFAULT idgen_next()",
        "identity": "bigint GENERATED BY DEFAULT AS IDENTITY",
        "identity, CACHE 100": "bigint GENERATED BY DEFAULT AS IDENTITY (CACHE 100)",
        session.uuid_v7: f"uuid DEFAULT {session.uuid_v7}",
        "gen_random_uuid()": "uuid DEFAULT gen_random_uuid()",
        "instagram()": "bigint DEFAULT instagram()",
    }
    bulk, rounds, seconds = pick(1_000_000, 200_000), pick(3, 1), pick(2, 1)
    values = ", ".join(["(1)"] * 100)
    file = f"{SCRATCH}/rows"
    jobs = {  # name: (script for n sessions, rows of one transaction)
        "INSERT of 1 row": (lambda n: "INSERT INTO job (value) VALUES (1)", lambda n: 1),
        "INSERT of 100 rows": (lambda n: f"INSERT INTO job (value) VALUES {values}", lambda n: 100),
        "INSERT ... SELECT": (lambda n: f"INSERT INTO job (value) SELECT g FROM generate_series(1, {bulk // n}) g", lambda n: bulk // n),
        "COPY": (lambda n: f"COPY job (value) FROM '{file}{n}'", lambda n: bulk // n),
        "COPY, no key": (lambda n: f"COPY job (value) FROM '{file}{n}'", lambda n: bulk // n),
    }
    counts = (1, 8)
    for n in counts:
        with open(f"{file}{n}", "w") as rows:
            rows.writelines(f"{i}\n" for i in range(bulk // n))
    runs = [(job, n) for job in jobs for n in counts]
    took = {run: {kind: [] for kind in kinds} for run in runs}
    cpu = {job: {kind: [] for kind in kinds} for job in list(jobs)[2:]}
    sizes = {size: {kind: [] for kind in kinds} for size in ("table", "primary key", *(f"WAL, {job}" for job in cpu))}
    for i in range(rounds):
        for job, n in runs:
            progress(f"{job}, {sessions_of(n)}: round {i + 1} of {rounds}")
            script, rows = jobs[job]
            limit = ("-t", "1") if job in cpu else ("-T", str(seconds))
            for kind in shuffled(kinds):
                session.run("DROP TABLE IF EXISTS job")
                key = "" if job.endswith("no key") else "PRIMARY KEY"
                session.run(f"CREATE TABLE job (id {kinds[kind]} {key}, value int)")
                session.run("CHECKPOINT")
                before, used = session.value("SELECT pg_current_wal_insert_lsn()"), session.ended_cpu_s()
                tps, _ = pgbench(script(n), n, *limit)
                took[job, n][kind].append(tps and 1e6 / (tps * rows(n)))
                if n == 1 and limit[0] == "-t":
                    cpu[job][kind].append((session.ended_cpu_s() - used) / bulk * 1e6)
                    wal = session.value(f"SELECT pg_current_wal_insert_lsn() - '{before}'")
                    sizes[f"WAL, {job}"][kind].append(int(wal) / bulk)
                if job == "INSERT ... SELECT" and n == 1:
                    sizes["table"][kind].append(int(session.value("SELECT pg_relation_size('job')")) / bulk)
                    sizes["primary key"][kind].append(int(session.value("SELECT pg_relation_size('job_pkey')")) / bulk)
    report.group("Rows, with a primary key where nothing is said, microseconds a row",
                 f"that is seconds a million; {rounds_of(rounds)}; INSERT of 1 and 100 rows for {seconds} s, the others {bulk:,} rows")
    for job, n in runs:
        for kind in kinds:
            report.row(f"{job}, {sessions_of(n)}: {kind}", took[job, n][kind], "identity", took[job, n]["identity"])
    report.group("The same, microseconds of CPU a row", f"{bulk:,} rows, 1 session")
    for job in cpu:
        for kind in kinds:
            report.row(f"{job}: {kind}", cpu[job][kind], "identity", cpu[job]["identity"])
    report.group("Size, bytes a row", f"{bulk:,} rows, 1 session")
    for size, of in sizes.items():
        for kind in kinds:
            report.row(f"{size}: {kind}", of[kind], "identity", of["identity"])
    groups = [(f"{job}, {sessions_of(n)}", list(took[job, n].items())) for job, n in runs]
    for plot, title, shown in (("rows", "statements of one row", groups[:2]), ("statements", "statements of 100 rows", groups[2:4]),
                               ("bulk", "in bulk", groups[4:])):
        report.plot(plot, f"Time of a row with a primary key, {title}", "microseconds", shown)


def bench_large(session, report):
    """A large table: its index, and a scan of a hundredth of it by the ids of a time."""
    rows, part = pick(10_000_000, 500_000), 100
    kinds = {"idgen_next()": "bigint DEFAULT idgen_next()", "identity": "bigint GENERATED BY DEFAULT AS IDENTITY"}
    has_stat = session.value("SELECT count(*) FROM pg_available_extensions WHERE name = 'pgstattuple'") == "1"
    if has_stat:
        session.run("CREATE EXTENSION IF NOT EXISTS pgstattuple")
    found = {kind: {} for kind in kinds}
    for kind in shuffled(kinds):
        progress(f"{rows:,} rows: {kind}")
        session.run("DROP TABLE IF EXISTS large")
        session.run(f"CREATE UNLOGGED TABLE large (id {kinds[kind]} PRIMARY KEY, value int)")
        # In parts, so that the ids have different times.
        took = sum(session.run(f"INSERT INTO large (value) SELECT g FROM generate_series(1, {rows // part}) g")[1] for _ in range(part))
        session.run("VACUUM ANALYZE large")
        low, high = (session.value(f"SELECT id FROM large WHERE id > 0 ORDER BY id OFFSET {at} LIMIT 1") for at in (rows // 2, rows // 2 + rows // part))
        if kind == "idgen_next()":
            low, high = (f"idgen_min_id(idgen_timestamp({id}))" for id in (low, high))
        query = f"SELECT count(*), sum(value) FROM large WHERE id >= {low} AND id < {high}"
        session.run(query)
        scan = [session.run(query)[1] for _ in range(9)]
        hit = int(session.value(query).split("|")[0])
        found[kind] = {
            "microseconds a row to insert": [took * 1e3 / rows],
            "pages of the index": [int(session.value("SELECT pg_relation_size('large_pkey') / 8192"))],
            "range scan, microseconds a row": [ms * 1e3 / hit for ms in scan],
        }
        if has_stat:
            found[kind]["fill of the index's leaves, percent"] = [float(session.value("SELECT avg_leaf_density FROM pgstatindex('large_pkey')"))]
    session.run("DROP TABLE large")
    report.group(f"A table of {rows:,} rows", f"unlogged, inserted by {part} statements; the scan is of a hundredth of it, between two times or ids, 9 times")
    for what in found["identity"]:
        for kind in kinds:
            report.row(f"{what}: {kind}", found[kind][what], "identity", found["identity"][what])


def bench_latency(session, report):
    """Round trips of single calls, also with the horizon moving as often as it can; and the WAL that the moves write."""
    seconds, rounds = pick(3, 2), pick(5, 2)
    functions = ("idgen_next()", "pg_backend_pid()", "nextval('plain')")
    leads = ("4s", "100ms")
    found = {(lead, f, p): [] for lead in leads for f in functions for p in ("p50", "p99", "p99.9", "slowest")}
    slow = 50_000
    beside = {f: [] for f in functions[:2]}
    moves = {lead: [] for lead in leads}
    wal = {lead: [] for lead in leads}
    state = lambda: [int(session.value(f"SELECT {of}")) for of in (
        "horizon_moves FROM idgen_status()", "pg_current_wal_insert_lsn() - '0/0'")]
    for i in range(rounds):
        for lead in leads:
            progress(f"single calls, horizon_lead {lead}: round {i + 1} of {rounds}")
            session.run(f"ALTER SYSTEM SET idgen.horizon_lead = '{lead}'")
            session.run("SELECT pg_reload_conf()")
            for f in shuffled(functions):
                before = state()
                _, calls = pgbench(f"SELECT {f};", 1, "-T", str(seconds))
                if f == "idgen_next()":
                    done = [(b - a) / seconds for a, b in zip(before, state())]
                    moves[lead].append(done[0])
                    wal[lead].append(done[1])
                # pgbench reports 0 for a call that was answered before it looked at the clock again.
                us = sorted(us for _, us, _ in calls if us)
                for p, part in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("slowest", 1)):
                    found[lead, f, p].append(us[min(int(len(us) * part), len(us) - 1)])
    for f in beside:
        with open(f"{SCRATCH}/{f}.sql", "w") as file:
            file.write(f"SELECT {f};")
    length = pick(60, 5)
    progress(f"calls above 50 ms, {length} s")
    scripts = [option for f in list(beside)[1:] for option in ("-f", f"{SCRATCH}/{f}.sql")]
    for _, us, script in pgbench(f"SELECT {functions[0]};", 2, "-T", str(length), *scripts)[1]:
        beside[functions[script]].append(us)
    session.run("ALTER SYSTEM RESET idgen.horizon_lead")
    session.run("SELECT pg_reload_conf()")
    progress("an idle server")
    time.sleep(20)  # the server's own last record after work comes within 15 s
    before = state()
    time.sleep(pick(20, 5))
    idle = [(b - a) / pick(20, 5) for a, b in zip(before, state())]
    report.group("Single calls of one session, microseconds with the round trip", f"{rounds_of(rounds)} of {seconds} s each")
    for lead in leads:
        for p in ("p50", "p99", "p99.9", "slowest"):
            for f in functions:
                other = "pg_backend_pid()" if f != "pg_backend_pid()" else None
                report.row(f"{p}: {f}, horizon_lead {lead}", found[lead, f, p], other, other and found[lead, other, p])
    for lead in leads:
        for f in functions:
            ratio = [high / middle for high, middle in zip(found[lead, f, "p99.9"], found[lead, f, "p50"])]
            report.row(f"p99.9 / p50: {f}, horizon_lead {lead}", ratio)
    report.group("Two sessions that make either call in turns", f"{length} s, horizon_lead {leads[-1]}")
    for f, us in beside.items():
        report.row(f"calls: {f}", [len(us)])
        report.row(f"calls above {slow // 1000} ms: {f}", [sum(each > slow for each in us)])
        report.row(f"slowest, microseconds: {f}", [max(us)])
    report.group("The horizon, a second", "while one session calls, and on an idle server")
    for lead in leads:
        report.row(f"moves, horizon_lead {lead}", moves[lead])
        report.row(f"bytes of WAL, horizon_lead {lead}", wal[lead])
    report.row("moves, idle", idle[:1])
    report.row("bytes of WAL, idle", idle[1:])


def bench_disk(session, report):
    """What waiting for the disk costs: a counter is on it before its block is used, nextval() when its caller commits."""
    rows, seconds, rounds = pick(200_000, 100_000), pick(2, 1), pick(7, 3)
    functions = ("idgen_next('counter_1000')", "idgen_next('counter_10000')", "idgen_next()", "nextval('plain')")
    scan = lambda what: f"SELECT count({what}) FROM generate_series(1, {rows}) g"
    in_one = lambda what: session.run(scan(what))[1] * 1e3 / rows
    cpu = lambda what: session.cpu_ns(scan(what)) / 1e3 / rows
    each = lambda what: 1e6 / pgbench(f"SELECT {what};", 1, "-T", str(seconds))[0]
    found = {}
    for i in range(rounds):
        for fsync in ("on", "off"):
            progress(f"the disk, fsync {fsync}: round {i + 1} of {rounds}")
            session.run(f"ALTER SYSTEM SET fsync = {fsync}")
            session.run("SELECT pg_reload_conf()")
            time.sleep(0.5)
            for way, measure in (("one statement", in_one), ("one statement, CPU", cpu), ("a statement each", each)):
                bare = 0 if measure is each else statistics.median(measure("1") for _ in range(3))
                for f in shuffled(functions):
                    found.setdefault((way, fsync, f), []).append(measure(f) - bare)
    session.run("ALTER SYSTEM RESET fsync")
    session.run("SELECT pg_reload_conf()")
    report.group("The disk, microseconds an id", f"{rounds_of(rounds)} of {rows:,} calls in one statement, less the bare scan; and of "
                 f"{seconds} s of single calls, with the round trip")
    for way in ("one statement", "one statement, CPU", "a statement each"):
        for fsync in ("on", "off"):
            for f in functions:
                report.row(f"{way}, fsync {fsync}: {f}", found[way, fsync, f], functions[-1], found[way, fsync, functions[-1]])


def bench_sporadic(session, report):
    """A row now and then, with its commit: the horizon must be there by then, or the first call waits for the disk too."""
    rounds, pause = pick(40, 6), 5
    kinds = {"idgen_next()": "bigint DEFAULT idgen_next()", "identity": "bigint GENERATED BY DEFAULT AS IDENTITY"}
    for number, kind in enumerate(kinds.values()):
        session.run(f"CREATE TABLE seldom{number} (id {kind} PRIMARY KEY, value int)")
    found = {kind: [] for kind in kinds}
    for i in range(rounds + 2):
        progress(f"a row every {pause} s: round {i + 1} of {rounds + 2}")
        for number, kind in shuffled(list(enumerate(kinds))):
            time.sleep(pause / 2)
            took = session.run(f"INSERT INTO seldom{number} (value) VALUES (1)")[1] * 1e3
            # The first two rows only show the worker how often ids are taken.
            found[kind] += [took] if i >= 2 else []
    report.group(f"One row every {pause} s, microseconds with the round trip and the commit", rounds_of(rounds))
    for kind in kinds:
        report.row(f"INSERT of 1 row: {kind}", found[kind], "identity", found["identity"])


def main():
    include = output(os.environ["PG_CONFIG"], "--includedir-server")
    output("cc", "-O2", "-fPIC", "-shared", f"-I{include}", "-o", f"{SCRATCH}/floor.so", f"{HERE}/floor.c")
    output(f"{BIN}/psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-v", f"floor={SCRATCH}/floor.so", "-f", f"{HERE}/schema.sql", "postgres")
    session = Session()
    session.run("SET client_min_messages = warning")
    # No checkpoint begins by itself in the middle of a job.
    session.run("ALTER SYSTEM SET checkpoint_timeout = '1h'")
    session.run("ALTER SYSTEM SET max_wal_size = '16GB'")
    session.run("SELECT pg_reload_conf()")
    version = session.value("SHOW server_version").split()[0]
    session.uuid_v7 = "uuidv7()" if int(version.split(".")[0]) >= 18 else "uuid_v7_in_sql()"
    report = Report(version, "quick" if QUICK else "full")
    for part in (bench_calls, bench_disk, bench_sessions, bench_jobs, bench_large, bench_latency, bench_sporadic):
        part(session, report)
    report.write()


if __name__ == "__main__":
    main()
