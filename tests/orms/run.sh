#!/bin/bash
# Object mappers with keys made by idgen; needs a server that preloads it with machine id 1:
#
#   tests/temporary_server.sh tests/orms/run.sh
#
# Prints a line for each mapper. Those that this machine cannot have (no pip, no npm, no libpq to link with, no javac, no Go,
# no way to a registry) are named and skipped. Packages go to $IDGEN_HOME/orms.
set -euo pipefail
cd "$(dirname "$0")"
. ../ruby.sh
default_home() { if [ "$(id -u)" = 0 ]; then echo /var/cache/idgen; else echo "$HOME/.cache/idgen"; fi; }
home=${IDGEN_HOME:-$(default_home)}/orms
mkdir -p "$home/python" "$home/node"

# Installs what LIST names into FOLDER, unless that has been done.
provide() { # FOLDER LIST COMMAND ...
    cmp -s "$2" "$1/installed" && return
    "${@:3}" >"$home/install.log" 2>&1 || { tail -n 5 "$home/install.log" >&2; return 1; }
    cp "$2" "$1/installed"
}
pip_install() { # also with the copy of pip that tests/setup.sh unpacks where Debian has none
    python3 -m pip --version >/dev/null 2>&1 || PYTHONPATH=$(echo "${home%/orms}"/pip/usr/share/python-wheels/pip-*.whl)
    export PYTHONPATH
    rm -rf "$home/python" && mkdir "$home/python"
    PIP_ROOT_USER_ACTION=ignore timeout 300 python3 -m pip install -q --disable-pip-version-check --target "$home/python" -r requirements.txt
}
npm_install() { # modules are looked for beside the script that imports them; those of Prisma would load an engine
    timeout 300 npm install --ignore-scripts --silent --no-audit --no-fund --no-package-lock --prefix "$home/node"
}
cargo_do() { # COMMAND OPTION ...
    timeout 300 cargo "$@" --quiet --locked --manifest-path rust/Cargo.toml >"$home/cargo.log" 2>&1 ||
        { tail -n 20 "$home/cargo.log" >&2; return 1; }
}
find_libpq() { # that of libpq-dev, else of the server
    local folder
    for folder in "$(pkg-config --variable=libdir libpq)" "$(pg_config --libdir)" "$("$PG_BINDIR/pg_config" --libdir)"; do
        if [ -e "$folder/libpq.so" ]; then echo "$folder" && return; fi
    done 2>/dev/null
    return 1
}

failed=0
try() { # NAME COMMAND ...
    local start=$SECONDS
    if timeout 120 "${@:2}"; then
        echo "$1: passed ($((SECONDS - start)) s)"
    else
        echo "$1: FAILED"
        failed=1
    fi
}
build_and_try() { # NAME PROGRAM
    if cargo_do build --bin "$2"; then
        try "$1" "$CARGO_TARGET_DIR/debug/$2"
    else
        echo "$1: FAILED to build"
        failed=1
    fi
}

"$PG_BINDIR/psql" -Xqd postgres -c "CREATE DATABASE orms"
export PGDATABASE=orms
"$PG_BINDIR/psql" -Xqv ON_ERROR_STOP=1 <<'END'
CREATE EXTENSION idgen;
CREATE FUNCTION made_by_idgen(ids bigint[]) RETURNS boolean LANGUAGE sql BEGIN ATOMIC
    SELECT count(DISTINCT id) = cardinality(ids)
           AND bool_and(machine = 1 AND at BETWEEN now() - interval '1 hour' AND now() + interval '1 hour')
    FROM unnest(ids) id, idgen_decode(id);
END;
END

if provide "$home/python" requirements.txt pip_install; then
    export PYTHONPATH=$home/python PYTHONDONTWRITEBYTECODE=1
    try SQLAlchemy python3 with_sqlalchemy.py
    try Django python3 with_django.py
    try Alembic python3 with_alembic.py
else
    echo "SQLAlchemy, Django, Alembic: skipped, pip cannot install them here"
fi

