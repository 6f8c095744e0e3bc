#!/usr/bin/env bash
# From nothing to a model: installs into .venv, generates 600 portraits with hair, skin and background, and makes a
# model of them by one command, `deeplab fit`, which prints every command that it runs. Takes some minutes on two
# processor cores, after the installation; downloads packages only. A second run resumes after a stop.
# OUT=folder chooses the folder of the results (default: runs/quickstart); COUNT and STEPS make it shorter.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
use_environment
cd "$ROOT"
OUT="${OUT:-runs/quickstart}"
DATA="$OUT/data"

if [ ! -e "$DATA/lists" ]; then
  say "generates portraits, with masks in colors"
  python -m deeplab.data.sample_dataset --output_dir="$DATA" --count="${COUNT:-600}"
fi

say "makes a model: records, check, training from scratch, evaluation, export"
python -m deeplab fit "$DATA/images" "$DATA/color_masks" --palette=datasets/lfw_parts.palette --output="$OUT/model" \
  --tf_initial_checkpoint= --training_number_of_steps="${STEPS:-1600}" --eval_every=400 --random_seed=0 \
  --depth_multiplier=0.5 --train_crop_size=129,129 --max_scale_factor=1.25 --label_weights=1,1,1 --augmentation=none \
  --formats=frozen_graph,saved_model

say "predicts one image with the frozen graph"
IMAGE="$(find "$DATA/images" -name '*.jpg' | sort | tail -n 1)"
python -m deeplab predict --model="$OUT/model/export/frozen_inference_graph.pb" --input="$IMAGE" \
  --output_dir="$OUT/predicted" --overwrite

say "done: how the model does on $((${COUNT:-600} / 5)) portraits that it has not seen"
python - "$OUT/model/eval/metrics.json" <<'END'
import json, sys

metrics = json.load(open(sys.argv[1]))
for one in metrics["classes"]:
    print(f"  {one['name']:<12} IoU {one['iou']:.3f}")
print(f"  {'mean':<12} IoU {metrics['mean_iou']:.3f}")
END
cat <<END

Look at:
  $OUT/model/check.html                 what the records contain: class frequencies, sizes, samples
  $OUT/model/eval                       plots, metrics.json, per_image.csv
  $OUT/predicted/overlay                one image, predicted with the frozen graph
Try it in the browser:  deeplab serve --model=$OUT/model/export/frozen_inference_graph.pb
                        (needs pip install -e '.[serve]')
Training curves:        tensorboard --logdir=$OUT/model
The commands are in $VENV/bin: source $VENV/bin/activate
END
