#!/bin/bash
# Instructions of one call, against the budget:
#
#   tests/budget/run.sh
#
# A server of $PG_BINDIR runs under callgrind, which counts what is done between entering and leaving a function that SQL
# calls, the C library excepted. Two sessions make N and 2 N calls: the difference is what a call costs without what the
# first one has to find out. Nothing depends on the time meanwhile: the horizon is far ahead, and so are the ids, which
# then follow each other as they do within a tick. So the counts are exact, also on a busy machine; another compiler may
# make others.
set -euo pipefail
cd "$(dirname "$0")"
calls=10000

if [ "${1:-}" != --on-the-server ]; then
    if [[ $("$PG_BINDIR/postgres" --version) != *" 15."* ]]; then
        echo "SKIPPED: the budget is for PostgreSQL 15"
        exit
    elif [ "$(uname -m)" != x86_64 ]; then
        echo "SKIPPED: the budget is for x86_64, and this is $(uname -m)"
        exit
    elif ! command -v valgrind >/dev/null; then
        echo "SKIPPED: no valgrind here, so that instructions are not counted (as root: apt-get install valgrind)"
        exit
    fi
    UNDER='valgrind --tool=callgrind --callgrind-out-file=calls.%p --compress-strings=no --compress-pos=no --toggle-collect=idgen_*_wrapper' \
        ../temporary_server.sh "$PWD/run.sh" --on-the-server
    exit
fi

sql() { "$PG_BINDIR/psql" -XqAtd postgres -v ON_ERROR_STOP=1 "$@"; }
counted() { # QUERY: what its session counts
    local process file
    process=$(sql -c "SELECT pg_backend_pid()" -c "$1" | head -n 1)
    file=$PGHOST/calls.$process
    until grep -q ^totals: "$file" 2>/dev/null; do sleep 0.05; done
    awk '/^ob=/ { ours = !/\/libc[.-]|\/ld-/ } /^calls=/ { getline; next } /^[0-9]/ && ours { sum += $2 } END { print sum + 0 }' "$file"
}

sql <<'END' >/dev/null
ALTER SYSTEM SET idgen.horizon_lead = '1h';
ALTER SYSTEM SET idgen.max_borrow = '1h';
SELECT pg_reload_conf();
CREATE EXTENSION idgen;
SELECT idgen_create_generator('generator', 'snowflake');
SELECT idgen_create_generator('counter', 'counter', flush_every => 1000000);
SELECT idgen_next(), idgen_next('generator'), idgen_next('counter');
SELECT idgen_raise_horizon(now() + '10 min');
END
until [ "$(sql -c "SELECT least(idgen_next(), idgen_next('generator')) > idgen_min_id(now() + '5 min')")" = t ]; do sleep 0.1; done

failed=0
while read -r budget query; do
    [[ $budget == [0-9]* ]] || continue
    n=$(counted "${query//:n/$calls}")
    twice=$(counted "${query//:n/$((2 * calls))}")
    found=$(((twice - n + calls / 2) / calls))
    if [ "$found" -gt "$budget" ]; then
        verdict="OVER its budget of $budget"
        failed=1
    elif [ "$found" -lt "$budget" ]; then
        verdict="below its budget of $budget: lower it"
    else
        verdict="as budgeted"
    fi
    printf '%5d instructions (%s): %s\n' "$found" "$verdict" "$query"
done <instructions.txt
exit $failed
