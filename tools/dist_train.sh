#!/usr/bin/env bash
# Train on several GPUs of one machine (or CPU processes): tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]
# NNODES, NODE_RANK, MASTER_ADDR and PORT are read from the environment for several machines.
set -euo pipefail
if [ $# -lt 2 ]; then echo "usage: tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]" >&2; exit 2; fi
exec "$(dirname "${BASH_SOURCE[0]}")/distributed.sh" train.py "$2" "$1" "${@:3}"
