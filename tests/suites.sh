#!/bin/bash
# tests/suites.sh TREE: PostgreSQL's own regression and isolation tests on the server of TREE, which tests/asserts.sh built,
# with idgen preloaded and without. What differs between the two is compared with tests/suites.txt, where each line is explained.
set -euo pipefail
unset MAKEFLAGS MAKELEVEL
tree=$1
here=$(cd "$(dirname "$0")" && pwd)
out=$(mktemp -d /tmp/idgen-suites.XXXXXX)
chmod 777 "$out"
trap 'rm -rf "$out"' EXIT
for part in src/test/regress src/test/isolation; do
    make -s -C "$tree/src/$part" all >"$out/build" 2>&1 || { tail -n 20 "$out/build" >&2; exit 1; }
done
[ "$(id -u)" != 0 ] || chown -R postgres "$tree/src"
for preload in nothing idgen; do
    result=$out/$preload
    mkdir "$result"
    for part in regress isolation; do
        # A server that is there: its last setting counts.
        SETTINGS=$([ $preload = idgen ] || echo "shared_preload_libraries = ''")$'\n'"max_prepared_transactions = 10" PG_BINDIR=$tree/bin \
            "$here/temporary_server.sh" bash -c "
            if [ \$(id -u) = 0 ]; then as='runuser -u postgres --'; fi; cd /
            \$as make -s -C '$tree/src/src/test/$part' installcheck" >"$result/$part.log" 2>&1 || true
        sed -n 's/^not ok *[0-9]* *[-+] *\([a-z0-9_-]*\).*/\1/p; s/^\(test\)\{0,1\} *\([a-z0-9_-]*\) *\.\.\. FAILED.*/\2/p' "$result/$part.log" | sort >"$result/$part"
        echo "$preload preloaded, $part: $(grep -E 'tests (passed|failed)|of [0-9]* tests' "$result/$part.log" | xargs || tail -n 2 "$result/$part.log")"
    done
done
differing=$(for part in regress isolation; do comm -13 "$out/nothing/$part" "$out/idgen/$part"; done)
explained=$(grep -v '^#' "$here/suites.txt" | cut -d: -f1 | sort)
unexplained=$(comm -23 <(sort <<<"$differing" | sed '/^$/d') <(echo "$explained"))
echo "differ with idgen preloaded: ${differing:-none}"
[ -z "$unexplained" ] || { echo "not explained in tests/suites.txt: $unexplained" >&2; exit 1; }
