#!/bin/bash
# A PostgreSQL with assertions: built once from Debian's source package into a tree beside the others of tests/setup.sh.
#
#   tests/asserts.sh [VERSION]      builds it, and prints the tree: $IDGEN_HOME/VERSION-asserts with bin and env. The source
#                                   stays in src of the tree, for PostgreSQL's own suites
#
# Ends with 77 where there is no source package, as on a machine whose packages are others.
set -euo pipefail
umask 022
# MAKELEVEL: PostgreSQL's makefiles make the generated headers first only if no other make called them.
unset DESTDIR MAKEFLAGS MAKELEVEL PG_CONFIG

version=${1:-15}
home=${IDGEN_HOME:-$([ "$(id -u)" = 0 ] && echo /var/cache/idgen || echo "$HOME/.cache/idgen")}
tree=$home/$version-asserts
say() { echo "$*" >&2; }
skip() { say "tests/asserts.sh: $*"; exit 77; }

mkdir -p "$home"
exec 9>"$home/asserts.lock"
flock 9
if "$tree/bin/postgres" --version >/dev/null 2>&1; then echo "$tree" && exit; fi

# apt's own sources, with source packages, in folders of our own: nothing of the system changes.
sources() {
    local file
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
        grep -Eqs 'debian|ubuntu' "$file" || continue
        sed -e 's/^Types:.*/Types: deb-src/' -e 's/^deb /deb-src /' "$file" >"$1/$(basename "$file")"
    done
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
mkdir -p "$work/parts" "$work/lists/partial" "$work/archives/partial"
sources "$work/parts"
apt=(apt-get -qq -o "Dir::Etc::SourceList=/dev/null" -o "Dir::Etc::SourceParts=$work/parts" -o "Dir::State::Lists=$work/lists"
    -o "Dir::Cache=$work" -o APT::Sandbox::User=root)
if [ "$(id -u)" = 0 ]; then
    missing=()
    for package in bison flex perl make gcc libc6-dev; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q ' installed' || missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] || DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
command -v bison >/dev/null && command -v flex >/dev/null || skip "bison and flex are needed (as root: apt-get install bison flex)"
"${apt[@]}" update >"$work/log" 2>&1 || skip "there are no source packages here: $(tail -n 1 "$work/log")"
# The newest that can be had: a mirror may lack what its list names.
fetched=
for candidate in $(apt-cache "${apt[@]:2}" showsrc "postgresql-$version" 2>/dev/null | sed -n 's/^Version: //p' | sort -Vru); do
    if (cd "$work" && "${apt[@]}" --download-only source "postgresql-$version=$candidate") >>"$work/log" 2>&1; then
        fetched=$candidate && break
    fi
done
[ -n "$fetched" ] || skip "there is no source package of PostgreSQL $version$(sed -n '$s/^/: /p' "$work/log")"

say "building PostgreSQL $fetched with assertions"
rm -rf "$tree" && mkdir -p "$tree/src"
tar -xf "$work"/postgresql-*.orig.tar.* -C "$tree/src" --strip-components=1
cd "$tree/src"
# Nothing that needs a library: it must build wherever the others do.
./configure --quiet --prefix="$tree" --enable-cassert --enable-debug CFLAGS="-O1 ${ASSERTS_CFLAGS:-}" \
    --without-readline --without-zlib $([ "$version" -ge 16 ] && echo --without-icu) >"$tree/build.log" 2>&1
for part in . contrib/dblink contrib/postgres_fdw; do
    make -s -j"$(nproc)" -C "$part" install >>"$tree/build.log" 2>&1 || { tail -n 30 "$tree/build.log" >&2; exit 1; }
done
echo "export PG_CONFIG=$tree/bin/pg_config DESTDIR=" >"$tree/env"
[ ! -e "$home/env" ] || cat "$home/env" >>"$tree/env"
echo "$tree"
