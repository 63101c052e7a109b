#!/usr/bin/env bash
# From nothing to a page to look at: environment, villages, prepared data, the chain of stages, a GeoTIFF, a report.
#   bash tools/quickstart.sh [DIR]        writes into DIR (default: quickstart/ in the checkout); run again to go on
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
out=$(mkdir -p "${1:-$root/quickstart}" && cd "${1:-$root/quickstart}" && pwd)
configs=$root/configs/landcover
started=$SECONDS
step() { printf '\n\033[1m[%s/6] %s\033[0m  (%d s)\n' "$1" "$2" "$((SECONDS - started))"; }

step 1 'environment'
bash "$root/tools/setup_environment.sh"
python=${TERRACE_VENV:-$root/.venv}/bin/python
"$python" "$root/tools/doctor.py" | grep -v '^ok' || true
tool() { "$python" "$root/tools/$1.py" "${@:2}"; }
started=$SECONDS

step 2 'three villages, photographed from the air: one to learn, one to learn more from, one to predict'
village() { [ -f "$out/$1/scene.json" ] || tool scenes make --out "$out/$1" --resolution 0.5 "${@:2}"; }
village village --tiles 36 --size 512 --seed 7
village neighbour --tiles 12 --size 512 --seed 9
village elsewhere --tiles 1 --size 1600 --seed 8

step 3 'prepare: check every pair, remap, split by blocks of ground'
[ -f "$out/data/manifest.json" ] || tool landcover/prepare "$out/village" --layout village --out "$out/data" \
  --split-by blocks --block-size 512 --ratios 0.7 0.15 0.15
[ -f "$out/more/manifest.json" ] || tool landcover/prepare "$out/neighbour" --layout village --out "$out/more" \
  --split-by groups --ratios 1 0 0
tool landcover/prepare "$out/data" --check

step 4 'the chain: baseline, pretrain, fine-tune, distil with hard samples, ensemble'
tool run_stages "$configs/chain_quickstart.py" --work-dir "$out/chain" --set "target=$out/data" "source=$out/more"

step 5 'predict a GeoTIFF with the ensemble'
best() { ls -t "$out/chain/$1"/best_mIoU_iter_*.pth | head -n 1; }
tool predict "$configs/ftunetformer-tiny_s2-finetune_village-256.py" "$(best baseline)" "$out"/elsewhere/images/*.tif \
  --also "$(best distil)" --ensemble "$out/chain/fit/ensemble.json" --out "$out/prediction" --overwrite \
  --window 256 --overlap 64 --overlay --uncertainty --polygons --areas --cfg-options "data_root=$out/data"

step 6 'report'
tool report "$out"/chain/{baseline,pretrain,finetune,distil} --out "$out/report.html" --manifest "$out/data/manifest.json" \
  --figure "Predicted GeoTIFF (another village)=$(ls "$out"/prediction/*_overlay.tif | head -n 1)"
printf '\nDone in %d s without the installation. Open %s\n' "$((SECONDS - started))" "$out/report.html"
