#!/usr/bin/env python3
"""Runs what the documents show, as it is pasted; needs a server that preloads idgen, and PostgreSQL's programs in PG_BINDIR:

    SETTINGS="idgen.authority_database = 'many-servers'" tests/temporary_server.sh tests/documents/run.py [PAGE ...]

The blocks of a page run one after the other, in a database of its own that has the extension; one that begins with CREATE
EXTENSION, in a new database without. What a page takes for granted is made by PAGE.sql in this folder, and programs in PAGE.

    sql     by psql, until the first error
    sh      by bash, in the top folder, until the first error
    conf    each line by ALTER SYSTEM: there is such a setting, and it can have the value
    yaml    the command of a container, [bash, -c, '...'], in the pod shard-3
    text    not at all: a picture; or, right below SQL, what that printed

Besides, every function, setting and test of idgen that a page names exists, and the errors of docs/guarantees.md are those of
src/error.rs, by who can cure them.
"""

import itertools
import os
import pathlib
import re
import subprocess
import sys
import textwrap

HERE = pathlib.Path(__file__).parent
TOP = HERE.parents[1]
# In tests/orms and tests/clients, and what docs/orms.md and docs/kubernetes.md say is not tested.
ELSEWHERE = {"python", "js", "rust", "ruby", "prisma", "go", "java", "ini", "hcl"}

# Page and first line of each block that is not run, and why.
NOT_RUN = {
    ("README.md", "make test     # everything that is claimed here"):
        "it is what runs this",
    ("README.md", "sudo apt-get install build-essential postgresql-server-dev-15"):
        "root's package manager, and the machine's own PostgreSQL",
    ("docs/migration.md", "SELECT cron.schedule('events', '0 3 * * *', $$"):
        "needs pg_cron",
    ("docs/migration.md", "SELECT partman.create_parent('public.events', 'id', 'native', (86400000::bigint << 22)::text,"):
        "needs pg_partman",
    ("docs/engines.md", "CREATE SUBSCRIPTION from_b CONNECTION 'host=b ...' PUBLICATION pages WITH (origin = none, copy_data = false);   -- on a, which has the rows"):
        "needs a second server",
    ("docs/engines.md", "SELECT pglogical.replication_set_remove_sequence('default', generator) FROM idgen_generators()"):
        "needs pglogical",
    ("docs/engines.md", "SELECT result AS machine_id, array_agg(nodeid) FROM run_command_on_all_nodes('SHOW idgen.machine_id') GROUP BY 1 HAVING count(*) > 1;"):
        "needs Citus",
    ("docs/engines.md", "SELECT * FROM run_command_on_all_nodes($$SELECT idgen_create_generator('page_id', 'js_safe')$$);"):
        "needs Citus",
    ("docs/engines.md", "SELECT w.* FROM idgen_generators() g JOIN pg_sequence s ON s.seqrelid = g.generator,"):
        "needs Citus",
    ("docs/engines.md", "CREATE FUNCTION add_user(name text) RETURNS bigint LANGUAGE plproxy AS $$ CLUSTER 'shards'; RUN ON hashtext(name); $$;"):
        "needs PL/Proxy",
    ("docs/engines.md", "CREATE FUNCTION add_users(ids bigint[], names text[]) RETURNS SETOF void LANGUAGE plproxy AS $$ CLUSTER 'shards'; SPLIT ids, names; RUN ON hashint8(ids); $$;"):
        "needs PL/Proxy",
    ("docs/engines.md", "SELECT create_hypertable('readings', by_range('id', 86400000::bigint << 22));      -- chunks of a day, from midnight UTC"):
        "needs TimescaleDB",
    ("docs/engines.md", "CREATE TABLE clicks (id bigint PRIMARY KEY DEFAULT idgen_next(), what text) PARTITION BY RANGE (id);"):
        "needs pg_partman",
    ("docs/kubernetes.md", "pgbackrest --stanza=main --pg1-path=/srv/copy --archive-mode=off restore     # off: it is not to archive into its origin's repository"):
        "needs pgBackRest",
    ("docs/kubernetes.md", "barman recover main latest /srv/copy"):
        "needs barman",
    ("docs/kubernetes.md", "pg_ctl -D /srv/copy stop      # not restart, which starts it with the last options again"):
        "the copy of the blocks above",
    ("docs/kubernetes.md", "pg_ctl -D /srv/green stop"):
        "another machine, and PostgreSQL 17 or newer",
    ("docs/runbook.md", "pg_ctl -D /srv/clone -o '-c idgen.machine_id=-1' start"):
        "another machine; errors::a_copy_that_is_started_without_a_number_gives_no_id_until_it_has_one_of_its_own does it",
    ("docs/runbook.md", "pg_basebackup -D /srv/clone -h origin -c fast"):
        "another machine; storms::copies makes such clones",
    ("docs/runbook.md", "SET allow_system_table_mods = on;"):
        "only after a restart without idgen; repair::what_the_runbook_says_of_removal_frees_the_origin_here_and_on_the_standby_and_ids_come_back_above runs it",
}


def psql(database, sql, name="<stdin>"):
    """What psql prints, and what it complains about if it fails."""
    # Far from UTC, as users are.
    environment = os.environ | {"PGTZ": "Asia/Kathmandu"}
    command = [f"{os.environ['PG_BINDIR']}/psql", "-XqAtd", database, "-v", "ON_ERROR_STOP=1", "-f", "-"]
    done = subprocess.run(command, env=environment, input=sql, capture_output=True, text=True)
    return done.stdout, done.stderr.replace("psql:<stdin>", name).strip() if done.returncode else ""


