#!/bin/bash
# pgspot over the extensions' scripts: names that could be found in a schema that others may write to. Skipped where pip cannot
# have it. It stops at C functions that name a file, at SQL functions whose body is no text and at RETURN NEXT: the scripts are
# read without the file, such a body as a statement of its own, which is looked up when the script runs as that is, and PERFORM.
set -euo pipefail
cd "$(dirname "$0")/../.."
home=${IDGEN_HOME:-$([ "$(id -u)" = 0 ] && echo /var/cache/idgen || echo "$HOME/.cache/idgen")}/pgspot
version=pgspot==0.9.4
python3 -m pip --version >/dev/null 2>&1 || export PYTHONPATH=$(echo "${home%/pgspot}"/pip/usr/share/python-wheels/pip-*.whl)
if [ ! -e "$home/$version" ]; then
    rm -rf "$home" && mkdir -p "$home"
    PIP_ROOT_USER_ACTION=ignore timeout 300 python3 -m pip install -q --disable-pip-version-check --target "$home" "$version" >"$home/log" 2>&1 ||
        { echo "pgspot: skipped, pip cannot install it here"; exit 0; }
    touch "$home/$version"
fi
failed=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for script in sql/*.sql; do
    python3 - "$script" >"$work/script.sql" <<'END'
import re, sys
text = open(sys.argv[1]).read()
text = re.sub(r"^\\echo.*", "", text, flags=re.M).replace("@extschema@", "idgen_schema")
text = re.sub(r"AS 'MODULE_PATHNAME', '(\w+)'", r"AS '\1'", text)
text = re.sub(r"^CREATE FUNCTION (?:(?!^CREATE FUNCTION).)*?^BEGIN ATOMIC\n(.*?)^END;\n", r"\1\n", text, flags=re.M | re.S)
text = re.sub(r"RETURN NEXT (?=\S.*;)", "PERFORM ", text)
print(text)
END
    found=$(PYTHONPATH=$home python3 "$home/bin/pgspot" "$work/script.sql" 2>&1) || failed=1
    # It must have read it: a script that it cannot read has no findings either.
    if grep -q '^PS' <<<"$found" || ! grep -q '^ *Errors: 0 Warnings: 0 Unknown: 0' <<<"$found"; then failed=1; fi
    echo "pgspot $script:" $found
done
exit $failed
