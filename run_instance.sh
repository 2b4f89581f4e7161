#!/usr/bin/env bash
# run_instance.sh v1 CATEGORY ONNX VNNLIB RESULTS_FILE TIMEOUT: the VNN-COMP harness's way to run one instance.
#
# Python: $LIRPA_VERIFY_PYTHON if set, else the .venv that install_tool.sh made here, else python3.
started=${EPOCHREALTIME/,/.} # some locales write a decimal comma
shopt -s execfail            # a failed exec returns here instead of ending the shell

if [ "$#" -ne 6 ] || [ "$1" != v1 ]; then
    echo "usage: run_instance.sh v1 CATEGORY ONNX VNNLIB RESULTS_FILE TIMEOUT" >&2
    exit 2
fi
model=$3 property=$4 results=$5 timeout=${6%$'\r'}

here=${BASH_SOURCE[0]%/*}
[ "$here" = "${BASH_SOURCE[0]}" ] && here=.
python=${LIRPA_VERIFY_PYTHON:-}
[ -z "$python" ] && [ -x "$here/.venv/bin/python" ] && python=$here/.venv/bin/python
[ -z "$python" ] && python=python3

# From here on the file holds a word of the competition, whatever happens to the processes below.
printf 'unknown\n' >"$results" || exit 2

# exec keeps this process, and with it the moment when it started; -P keeps the caller's folder out of Python's path.
export PYTHONPATH=$here${PYTHONPATH:+:$PYTHONPATH}
exec "$python" -P -m lirpa_verify ${started:+--started "$started"} --timeout "$timeout" \
    --results-file "$results" -- "$model" "$property"

printf 'error\n' >"$results"
echo "run_instance.sh: cannot start Python ($python); run install_tool.sh first" >&2
exit 1
