#!/usr/bin/env bash
# Train on a Slurm cluster: tools/slurm_train.sh PARTITION JOB_NAME CONFIG [arguments of tools/train.py]
# GPUS (8), GPUS_PER_NODE (8; 0: CPU processes), CPUS_PER_TASK (5) and SRUN_ARGS are read from the environment.
set -euo pipefail
if [ $# -lt 3 ]; then
  echo "usage: tools/slurm_train.sh PARTITION JOB_NAME CONFIG [arguments of tools/train.py]" >&2; exit 2
fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-$([ -x "$here/../.venv/bin/python" ] && echo "$here/../.venv/bin/python" || echo python)}
gpus=${GPUS:-8}; per_node=${GPUS_PER_NODE:-8}; per_node=$(( gpus < per_node ? gpus : per_node ))
if [ "$per_node" -gt 0 ]; then devices=(--gres=gpu:"$per_node" --ntasks-per-node="$per_node"); else devices=(); fi
# shellcheck disable=SC2086  # SRUN_ARGS is a list
exec srun -p "$1" --job-name="$2" --ntasks="$gpus" "${devices[@]}" \
  --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
  bash -c 'export MASTER_ADDR=${MASTER_ADDR:-$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)}; export MASTER_PORT=${MASTER_PORT:-$((20000 + SLURM_JOB_ID % 20000))}; exec "$@"' _ \
  "$python" -u "$here/train.py" "$3" --launcher slurm "${@:4}"
