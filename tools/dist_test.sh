#!/usr/bin/env bash
# Test on several GPUs of one machine (or CPU processes):
# tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of tools/test.py]
set -euo pipefail
if [ $# -lt 3 ]; then echo "usage: tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of tools/test.py]" >&2; exit 2; fi
exec "$(dirname "${BASH_SOURCE[0]}")/distributed.sh" test.py "$3" "$1" "$2" "${@:4}"
