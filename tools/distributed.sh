#!/usr/bin/env bash
# Start a tool in several processes: tools/distributed.sh TOOL PROCESSES ARGUMENTS… (used by dist_train.sh, dist_test.sh)
# SIGTERM and SIGUSR1 go on to every process. Exit status: that of the tool (2: bad input, 75: saved, start me again).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tool=$1; processes=$2; shift 2
if ! [[ $processes =~ ^[1-9][0-9]*$ ]]; then echo "error: expected a number of processes, found '$processes'" >&2; exit 2; fi
if [ ! -f "$1" ]; then echo "error: config $1: no such file" >&2; exit 2; fi
python=${PYTHON:-$([ -x "$here/../.venv/bin/python" ] && echo "$here/../.venv/bin/python" || echo python)}
# On a CPU the processes share the cores; torchrun alone would give each a single thread.
if [ -z "${OMP_NUM_THREADS:-}" ]; then
  cores=$(getconf _NPROCESSORS_ONLN); threads=$(( cores / processes ))
  export OMP_NUM_THREADS=$(( threads > 0 ? threads : 1 ))
fi
if [ "${NNODES:-1}" = 1 ]; then place=(--standalone)
elif [ -z "${MASTER_ADDR:-}" ]; then echo "error: NNODES=$NNODES needs MASTER_ADDR" >&2; exit 2
else place=(--nnodes "$NNODES" --node_rank "${NODE_RANK:-0}" --master_addr "$MASTER_ADDR" --master_port "${PORT:-29500}"); fi
# torchrun ends with 1 whatever its processes ended with, and its own answer to SIGTERM would leave them 30 s.
TERRACE_STATUS_FILE=$(mktemp); export TERRACE_STATUS_FILE
trap 'rm -f "$TERRACE_STATUS_FILE"' EXIT
"$python" -m torch.distributed.run "${place[@]}" --nproc_per_node "$processes" "$here/$tool" "$@" --launcher pytorch &
launcher=$!
stopping= interrupted= status=0
pass_on() { for process in $(ps -o pid= --ppid "$launcher"); do kill -USR1 "$process" 2>/dev/null || true; done; }
trap 'stopping=1; pass_on' TERM USR1
trap 'interrupted=1; kill -INT "$launcher" 2>/dev/null || true' INT
while true; do  # a trapped signal ends `wait` early
  wait "$launcher" && status=0 || status=$?
  if ! kill -0 "$launcher" 2>/dev/null; then
    wait "$launcher" 2>/dev/null && own=0 || own=$?  # it may have ended just as a signal came
    if [ "$own" -ne 127 ]; then status=$own; fi
    break
  fi
  if [ -n "$stopping" ]; then sleep 1; pass_on; stopping=; fi  # processes that were not there yet
done
if [ -n "$interrupted" ]; then exit 130; fi
if [ "$status" -ne 0 ] && [ -s "$TERRACE_STATUS_FILE" ]; then status=$(head -n 1 "$TERRACE_STATUS_FILE"); fi
exit "$status"
