#!/usr/bin/env bash
# From nothing to a frozen graph: installs into .venv, generates 200 portraits with hair, skin and background, builds
# records, trains MobileNetV2, evaluates, draws, exports, and predicts with the frozen graph. Takes less than ten
# minutes on two processor cores; downloads packages only. OUT=folder chooses the folder of the results (default:
# runs/quickstart).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
use_environment
cd "$ROOT"
OUT="${OUT:-runs/quickstart}"
DATA="$OUT/data"
if [ -e "$OUT" ]; then
  KEPT="$OUT.$(date +%Y%m%d-%H%M%S)"
  mv "$OUT" "$KEPT"
  echo "the earlier results are kept in $KEPT"
fi

say "1/8 generates portraits, with masks in colors"
python -m deeplab.data.sample_dataset --output_dir="$DATA" --count=200

say "2/8 converts the colors to class indices"
python datasets/convert_color_masks.py --mask_folder="$DATA/color_masks" --palette=datasets/lfw_parts.palette \
  --output_dir="$DATA/masks"

say "3/8 builds TFRecords, and checks them"
printf 'background\nhair\nskin\n' >"$DATA/class_names.txt"
python datasets/build_voc2012_data.py --image_folder="$DATA/images" --semantic_segmentation_folder="$DATA/masks" \
  --list_folder="$DATA/lists" --image_format=jpg --output_dir="$DATA/tfrecord" --class_names="$DATA/class_names.txt" \
  --check=false
python deeplab/check_data.py --dataset_dir="$DATA/tfrecord" --html="$OUT/data.html"

say "4/8 trains MobileNetV2 from scratch (three to five minutes)"
python deeplab/train.py --dataset_dir="$DATA/tfrecord" --train_logdir="$OUT/train" --model_variant=mobilenet_v2 \
  --depth_multiplier=0.5 --output_stride=16 --train_crop_size=161,161 --train_batch_size=8 \
  --min_scale_factor=0.5 --max_scale_factor=1.25 --label_weights=1,10,5 \
  --optimizer=adam --adam_learning_rate=0.002 --training_number_of_steps=1500 --log_steps=50 --random_seed=0

say "5/8 evaluates each class"
python deeplab/eval.py --dataset_dir="$DATA/tfrecord" --checkpoint_dir="$OUT/train" --eval_logdir="$OUT/eval" |
  tee "$OUT/evaluation.txt"

say "6/8 draws predictions"
python deeplab/vis.py --dataset_dir="$DATA/tfrecord" --checkpoint_dir="$OUT/train" --vis_logdir="$OUT/vis"

say "7/8 exports the frozen graph"
python deeplab/export_model.py --checkpoint_path="$OUT/train" --export_path="$OUT/export/frozen_inference_graph.pb"

say "8/8 predicts one image with the frozen graph"
IMAGE="$DATA/images/$(head -n 1 "$DATA/lists/val.txt").jpg"
python deeplab/predict.py --model="$OUT/export/frozen_inference_graph.pb" --input="$IMAGE" --output_dir="$OUT/predicted"

say "done: how the model does on 40 portraits that it has not seen"
sed -n '/^class /,/^frequency/p' "$OUT/evaluation.txt"
cat <<END

Look at:
  $OUT/data.html                  what the records contain: class frequencies, sizes, samples
  $OUT/vis/image_grid.png         images, predictions, labels
  $OUT/eval/confusion_matrix.png  which class is predicted as which
  $OUT/eval/class_iou.png         IoU per class
  $OUT/predicted                  one image, predicted with the frozen graph
Training curves: $VENV/bin/tensorboard --logdir=$OUT
END
