#!/usr/bin/env bash
# prepare_instance.sh v1 CATEGORY ONNX VNNLIB: read the model ahead of time, so that the run starts faster.
#
# Exits with 0 even if the model cannot be read: a failed preparation would make the harness skip the
# instance, while the run itself can still answer.
if [ "$#" -ne 4 ] || [ "$1" != v1 ]; then
    echo "usage: prepare_instance.sh v1 CATEGORY ONNX VNNLIB" >&2
    exit 2
fi

here=${BASH_SOURCE[0]%/*}
[ "$here" = "${BASH_SOURCE[0]}" ] && here=.
python=${LIRPA_VERIFY_PYTHON:-}
[ -z "$python" ] && [ -x "$here/.venv/bin/python" ] && python=$here/.venv/bin/python
[ -z "$python" ] && python=python3

PYTHONPATH=$here${PYTHONPATH:+:$PYTHONPATH} "$python" -P -m lirpa_verify.prepare "$3" ||
    echo "prepare_instance.sh: not prepared: $3" >&2
exit 0
