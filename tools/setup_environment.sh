#!/usr/bin/env bash
# Make a virtual environment with everything Terrace needs, or reuse the one that is there.
#   tools/setup_environment.sh            makes .venv in the checkout (TERRACE_VENV=DIR: elsewhere)
# Torch is the CUDA build where nvidia-smi works, else the CPU build. PyPI has no CPU build for Linux: give PyTorch's
# own index (from its "Get started" page) as TERRACE_TORCH_INDEX, or pip falls back to the larger CUDA build.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${TERRACE_VENV:-$root/.venv}
wanted=$(cat "$root"/requirements/*.txt "$root/setup.cfg" "$root/pyproject.toml" | cksum | cut -d' ' -f1)-$root
if [ -x "$venv/bin/python" ] && [ "$(cat "$venv/terrace" 2>/dev/null)" = "$wanted" ]; then exit 0; fi

fitting() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null; }
if [ ! -x "$venv/bin/python" ]; then
  python=
  for candidate in "${PYTHON:-}" python3 python3.12 python3.11 python; do
    if [ -n "$candidate" ] && fitting "$candidate"; then python=$candidate; break; fi
  done
  if [ -z "$python" ]; then
    echo "error: no Python 3.11 or 3.12 found; install one, or name it: PYTHON=/path/to/python3.11 bash $0" >&2; exit 2
  fi
  echo "environment: $("$python" --version) in ${venv/#$root\//}"
  "$python" -m venv "$venv"
elif ! fitting "$venv/bin/python"; then
  echo "error: $venv holds another Python than 3.11 or 3.12; remove it and run this again" >&2; exit 2
fi
rm -f "$venv/terrace"
pip() { "$venv/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }

echo "environment: torch"
constraints=(-c "$root/requirements/constraints.txt")
torch=$(sed -n 's/^torch==//p' "$root/requirements/constraints.txt")
if ! "$venv/bin/python" -c "import torch, sys; sys.exit(torch.__version__.split('+')[0] != '$torch')" 2>/dev/null; then
  if command -v nvidia-smi >/dev/null && nvidia-smi >/dev/null 2>&1; then
    pip install "${constraints[@]}" "torch==$torch"
  else
    pip install "${constraints[@]}" ${TERRACE_TORCH_INDEX:+--extra-index-url "$TERRACE_TORCH_INDEX"} "torch==$torch+cpu" 2>/dev/null || {
      echo "environment: no CPU build of torch in reach (see TERRACE_TORCH_INDEX in this script): taking PyPI's"
      pip install "${constraints[@]}" "torch==$torch"
    }
  fi
fi
echo "environment: packages"
pip install "${constraints[@]}" setuptools -r "$root/requirements/runtime.txt" -r "$root/requirements/geo.txt" \
  -r "$root/requirements/cluster.txt" -r "$root/requirements/tracking.txt" -r "$root/requirements/export.txt" -r "$root/requirements/review.txt" \
  -r "$root/requirements/tests.txt"
pip install --no-deps --no-build-isolation -e "$root"
printf %s "$wanted" > "$venv/terrace"
