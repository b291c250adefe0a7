#!/usr/bin/env python3
"""What the documents show does what they say: their SQL and shell is run as pasted, and the settings in their
configuration exist. Needs a server that preloads idgen; programs of $PG_BINDIR:

    SETTINGS="idgen.authority_database = many_servers" tests/temporary_server.sh tests/documents.py

The blocks of a page are run one after the other in a database of its own. What is no SQL, shell or configuration has a
language of its own, `text` if there is none: those that idgen is used from are run by tests/orms.
"""

import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = ["README.md", *sorted(str(page.relative_to(ROOT)) for folder in ["docs", "examples"] for page in (ROOT / folder).rglob("*.md"))]
ELSEWHERE = {"python", "js", "ruby", "rust", "prisma", "go", "text"}

# What the reader of a page has already.
BEFORE = {
    "README.md": "CREATE TABLE purchases (id bigserial PRIMARY KEY)",
    "docs/migration.md": "CREATE TABLE orders (id bigserial PRIMARY KEY)",
    "docs/runbook.md": """
        CREATE TABLE orders (id bigint PRIMARY KEY DEFAULT idgen_next());
        INSERT INTO orders DEFAULT VALUES;
        SELECT idgen_create_generator('invoice_no', 'counter');
        CREATE TABLE pages (id bigint PRIMARY KEY DEFAULT idgen_next())""",
}

# What is not run here, by page and first line, and why.
NOT_RUN = {
    ("README.md", "tests/setup.sh 18                        # a private PostgreSQL 18; the last line says where"): "the test's own set-up does it",
    ("README.md", "sudo apt-get install build-essential postgresql-server-dev-15"): "changes the machine",
    ("docs/migration.md", "SELECT cron.schedule('events', '0 3 * * *', $$"): "needs pg_cron",
    ("docs/migration.md", "SELECT partman.create_parent('public.events', 'id', 'native', (86400000::bigint << 22)::text,"): "needs pg_partman",
    ("docs/runbook.md", "pg_basebackup -D /srv/clone -h origin -c fast"): "needs another machine",
    ("docs/runbook.md", "SET allow_system_table_mods = on;"): "for a server without idgen; in tests/clusters/repair.rs",
}


def run(command, database, text):
    environment = {**os.environ, "PGDATABASE": database, "PATH": os.environ["PG_BINDIR"] + os.pathsep + os.environ["PATH"]}
    done = subprocess.run(command, input=text, text=True, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return None if done.returncode == 0 else done.stdout or f"ended with {done.returncode}"


def psql(database, text):
    return run(["psql", "-Xv", "ON_ERROR_STOP=1"], database, text)


def new_database(name, text):
    wrong = psql("postgres", f"CREATE DATABASE {name};") or psql(name, text)
    if wrong:
        sys.exit(wrong)


def unknown_settings(text):
    names = re.findall(r"^\s*([a-z_.]+)\s*=", text, re.MULTILINE)
    listed = ", ".join(f"'{name}'" for name in names)
    answer = subprocess.run(
        [os.environ["PG_BINDIR"] + "/psql", "-XAtd", "postgres", "-c", f"SELECT name FROM pg_settings WHERE name IN ({listed})"],
        text=True, stdout=subprocess.PIPE, check=True)
    return sorted(set(names) - set(answer.stdout.split()))


def blocks(page):
    """Of each fenced block the line, the language and the text without its indentation."""
    lines = (ROOT / page).read_text().splitlines()
    fences = [number for number, line in enumerate(lines) if line.lstrip().startswith("```")]
    for begin, end in zip(fences[::2], fences[1::2]):
        indent = len(lines[begin]) - len(lines[begin].lstrip())
        yield begin + 2, lines[begin].strip()[3:], "\n".join(line[indent:] for line in lines[begin + 1:end]) + "\n"


failed, ran, skipped = 0, 0, set()
for page in PAGES:
    database = pathlib.Path(page).stem.replace("-", "_").lower()
    if database == "readme":
        database = page.replace("/", "_").replace(".md", "").lower()
    new_database(database, "CREATE EXTENSION idgen;" + BEFORE.get(page, ""))
    for line, language, text in blocks(page):
        first = text.split("\n")[0]
        if (page, first) in NOT_RUN:
            skipped.add((page, first))
            continue
        if language == "sql" and first == "CREATE EXTENSION idgen;":  # From the beginning.
            new_database(f"{database}_{line}", "")
            wrong = psql(f"{database}_{line}", text)
        elif language == "sql":
            wrong = psql(database, text)
        elif language == "sh":
            wrong = run(["bash", "-eo", "pipefail"], database, text)
        elif language == "conf":
            wrong = ", ".join(unknown_settings(text)) and f"there is no setting {', '.join(unknown_settings(text))}"
        else:
            wrong = None if language in ELSEWHERE else f"no language that is known: \"{language}\""
        ran += 1
        if wrong:
            failed += 1
            print(f"{page}:{line}: {wrong}")
for page, first in NOT_RUN.keys() - skipped:
    failed += 1
    print(f"{page}: there is no block any more that begins with {first!r}")
print(f"{ran} blocks of {len(PAGES)} pages, {len(skipped)} not run, {failed} failed")
sys.exit(failed > 0)
