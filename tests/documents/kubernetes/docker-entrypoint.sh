#!/bin/bash
# In place of that of PostgreSQL's image: runs the command that it is given, as the server's user and with a new data directory.
# Here until the server has given an id, whose machine id must be the number at the end of the pod's name.
set -euo pipefail
as_owner() { if [ "$(id -u)" = 0 ]; then (cd / && runuser -u postgres -- "$@"); else "$@"; fi; }
dir=$(mktemp -d /tmp/idgen.XXXXXX)
trap 'as_owner pg_ctl -D "$dir/data" -m immediate stop >/dev/null 2>&1 || true; rm -rf "$dir"' EXIT
[ "$(id -u)" != 0 ] || chown postgres "$dir"
as_owner initdb -D "$dir/data" -U postgres -A trust --no-sync >/dev/null
as_owner "$@" -D "$dir/data" -c listen_addresses= -c unix_socket_directories="$dir" >"$dir/log" 2>&1 &
export PGHOST=$dir PGPORT=5432 PGDATABASE=postgres PGUSER=postgres
for _ in {1..100}; do ! pg_isready -q || break; sleep 0.1; done
machine=$(psql -XqAt -v ON_ERROR_STOP=1 -c "CREATE EXTENSION idgen" -c "SELECT idgen_machine(idgen_next())") || { cat "$dir/log"; exit 1; }
[ "shard-$machine" = "$HOSTNAME" ] || { echo "the machine id of the pod $HOSTNAME is $machine"; exit 1; }