cp -r package.json ./*.js drizzle-kit prisma "$home/node/"
if ! command -v npm >/dev/null; then
    echo "Knex, Drizzle, drizzle-kit, TypeORM, Sequelize, Prisma: skipped, no npm here"
elif provide "$home/node" package.json npm_install; then
    try Knex node "$home/node/with_knex.js"
    try Drizzle node "$home/node/with_drizzle.js"
    try TypeORM node "$home/node/with_typeorm.js"
    try Sequelize node "$home/node/with_sequelize.js"
    try Prisma env -C "$home/node" node with_prisma.js
    try drizzle-kit env -C "$home/node" "$PWD/with_drizzle_kit.sh"
else
    echo "Knex, Drizzle, drizzle-kit, TypeORM, Sequelize, Prisma: skipped, npm cannot install them here"
fi

if find_ruby "${home%/orms}" -e 'gem "activerecord"; gem "pg"'; then
    try Rails env "${ruby_env[@]}" "$ruby" with_rails.rb
else
    echo "Rails: skipped, no ActiveRecord here (Debian: ruby-activerecord, ruby-pg)"
fi

find_jdbc() { # the driver that tests/setup.sh has unpacked, else the machine's own
    for jdbc in "${home%/orms}/jdbc/usr/share/java/postgresql.jar" /usr/share/java/postgresql.jar; do
        [ ! -e "$jdbc" ] || return 0
    done
    return 1
}
if ! command -v javac >/dev/null || [ "$(javac -version 2>&1 | sed 's/[^0-9]*\([0-9]*\).*/\1/')" -lt 17 ]; then
    echo "JDBC: skipped, no javac of Java 17 or newer here (Debian: openjdk-17-jdk-headless)"
elif ! find_jdbc; then
    echo "JDBC: skipped, no driver here (Debian: libpostgresql-jdbc-java)"
elif javac -Xlint:all -Werror -d "$home/java" WithJdbc.java; then
    try JDBC java -cp "$home/java:$jdbc" WithJdbc
else
    echo "JDBC: FAILED to build"
    failed=1
fi

find_go() { # as unpacked by tests/setup.sh, else the machine's own
    for go in "${home%/orms}"/go/usr/lib/go-*/bin/go /usr/lib/go-*/bin/go; do
        [ ! -x "$go" ] || return 0
    done
    return 1
}
find_gocode() { # PACKAGE
    for gocode in "${home%/orms}/gocode/usr/share/gocode" /usr/share/gocode; do
        [ ! -d "$gocode/src/$1" ] || return 0
    done
    return 1
}
build_and_try_go() { # NAME FILE PACKAGE DEBIAN
    local go gocode go_env
    if ! find_go || ! find_gocode "$3"; then
        echo "$1: skipped, not here (Debian: golang-go, $4)"
        return
    fi
    go_env=(GOROOT="${go%/bin/go}" GOPATH="$gocode" GO111MODULE=off GOCACHE="$home/go" GOFLAGS= CGO_ENABLED=0)
    if env "${go_env[@]}" "$go" vet "$2.go" && env "${go_env[@]}" "$go" build -o "$home/$2" "$2.go"; then
        try "$1" "$home/$2"
    else
        echo "$1: FAILED to build"
        failed=1
    fi
}
build_and_try_go pgx with_pgx github.com/jackc/pgx/v4 golang-github-jackc-pgx-v4-dev
build_and_try_go GORM with_gorm github.com/jinzhu/gorm golang-github-jinzhu-gorm-dev

export CARGO_TARGET_DIR=$home/rust
if ! command -v cargo >/dev/null || ! cargo_do fetch; then
    echo "sqlx, Diesel: skipped, no cargo here, or no way to a registry"
else
    build_and_try sqlx with_sqlx
    # The linker is told where libpq is: pq-sys, which sqlx's build has made too, does not see that PQ_LIB_DIR is new.
    if libpq=$(find_libpq); then
        LIBRARY_PATH=$libpq LD_LIBRARY_PATH=$libpq build_and_try Diesel with_diesel
    else
        echo "Diesel: skipped, no libpq to link with (Debian: libpq-dev)"
    fi
fi
exit $failed
