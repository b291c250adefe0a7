#!/bin/bash
# tests/packages/pgxn.sh: the archive for PGXN, made of the last commit, as PGXN's own client takes it: installed for the
# PostgreSQL of $PG_CONFIG, checked on a server of $PG_BINDIR, and uninstalled without a trace. Skipped where pip cannot have
# the client, and where there is no commit, as in sources that were unpacked, or no git.
set -euo pipefail
cd "$(dirname "$0")/../.."
git rev-parse -q --verify HEAD >/dev/null 2>&1 || { echo "pgxn: skipped, there is no git, or no commit of it here"; exit 0; }
home=${IDGEN_HOME:-$([ "$(id -u)" = 0 ] && echo /var/cache/idgen || echo "$HOME/.cache/idgen")}
client=pgxnclient==1.3.2
python3 -m pip --version >/dev/null 2>&1 || export PYTHONPATH=$(echo "$home"/pip/usr/share/python-wheels/pip-*.whl)
if [ ! -e "$home/pgxn/$client" ]; then
    rm -rf "$home/pgxn" && mkdir -p "$home/pgxn"
    PIP_ROOT_USER_ACTION=ignore timeout 300 python3 -m pip install -q --disable-pip-version-check --target "$home/pgxn" "$client" >"$home/pgxn/log" 2>&1 ||
        { echo "pgxn: skipped, pip cannot install it here"; exit 0; }
    touch "$home/pgxn/$client"
fi
pgxn() { PYTHONPATH=$home/pgxn python3 "$home/pgxn/bin/pgxn" "$@"; }
die() { echo "tests/packages/pgxn.sh: $*" >&2; exit 1; }

work=$(mktemp -d /tmp/idgen-pgxn.XXXXXX)
chmod 755 "$work"
# What is built already is used; the library that was built of the files here is put back.
CARGO_TARGET_DIR=$(realpath -m "${CARGO_TARGET_DIR:-target}")
export CARGO_TARGET_DIR
mkdir -p "$CARGO_TARGET_DIR" "$work/built"
cp -a "$CARGO_TARGET_DIR"/pg[0-9]* "$work/built/" 2>/dev/null || true
trap 'cp -a "$work/built/." "$CARGO_TARGET_DIR/"; rm -rf "$work"' EXIT
version=$(python3 -c 'import json; print(json.load(open("META.json"))["version"])')
make dist
mv "idgen-$version.zip" "$work/"

# Into a folder of its own, and from there into a copy of the server's that has no idgen yet.
tree=$(cd "$PG_BINDIR/.." && pwd)
export DESTDIR=$work/installed
pgxn install --nosudo --pg_config "$PG_CONFIG" "$work/idgen-$version.zip"
cp -a "$tree" "$work/tree"
find "$work/tree" -name 'idgen*' -delete
from=$DESTDIR
[ ! -d "$DESTDIR$tree" ] || from=$DESTDIR$tree
cp -a "$from/." "$work/tree/"

export -f pgxn
export home work version
PG_BINDIR=$work/tree/bin tests/temporary_server.sh bash -c 'pgxn check --pg_config "$PG_CONFIG" "$work/idgen-$version.zip"' >"$work/log" 2>&1 ||
    { cat "$work/log" >&2; die "pgxn check failed"; }
grep -q 'All [0-9]* tests passed' "$work/log" || { cat "$work/log" >&2; die "pgxn check ran no test"; }

pgxn uninstall --nosudo --pg_config "$PG_CONFIG" "$work/idgen-$version.zip"
left=$(find "$DESTDIR" -type f)
[ -z "$left" ] || die "left behind: $left"
echo "pgxn: idgen-$version.zip installed, $(grep -o 'All [0-9]* tests passed' "$work/log"), uninstalled"
