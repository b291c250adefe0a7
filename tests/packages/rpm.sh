#!/bin/bash
# tests/packages/rpm.sh: the RPM of the last commit for the PostgreSQL of $PG_CONFIG, as root: built without network,
# installed into a folder, used by a server of $PG_BINDIR, and erased without a trace but for a warning where a server
# preloads it. Skipped where there is no rpmbuild (Debian: rpm).
set -euo pipefail
cd "$(dirname "$0")/../.."
die() { echo "tests/packages/rpm.sh: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || { echo "rpm: skipped, only root can install into a folder"; exit 0; }
command -v rpmbuild >/dev/null || { echo "rpm: skipped, no rpmbuild here (Debian: rpm)"; exit 0; }

work=$(mktemp -d /tmp/idgen-rpm.XXXXXX)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
quietly() { "$@" >"$work/log" 2>&1 || { tail -n 40 "$work/log" >&2; die "failed: $*"; }; }
v=$("$PG_CONFIG" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
debian/make-source "$work/SOURCES" >/dev/null
quietly env -u CARGO_TARGET_DIR unshare --net rpmbuild -bb --nodeps --define "_topdir $work" --define "pgversion $v" --define "pg_config $PG_CONFIG" examples/rpm/idgen.spec
package=$(echo "$work"/RPMS/*/idgen_"$v"-*.rpm)

# No package of PostgreSQL is there to depend on.
rpm() { command rpm --root "$work/root" --nodeps "$@"; }
mkdir -p "$work/root/var/lib/pgsql/$v/data"
quietly rpm -i "$package"
tree=$(cd "$PG_BINDIR/.." && pwd)
cp -a "$tree" "$work/tree"
find "$work/tree" -name 'idgen*' -delete
from=$work/root
[ ! -d "$from$tree" ] || from=$from$tree
cp -a "$from/usr" "$work/tree/"
export PG_BINDIR=$work/tree/bin
ids=$(tests/temporary_server.sh "$PG_BINDIR/psql" -XqAtv ON_ERROR_STOP=1 -c 'CREATE EXTENSION idgen' \
    -c 'SELECT count(DISTINCT idgen_next()) FROM generate_series(1, 1000)')
[ "$ids" = 1000 ] || die "no ids: $ids"

echo "shared_preload_libraries = 'idgen'" >"$work/root/var/lib/pgsql/$v/data/postgresql.conf"
quietly rpm -e "idgen_$v"
grep -q 'WARNING: .* preloads idgen' "$work/log" || die "no warning"
left=$(find "$work/root" -name '*idgen*')
[ -z "$left" ] || die "left behind: $left"
echo "rpm: ${package##*/} built, installed, erased"
