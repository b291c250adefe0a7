#!/bin/bash
# The code of docs/clients.md against the server's own answers; needs a server that preloads idgen:
#
#   tests/temporary_server.sh tests/clients/run.sh
#
# Prints a line for each language. Those that this machine cannot have are named and skipped.
set -euo pipefail
cd "$(dirname "$0")"
. ../ruby.sh
home=${IDGEN_HOME:-$(if [ "$(id -u)" = 0 ]; then echo /var/cache/idgen; else echo "$HOME/.cache/idgen"; fi)}
work=$home/clients
rm -rf "$work/shown" && mkdir -p "$work/shown/go/src/ids" "$work/shown/go/src/questions"
psql() { "$PG_BINDIR/psql" -XqAt -v ON_ERROR_STOP=1 "$@"; }

# The page's blocks in a language: the first without the opaque form, the second with it.
block() { # LANGUAGE NUMBER
    awk -v fence="\`\`\`$1" -v number="$2" '
        /^```/ { inside = $0 == fence && ++count == number; next }
        inside
        END { exit count < number }' ../../docs/clients.md
}

# Writes the file of the key as the server wants it: of its own user, for nobody else to read.
data=$(psql -c "SHOW data_directory")
use_key() { # KEY
    (umask 077 && printf '%s\n' "$1" >"$data/opaque.key")
    [ "$(id -u)" != 0 ] || chown --reference="$data" "$data/opaque.key"
}
psql -d postgres -c "CREATE DATABASE clients"
export PGDATABASE=clients
psql -c "CREATE EXTENSION idgen" -c "ALTER SYSTEM SET idgen.opaque_key_file = 'opaque.key'" -c "SELECT pg_reload_conf()" >/dev/null
until [ "$(psql -c "SHOW idgen.opaque_key_file")" = opaque.key ]; do sleep 0.1; done
for key in 0123456789abcdef 6368616e676520746869732070617373 "a key as long as Blowfish takes: fifty-six bytes in all!"; do
    use_key "$key"
    psql -v key="$(printf %s "$key" | od -An -v -tx1 | tr -d ' \n')" -f questions.sql
done >"$work/asked"
cut -f 1-3 "$work/asked" >"$work/questions"
cut -f 4 "$work/asked" >"$work/expected"
for of in decode to_text from_text to_opaque from_opaque; do
    [ "$(grep -c "^$of" "$work/asked")" -gt 900 ] || { echo "too few questions of $of"; exit 1; }
done
[ "$(grep -c refused "$work/expected")" -gt 900 ] || { echo "too few refusals"; exit 1; }

failed=0
try() { # LANGUAGE COMMAND ...
    local start=$SECONDS
    if timeout 120 "${@:2}" <"$work/questions" >"$work/answers" 2>"$work/errors" && cmp -s "$work/expected" "$work/answers"; then
        echo "$1: $(wc -l <"$work/answers") answers as the server's ($((SECONDS - start)) s)"
    else
        echo "$1: FAILED"
        tail -n 5 "$work/errors"
        echo "function, argument, key, the server's answer, the page's:"
        paste "$work/asked" "$work/answers" | awk -F '\t' '$4 != $5 && ++count <= 5'
        failed=1
    fi
}

pip_install() { # also with the copy of pip that tests/setup.sh unpacks where Debian has none
    python3 -m pip --version >/dev/null 2>&1 || export PYTHONPATH=$(echo "$home"/pip/usr/share/python-wheels/pip-*.whl)
    PIP_ROOT_USER_ACTION=ignore timeout 300 python3 -m pip install -q --disable-pip-version-check --target "$work/python" "$1" 2>"$work/errors"
}
if [ -d "$work/python/Crypto" ] || pip_install 'pycryptodome==3.*'; then
    { block python 1 && block python 2 && cat with_python.py; } >"$work/shown/ids.py"
    try Python env PYTHONPATH="$work/python" python3 "$work/shown/ids.py"
else
    echo "Python: skipped, pip cannot install pycryptodome here"
fi

if node --openssl-legacy-provider -e "" 2>/dev/null; then
    { block js 1 && block js 2 && cat with_javascript.js; } >"$work/shown/ids.js"
    try JavaScript node --openssl-legacy-provider "$work/shown/ids.js"
else
    echo "JavaScript: skipped, no Node here that has the option --openssl-legacy-provider"
fi

find_go() { # the machine's own, or what tests/setup.sh has unpacked; with the package of Blowfish
    for tree in "$home/go" ""; do
        go=$(echo "$tree"/usr/lib/go-*/bin/go)
        [ ! -x "$go" ] || [ ! -d "$tree/usr/share/gocode/src/golang.org/x/crypto" ] || return 0
    done
    return 1
}
if find_go; then
    block go 1 >"$work/shown/go/src/ids/ids.go"
    block go 2 >"$work/shown/go/src/ids/opaque.go"
    cp with_go.go "$work/shown/go/src/questions/main.go"
    unset "${!GO@}"
    export GOROOT="${go%/bin/go}" GOPATH=$work/shown/go:$tree/usr/share/gocode GO111MODULE=off GOCACHE=$work/go GOFLAGS= CGO_ENABLED=0
    if "$go" vet ids && "$go" build -o "$work/shown/questions" questions; then
        try Go "$work/shown/questions"
    else
        echo "Go: FAILED to build"
        failed=1
    fi
else
    echo "Go: skipped, not here (Debian: golang-go, golang-golang-x-crypto-dev)"
fi

if command -v javac >/dev/null && [ "$(javac -version 2>&1 | sed 's/[^0-9]*\([0-9]*\).*/\1/')" -ge 17 ]; then
    mkdir -p "$work/shown/java"
    block java 1 >"$work/shown/java/Ids.java"
    block java 2 >"$work/shown/java/OpaqueIds.java"
    cp WithJava.java "$work/shown/java/"
    if javac -Xlint:all -Werror -d "$work/shown/java" "$work/shown/java/"*.java; then
        # Where i is not the small letter of I.
        try Java java -Duser.language=tr -cp "$work/shown/java" WithJava
    else
        echo "Java: FAILED to build"
        failed=1
    fi
else
    echo "Java: skipped, no javac of Java 17 or newer here (Debian: openjdk-17-jdk-headless)"
fi

block ini 1 >"$work/shown/legacy.cnf"
if find_ruby "$home" -e 'Integer(RUBY_VERSION[0]) >= 3 or abort; require "openssl"'; then
    { block ruby 1 && block ruby 2 && cat with_ruby.rb; } >"$work/shown/ids.rb"
    try Ruby env "${ruby_env[@]}" OPENSSL_CONF="$work/shown/legacy.cnf" "$ruby" "$work/shown/ids.rb"
else
    echo "Ruby: skipped, no Ruby 3 here (Debian: ruby)"
fi
exit $failed
