#!/bin/bash
# tests/packages/deb.sh [SUITE]: Debian's packages, as root, in chroots of SUITE (bookworm): the source package is built there
# without network, twice, in two folders, with the same bytes; lintian has nothing to say; on a clean system the package is
# installed, preloaded, created, upgraded, and removed without a trace; and a container has it (examples/container).
#
# The base is made once by debootstrap and kept in $IDGEN_HOME. Rust comes from this machine, as Debian's is too old.
set -euo pipefail
cd "$(dirname "$0")/../.."
suite=${1:-bookworm}
die() { echo "tests/packages/deb.sh: $*" >&2; exit 1; }
say() { echo "== deb: $*"; }
[ "$(id -u)" = 0 ] || die "only root can make chroots"

# Mounts and processes of our own, gone when this ends.
if [ -z "${IN_NAMESPACE:-}" ]; then
    exec env IN_NAMESPACE=1 unshare --mount --pid --fork --kill-child --mount-proc "$PWD/${0#"$PWD/"}" "$@"
fi
home=${IDGEN_HOME:-/var/cache/idgen}/chroots
work=$(mktemp -d /tmp/idgen-deb.XXXXXX)
trap 'umount -R -l "$work/build" "$work/clean" "$work/containers/overlay" 2>/dev/null || true; rm -rf "$work"' EXIT
chmod 755 "$work"
mkdir -p "$home"
missing=()
for package in buildah debootstrap dpkg-dev iproute2; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q ' installed' || missing+=("$package")
done
[ ${#missing[@]} = 0 ] || DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$work/log"

if [ ! -e "$home/$suite" ]; then
    say "debootstrap $suite"
    rm -rf "$home/$suite.new"
    debootstrap --variant=minbase "$suite" "$home/$suite.new" >"$work/log" || { tail "$work/log" >&2; die "debootstrap failed"; }
    printf '127.0.0.1 localhost\n' >"$home/$suite.new/etc/hosts"
    # Nothing starts by itself.
    printf '#!/bin/sh\nexit 101\n' >"$home/$suite.new/usr/sbin/policy-rc.d"
    chmod +x "$home/$suite.new/usr/sbin/policy-rc.d"
    mv "$home/$suite.new" "$home/$suite"
fi

chroot_of() { # NAME: a copy of the base, in $work/NAME
    mkdir -p "$work/$1" "$work/layers/$1/upper" "$work/layers/$1/work"
    mount -t overlay overlay -o "lowerdir=$home/$suite,upperdir=$work/layers/$1/upper,workdir=$work/layers/$1/work" "$work/$1"
    mount -t proc proc "$work/$1/proc"
    mkdir -p "$work/$1/dev/shm" "$work/$1/opt/rust"
    mount -t tmpfs tmpfs "$work/$1/dev/shm"
    cp /etc/resolv.conf "$work/$1/etc/resolv.conf"
    export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
    chroot "$work/$1" apt-get update -qq
}
quietly() { "$@" >"$work/log" 2>&1 || { tail -n 60 "$work/log" >&2; die "failed: $*"; }; }

say "the source package"
debian/make-source "$work/source" >/dev/null
chroot_of build
mount --bind "$(rustc --print sysroot)" "$work/build/opt/rust"
mkdir -p "$work/build/srv/one" "$work/build/home/builder/another/folder"
cp -a "$work/source/." "$work/build/srv/one/"
cp -a "$work/source/." "$work/build/home/builder/another/folder/"
say "what it is built with"
quietly chroot "$work/build" apt-get install -y -qq --no-install-recommends build-essential lintian
quietly chroot "$work/build" apt-get build-dep -y -qq --no-install-recommends -P pkg.idgen.rustup /srv/one/idgen-1.0.0
quietly chroot "$work/build" useradd builder
chroot "$work/build" chown -R builder: /srv /home/builder

as_builder() { # COMMAND, without network
    unshare --net sh -c 'ip link set lo up && exec "$@"' sh chroot "$work/build" runuser -u builder -- \
        env PATH=/opt/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/home/builder PG_UPDATECONTROL=yes "$@"
}
say "build"
quietly as_builder sh -c 'cd /srv/one/idgen-1.0.0 && dpkg-buildpackage -us -uc -Ppkg.idgen.rustup'
grep -o 'All [0-9]* tests passed' "$work/log" || { cat "$work/log" >&2; die "no test ran at build"; }
say "lintian"
quietly as_builder sh -c 'lintian --profile debian --fail-on error,warning /srv/one/*.changes'
cat "$work/log"
say "build in another folder"
quietly as_builder sh -c 'cd /home/builder/another/folder/idgen-1.0.0 && DEB_BUILD_OPTIONS=nocheck dpkg-buildpackage -b -us -uc -Ppkg.idgen.rustup'
for deb in "$work"/build/srv/one/*.deb; do
    cmp "$deb" "$work/build/home/builder/another/folder/${deb##*/}" || die "${deb##*/} depends on where it is built"
    sha256sum "$deb" | sed "s:  .*/:  :"
done

deb=$(echo "$work"/build/srv/one/postgresql-*-idgen_*.deb)
package=$(dpkg-deb -f "$deb" Package)
v=${package//[^0-9]/}

# A version to come: another release of the package, with a script that brings the extension there.
mkdir -p "$work/newer"
dpkg-deb -R "$deb" "$work/newer"
sed -i 's/^Version: .*/Version: 1.0.1-0idgen1/' "$work/newer/DEBIAN/control"
sed -i "s/^default_version = .*/default_version = '1.0.1'/" "$work/newer/usr/share/postgresql/$v/extension/idgen.control"
echo 'COMMENT ON FUNCTION @extschema@.idgen_next() IS $$of 1.0.1$$;' >"$work/newer/usr/share/postgresql/$v/extension/idgen--1.0.0--1.0.1.sql"
quietly dpkg-deb -b "$work/newer" "$work/newer.deb"

say "install"
chroot_of clean
cp "$deb" "$work/clean/root/idgen.deb"
cp "$work/newer.deb" "$work/clean/root/newer.deb"
inside() { unshare --net sh -c 'ip link set lo up && exec "$@"' sh chroot "$work/clean" "$@"; }
sql() { inside runuser -u postgres -- psql -XqAt -v ON_ERROR_STOP=1 -c "$1"; }
above() { # what an id has to be greater than
    local id
    id=$(sql 'SELECT idgen_next()') && [ "$id" -gt "$last" ] || die "an id $id after $last"
    last=$id
}
last=0
quietly chroot "$work/clean" apt-get install -y -qq --no-install-recommends "postgresql-$v"
(cd "$work/clean" && find etc usr var/lib/postgresql ! -type d ! -name '*.pyc' | sort) >"$work/before"
tar -C "$work/clean" --one-file-system -cf "$work/postgres.tar" .
quietly inside apt-get install -y /root/idgen.deb

# As README.Debian says.
inside pg_conftool "$v" main set shared_preload_libraries idgen
inside pg_conftool "$v" main set idgen.machine_id 1
inside pg_ctlcluster "$v" main restart
sql 'CREATE EXTENSION idgen'
above

say "upgrade"
quietly inside apt-get install -y /root/newer.deb
! grep -q WARNING "$work/log" || die "an upgrade warns: $(cat "$work/log")"
above # from the library that is loaded
inside pg_ctlcluster "$v" main restart
sql 'ALTER EXTENSION idgen UPDATE'
[ "$(sql "SELECT extversion FROM pg_extension WHERE extname = 'idgen'")" = 1.0.1 ] || die "the extension is not of the new version"
[ "$(sql "SELECT obj_description('idgen_next()'::regprocedure)")" = "of 1.0.1" ] || die "the script of the upgrade did not run"
above

say "remove"
quietly inside apt-get purge -y "$package"
grep -q "WARNING: PostgreSQL $v/main preloads idgen" "$work/log" || { cat "$work/log" >&2; die "the removal does not say that the server needs it"; }
grep -A 1 WARNING "$work/log"
! sql 'SELECT idgen_next()' 2>/dev/null || die "ids without the library: the warning is needless"
! inside pg_ctlcluster "$v" main restart >/dev/null 2>&1 || die "it started without the library: the warning is needless"
inside pg_conftool "$v" main remove shared_preload_libraries
inside pg_ctlcluster "$v" main start
sql 'SELECT 1' >/dev/null
(cd "$work/clean" && find etc usr var/lib/postgresql ! -type d ! -name '*.pyc' | sort) >"$work/after"
left=$(comm -13 "$work/before" "$work/after" | grep idgen || true)
[ -z "$left" ] || die "left behind: $left"

say "install again"
quietly inside apt-get install -y /root/newer.deb
quietly inside pg_conftool "$v" main set shared_preload_libraries idgen
inside pg_ctlcluster "$v" main restart
above
quietly inside apt-get remove -y "$package"
grep -q WARNING "$work/log" || die "no warning"
inside pg_conftool "$v" main remove shared_preload_libraries
quietly inside apt-get install -y /root/newer.deb
quietly inside apt-get remove -y "$package"
! grep -q WARNING "$work/log" || die "a warning though no server preloads it"
inside pg_ctlcluster "$v" main stop

# On an image of the same Debian and PostgreSQL in the place of the one that everybody has.
say "container"
store() { buildah --storage-driver overlay --root "$work/containers" --runroot "$work/containers-run" "$@"; }
base=$(store from scratch)
quietly store add "$base" "$work/postgres.tar" /
quietly store commit "$base" "docker.io/library/postgres:$v"
mkdir "$work/context"
cp "$work"/build/srv/one/*.deb "$work/context/"
quietly store build --pull-never --isolation chroot --build-arg "POSTGRES=$v" -t idgen -f examples/container/Containerfile "$work/context"
container=$(store from --pull-never localhost/idgen)
quietly store run --isolation chroot "$container" -- runuser -u postgres -- sh -ec "
    PATH=/usr/lib/postgresql/$v/bin:\$PATH; cd /tmp
    initdb -D data >/dev/null
    pg_ctl -w -D data -l log -o '-c shared_preload_libraries=idgen -c idgen.machine_id=1 -c unix_socket_directories=/tmp' start >/dev/null
    psql -h /tmp -XqAt -v ON_ERROR_STOP=1 postgres -c 'CREATE EXTENSION idgen' -c 'SELECT count(DISTINCT idgen_next()) FROM generate_series(1, 1000)'
    pg_ctl -D data stop >/dev/null"
grep -qx 1000 "$work/log" || { cat "$work/log" >&2; die "no ids in the container"; }

echo "deb: $package built twice, installed, upgraded, removed"
