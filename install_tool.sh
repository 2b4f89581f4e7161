#!/usr/bin/env bash
# install_tool.sh v1: put the tool and all it needs into .venv beside this script. Safe to run again.
#
# Python: $PYTHON if set, else the first of python3, python3.13, python3.12, python3.11 that is new enough.
set -euo pipefail

if [ "$#" -ne 1 ] || [ "$1" != v1 ]; then
    echo "usage: install_tool.sh v1" >&2
    exit 2
fi
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

new_enough() {
    "$1" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

python=
for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11; do
    if new_enough "$candidate"; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "install_tool.sh: needs Python 3.11 or newer with the venv module; set PYTHON to one" >&2
    exit 1
fi

if ! [ -x .venv/bin/python ] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    "$python" -m venv --clear .venv
fi
.venv/bin/python -m pip install --disable-pip-version-check .
.venv/bin/python -m compileall -q lirpa_verify vnnlib # the scripts run this folder's code
.venv/bin/lirpa-verify --version
