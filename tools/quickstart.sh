#!/usr/bin/env bash
# From nothing to a page to look at: environment, village, prepared data, training, test, GeoTIFF, report.
#   bash tools/quickstart.sh [DIR]        writes into DIR (default: quickstart/ in the checkout); run again to go on
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
out=$(mkdir -p "${1:-$root/quickstart}" && cd "${1:-$root/quickstart}" && pwd)
config=$root/configs/landcover/ftunetformer-tiny_s0-baseline_village-256.py
started=$SECONDS
step() { printf '\n\033[1m[%s/7] %s\033[0m  (%d s)\n' "$1" "$2" "$((SECONDS - started))"; }

step 1 'environment'
bash "$root/tools/setup_environment.sh"
python=${TERRACE_VENV:-$root/.venv}/bin/python
"$python" "$root/tools/doctor.py" | grep -v '^ok' || true
tool() { "$python" "$root/tools/$1.py" "${@:2}"; }
started=$SECONDS

step 2 'a village, photographed from the air, and another one to predict'
[ -f "$out/village/scene.json" ] || tool scenes make --out "$out/village" --tiles 36 --size 512 --resolution 0.5 --seed 7
[ -f "$out/elsewhere/scene.json" ] || tool scenes make --out "$out/elsewhere" --tiles 1 --size 1600 --resolution 0.5 --seed 8

step 3 'prepare: check every pair, remap, split by blocks of ground'
[ -f "$out/data/manifest.json" ] || tool landcover/prepare "$out/village" --layout village --out "$out/data" \
  --split-by blocks --block-size 512 --ratios 0.7 0.15 0.15
tool landcover/prepare "$out/data" --check

step 4 'train the tiny network'
checkpoint() { ls -t "$out"/run/best_mIoU_iter_*.pth 2>/dev/null | head -n 1; }
if [ ! -f "$out/run/trained" ]; then
  tool train "$config" --work-dir "$out/run" --resume --cfg-options "data_root=$out/data"
  touch "$out/run/trained"
fi

step 5 'test on ground that was never seen'
tool test "$config" "$(checkpoint)" --work-dir "$out/run" --show-dir "$out/gallery" --cfg-options "data_root=$out/data"

step 6 'predict a GeoTIFF'
tool predict "$config" "$(checkpoint)" "$out"/elsewhere/images/*.tif --out "$out/prediction" --overwrite \
  --window 256 --overlap 64 --overlay --polygons --areas --cfg-options "data_root=$out/data"

step 7 'report'
tool report "$out/run" --out "$out/report.html" --gallery "$out/gallery" --manifest "$out/data/manifest.json" \
  --figure "Predicted GeoTIFF (another village)=$(ls "$out"/prediction/*_overlay.tif | head -n 1)"
printf '\nDone in %d s without the installation. Open %s\n' "$((SECONDS - started))" "$out/report.html"