def bash(database, text):
    """What bash printed if it fails."""
    environment = os.environ | {
        "PATH": f"{HERE / database}:{os.environ['PG_BINDIR']}:{os.environ['PATH']}",
        "PGDATABASE": database,
        "HOSTNAME": "shard-3",
        "SETTINGS": "",
    }
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", text], cwd=TOP, env=environment, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return f"bash: {done.returncode}\n{done.stdout[-2000:]}" if done.returncode else ""


def new_database(name, sql):
    for database, statements in (("postgres", f'CREATE DATABASE "{name}"'), (name, sql)):
        _, complaint = psql(database, statements)
        if complaint:
            sys.exit(complaint)
    return name


def with_alter_system(text):
    """The same lines, for psql."""
    line = re.compile(r"^([\w.]+) = '?(.*?)'?[ ]*(#.*)?$", re.MULTILINE)
    return line.sub(r"ALTER SYSTEM SET \1 = '\2'; ALTER SYSTEM RESET \1;", text)


def blocks(text):
    """(line, language, lines, whether it is right below another) of all that is fenced."""
    end = 0
    for found in re.finditer(r"^( *)```(\w*)\n(.*?)^\1```$", text, re.DOTALL | re.MULTILINE):
        yield text.count("\n", 0, found.start(3)) + 1, found[2], textwrap.dedent(found[3]), text[end : found.start()].isspace()
        end = found.end()


def faults_of_blocks(page, text, name):
    left_out = {first for of, first in NOT_RUN if of == page}
    database = None
    printed = ""
    for line, language, lines, is_below in blocks(text):
        first = lines.split("\n")[0]
        if first in left_out:
            left_out.remove(first)
            continue
        if language == "yaml":
            commands = re.findall(r"command: (.*)", lines)
            language, lines = "sh", "\n".join(command.removeprefix("[bash, -c, '").removesuffix("']") for command in commands)
        if language not in ("sql", "sh", "conf"):
            if language not in ELSEWHERE | {"text"}:
                yield f"{page}:{line}: nobody knows how to run {language or 'a block without a language'}"
            elif is_below and lines != printed:
                yield f"{page}:{line}: what is above prints\n{printed}"
            continue
        if first.startswith("CREATE EXTENSION"):
            database = new_database(name if database is None else f"{name} {line}", "")
        elif database is None:
            setup = HERE / f"{name}.sql"
            database = new_database(name, "CREATE EXTENSION idgen;" + (setup.read_text() if setup.exists() else ""))
        if language == "sh":
            complaint = bash(database, lines)
        else:
            lines = lines if language == "sql" else with_alter_system(lines)
            # As many lines down as in the page, so that psql's numbers are the page's.
            printed, complaint = psql(database, "\n" * (line - 1) + lines, page)
        if complaint:
            yield complaint if complaint.startswith(page) else f"{page}:{line}: {complaint}"
    for first in left_out:
        yield f"{page}: no block begins with the line that NOT_RUN names: {first}"


def faults_of_names(page, text, functions, tested):
    found = {(text.count("\n", 0, at.start()) + 1, at[0])
             for at in re.finditer(r"(?<![/.])\bidgen\.\w+\b(?!\*)|\bidgen_(authority\.)?\w+(?=\()|\b[a-z_]+::[\w:]+(?=`)", text)}
    for line, name in sorted(found):
        if name.startswith("idgen."):
            exists = psql("names", f"SELECT 1 WHERE current_setting('{name}', true) IS NOT NULL")[0]
        else:
            exists = name in functions or name.split("::")[-1] in tested
        if not exists:
            yield f"{page}:{line}: there is no {name}"


def faults_of_errors(page, text):
    share = subprocess.run([f"{os.environ['PG_BINDIR']}/pg_config", "--sharedir"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    number = dict(re.findall(r"^(\w{5}) +E +(ERRCODE_\w+)", pathlib.Path(share, "errcodes.txt").read_text(), re.MULTILINE))
    number = {name: code for code, name in number.items()}
    table = (TOP / "src/error.rs").read_text().split("pub fn told(")[1]
    in_code = [{number[name] for name in re.findall(r"\bERRCODE_\w+", group)} for group in table.split("            // ")[1:]]
    rows = [row.split(" | ") for row in text.split("| case | SQLSTATE | test |")[1].split("\n\n")[0].split("\n")[2:]]
    in_page = []
    for case, codes, *_ in rows:
        if case.startswith("| *"):
            in_page.append(set())
        else:
            in_page[-1] |= set(re.split("[,;] ", codes))
    for said, raised in itertools.zip_longest(in_page, in_code, fillvalue=set()):
        if said != raised:
            yield f"{page}: says {sorted(said - raised)}, and not {sorted(raised - said)}, of one group of src/error.rs"


new_database("names", "CREATE EXTENSION idgen_authority CASCADE")
functions = set(psql("names", """
    SELECT CASE pronamespace WHEN 'idgen_authority'::regnamespace THEN 'idgen_authority.' ELSE '' END || proname FROM pg_proc
""")[0].split())
tested = {word for path in [*TOP.glob("src/**/*.rs"), *TOP.glob("tests/**/*.rs")]
          for word in re.findall(r"\w+", re.sub(r"//.*", "", path.read_text()))}  # some are made by macros
faults = []
for path in sorted([TOP / "README.md", *TOP.glob("docs/**/*.md"), *TOP.glob("examples/**/*.md")]):
    page = str(path.relative_to(TOP))
    if page in sys.argv[1:] or not sys.argv[1:]:
        name = page.removesuffix("/README.md").split("/")[-1].removesuffix(".md")
        text = path.read_text()
        faults += faults_of_blocks(page, text, name)
        faults += faults_of_names(page, text, functions, tested)
        faults += faults_of_errors(page, text) if page == "docs/guarantees.md" else []
print("\n".join(faults) if faults else "documents: all blocks ran")
sys.exit(bool(faults))
