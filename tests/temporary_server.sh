#!/bin/bash
# tests/temporary_server.sh COMMAND ...: runs COMMAND against a server of $PG_BINDIR that lives as long as COMMAND does
# SETTINGS, lines of postgresql.conf, and IDGEN_MACHINE_ID configure it.
# UNDER="PROGRAM OPTIONS" runs the server under a program, valgrind perhaps, in the server's folder.
set -euo pipefail
as_owner() { if [ "$(id -u)" = 0 ]; then (cd / && runuser -u postgres -- "$@"); else "$@"; fi; } # PostgreSQL refuses root

dir=$(mktemp -d /tmp/idgen.XXXXXX)
[ "$(id -u)" != 0 ] || chown postgres "$dir"
trap 'as_owner "$PG_BINDIR/pg_ctl" -D "$dir/data" -m immediate stop >/dev/null 2>&1 || true; rm -rf "$dir" 2>/dev/null || { sleep 1; rm -rf "$dir"; }' EXIT
as_owner "$PG_BINDIR/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >/dev/null
cat >>"$dir/data/postgresql.conf" <<END
listen_addresses = ''
unix_socket_directories = '$dir'
shared_preload_libraries = 'idgen'
idgen.machine_id = ${IDGEN_MACHINE_ID:-1}
${SETTINGS:-}
END
if [ -n "${UNDER:-}" ]; then
    printf '#!/bin/sh\ncd "%s" && exec %s "%s/postgres" "$@"\n' "$dir" "$UNDER" "$PG_BINDIR" >"$dir/postgres"
    chmod +x "$dir/postgres"
fi
as_owner "$PG_BINDIR/pg_ctl" ${UNDER:+-p "$dir/postgres"} -w -D "$dir/data" -l "$dir/log" start >/dev/null || { cat "$dir/log" >&2; exit 1; }
PGHOST=$dir PGPORT=5432 PGUSER=postgres PGDATABASE=postgres "$@"
