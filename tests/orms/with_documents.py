"""What docs/layouts.md shows in Python reads what the server made."""

import os
import pathlib
import re

import psycopg

TEXT = (pathlib.Path(__file__).parents[2] / "docs" / "layouts.md").read_text()
shown = {}
for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
    exec(block, shown)

KEY = b"0123456789abcdef"

with psycopg.connect("", autocommit=True) as connection:
    one = lambda sql, *arguments: connection.execute(sql, arguments).fetchone()
    for _ in range(1000):
        id, at, machine, sequence = one("SELECT id, d.* FROM idgen_next() id, idgen_decode(id) d")
        assert shown["decode"](id) == (at, machine, sequence)
    directory = one("SHOW data_directory")[0]
    # As the owner of the data directory, whose file it has to be.
    owner = os.stat(directory)
    path = os.path.join(directory, "opaque.key")
    with open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(KEY + b"\n")
    os.chown(path, owner.st_uid, owner.st_gid)
    connection.execute("ALTER SYSTEM SET idgen.opaque_key_file = 'opaque.key'")
    connection.execute("SELECT pg_reload_conf(), pg_sleep(0.5)")
    for id in [0, 1, 1234, 2**63 - 1, one("SELECT idgen_next()")[0]]:
        text = one("SELECT idgen_to_opaque(%s)", id)[0]
        assert shown["to_opaque"](id, KEY) == text
        assert shown["from_opaque"](text.lower(), KEY) == id
