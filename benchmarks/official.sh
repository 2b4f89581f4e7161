#!/usr/bin/env bash
# official.sh FOLDER SUITE [OPTIONS of lirpa-bench run]: the competition's sequence on a suite, from nothing.
#
# Copies the files that git knows to FOLDER/tool, installs them there with install_tool.sh, and runs
# prepare_instance.sh and run_instance.sh on every instance, timed as the competition does. Then replays the witnesses
# and leaves results.sqlite, results.csv with its counterexamples, and report.html in FOLDER. The same call
# again continues.
set -euo pipefail

if [ "$#" -lt 2 ]; then
    echo "usage: official.sh FOLDER SUITE [OPTIONS of lirpa-bench run]" >&2
    exit 2
fi
mkdir -p "$1"
folder=$(realpath -- "$1") suite=$(realpath -- "$2")
shift 2
unset LIRPA_VERIFY_PYTHON PYTHONPATH

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
mkdir -p "$folder/tool"
git ls-files -z | xargs -0 cp --parents -t "$folder/tool"
"$folder/tool/install_tool.sh" v1

cd "$folder"
bench=$folder/tool/.venv/bin/lirpa-bench
"$bench" run "$suite" --cold --scripts "$folder/tool" --db results.sqlite "$@"
"$bench" check --db results.sqlite
"$bench" export . --db results.sqlite
"$bench" report --db results.sqlite --html report.html
