#!/usr/bin/env bash
# Train on a Slurm cluster: tools/slurm_train.sh PARTITION JOB_NAME CONFIG [arguments of tools/train.py]
# GPUS (8), GPUS_PER_NODE (8; 0: CPU processes), CPUS_PER_TASK (5) and SRUN_ARGS are read from the environment.
# A training that is told to leave (SIGUSR1 or SIGTERM, for example by --signal=USR1@120 in SRUN_ARGS) saves and ends with
# status 75. In a batch job (sbatch --requeue) the job is then requeued, else the training is submitted again; both
# go on from the newest checkpoint.
set -euo pipefail
if [ $# -lt 3 ]; then
  echo "usage: tools/slurm_train.sh PARTITION JOB_NAME CONFIG [arguments of tools/train.py]" >&2; exit 2
fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-$([ -x "$here/../.venv/bin/python" ] && echo "$here/../.venv/bin/python" || echo python)}
gpus=${GPUS:-8}; per_node=${GPUS_PER_NODE:-8}; per_node=$(( gpus < per_node ? gpus : per_node ))
if [ "$per_node" -gt 0 ]; then devices=(--gres=gpu:"$per_node" --ntasks-per-node="$per_node"); else devices=(); fi
partition=$1; name=$2; config=$3; shift 3
requeued=${SLURM_RESTART_COUNT:-0}
# Slurm ends with the highest status of all tasks and kills the others with the first that is not 0. So 75 is written
# down (where all nodes see it) and 0 is what Slurm gets.
export TERRACE_REQUEUE_STATUS=0
TERRACE_STATUS_FILE=$(mktemp "$PWD/.slurm_status.XXXXXX"); export TERRACE_STATUS_FILE
trap 'rm -f "$TERRACE_STATUS_FILE"' EXIT
train() {
  # shellcheck disable=SC2086  # SRUN_ARGS is a list
  srun -p "$partition" --job-name="$name" --ntasks="$gpus" "${devices[@]}" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    bash -c 'export MASTER_ADDR=${MASTER_ADDR:-$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)}; export MASTER_PORT=${MASTER_PORT:-$((20000 + SLURM_JOB_ID % 20000))}; exec "$@"' _ \
    "$python" -u "$here/train.py" "$config" --launcher slurm "$@" || return $?
  if grep -qx 75 "$TERRACE_STATUS_FILE"; then return 75; fi
}
status=0
if [ "$requeued" -gt 0 ]; then train "$@" --resume auto || status=$?; else train "$@" || status=$?; fi
while [ "$status" -eq 75 ]; do
  status=0
  if [ -n "${SLURM_JOB_ID:-}" ]; then
    echo "$name: saved; requeueing job $SLURM_JOB_ID" >&2
    scontrol requeue "$SLURM_JOB_ID"; exit
  fi
  echo "$name: saved; submitting it again" >&2
  : > "$TERRACE_STATUS_FILE"
  train "$@" --resume auto || status=$?
done
exit "$status"
