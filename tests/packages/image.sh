#!/bin/bash
# tests/packages/image.sh: the volume that `make image` lays out, mounted where CloudNativePG mounts it, on a server of
# $PG_BINDIR that has no other idgen: both extensions are created and used from there, and the SQL tests pass. Where root has
# buildah, the volume is what is in the image that examples/container/Containerfile.volume makes.
set -euo pipefail
cd "$(dirname "$0")/../.."
die() { echo "tests/packages/image.sh: $*" >&2; exit 1; }
work=$(mktemp -d /tmp/idgen-image.XXXXXX)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
volume=$work/extensions/idgen
make image DESTDIR="$volume"
[ "$(cd "$volume" && find . -type f ! -name '*.sql' ! -name '*.control')" = ./lib/idgen.so ] || die "more than an extension in $volume"
[ -f "$volume/share/extension/idgen.control" ] || die "no control file in $volume/share/extension"
! readelf -S "$volume/lib/idgen.so" | grep -q '\.symtab\|\.debug' || die "the library has symbols"

if [ "$(id -u)" = 0 ] && command -v buildah >/dev/null; then
    store() { buildah --storage-driver overlay --root "$work/images" --runroot "$work/images-run" "$@"; }
    store build -q -t idgen:18 -f examples/container/Containerfile.volume "$volume"
    container=$(store from --pull-never localhost/idgen:18)
    rm -r "$volume"
    cp -r "$(store mount "$container")" "$volume"
    chmod 755 "$volume"
    store rm "$container" >/dev/null
else
    echo "image: no buildah, so the folder itself is the volume"
fi
cp -a "$(cd "$PG_BINDIR/.." && pwd)" "$work/tree"
find "$work/tree" -name 'idgen*' -delete
export PG_BINDIR=$work/tree/bin
export SETTINGS="extension_control_path = '\$system:$volume/share'
dynamic_library_path = '\$libdir:$volume/lib'"
tests/temporary_server.sh bash -c '
    "$PG_BINDIR/psql" -XqAt -v ON_ERROR_STOP=1 -c "CREATE EXTENSION idgen" -c "CREATE EXTENSION idgen_authority" \
        -c "SELECT count(DISTINCT idgen_next()) FROM generate_series(1, 1000)" && make installcheck' >"$work/log" 2>&1 ||
    { cat "$work/log" >&2; exit 1; }
grep -qx 1000 "$work/log" || { cat "$work/log" >&2; die "no ids"; }
grep -q 'All [0-9]* tests passed' "$work/log" || { cat "$work/log" >&2; die "no test"; }
echo "image: $(du -sh "$volume" | cut -f1), $(grep -o 'All [0-9]* tests passed' "$work/log")"
