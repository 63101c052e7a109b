#!/usr/bin/env bash
# Set up, then run the tests: bash tools/run_tests.sh [arguments of pytest]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bash "$root/tools/setup_environment.sh"
cd "$root"
exec "${TERRACE_VENV:-$root/.venv}/bin/python" -m pytest "$@"
