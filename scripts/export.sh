#!/usr/bin/env bash
# Exports a trained model as a frozen graph and a SavedModel, and compares both with it.
#   scripts/export.sh runs/mine [more flags of deeplab/export_model.py]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
use_environment
RUN="${1:?usage: scripts/export.sh RUN_DIR [flags]}"

python "$ROOT/deeplab/export_model.py" \
  --checkpoint_path="$RUN/train" \
  --export_path="$RUN/export/frozen_inference_graph.pb" \
  "${@:2}"
