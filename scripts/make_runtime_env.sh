#!/usr/bin/env bash
# Makes an environment with a runtime for exported files that is large, or conflicts with other packages: OpenVINO with
# NNCF, MNN, Core ML's converter, MediaPipe (which replaces OpenCV), and onnxruntime-node. The tests of these formats skip
# where the runtime is missing.
#
#   bash scripts/make_runtime_env.sh openvino|mnn|coreml|exports [folder]
#       a Python environment that sees the packages of the python on PATH, and has the extra on top (exports: all three)
#   bash scripts/make_runtime_env.sh mediapipe [folder]
#       a Python environment of its own, with MediaPipe alone
#   bash scripts/make_runtime_env.sh node [folder]
#       a folder with node_modules
#
# The folder is .venv-NAME in the repository by default. Prints the command that runs the tests with it.
# Exit codes: 0 ready, 1 failed, 2 wrong arguments or the folder is in use for something else.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
name="${1:-}"
folder="${2:-$root/.venv-$name}"
marker="$folder/.deeplab-runtime" # ours; holds the name once everything is installed
litert="ai-edge-litert"

case "$name" in
openvino) packages=("tf2onnx" "onnx" "openvino" "nncf") tests="openvino" ;;
mnn) packages=("tf2onnx" "onnx" "onnxruntime" "MNN") tests="mnn" ;;
coreml) packages=("coremltools") tests="coreml" ;;
exports) packages=("tf2onnx" "onnx" "onnxruntime" "openvino" "nncf" "MNN" "coremltools" "$litert") tests="openvino or mnn or coreml" ;;
mediapipe) packages=("mediapipe") ;;
node) ;;
*)
    echo "usage: make_runtime_env.sh openvino|mnn|coreml|exports|mediapipe|node [folder]" >&2
    exit 2
    ;;
esac

if [[ -e $folder && ! -e $marker && -n "$(ls -A "$folder" 2>/dev/null)" ]]; then
    echo "make_runtime_env: $folder is in use for something else; give another folder" >&2
    exit 2
fi

if [[ "$(cat "$marker" 2>/dev/null)" != "$name" ]]; then
    mkdir -p "$folder"
    : >"$marker"
    if [[ $name == node ]]; then
        # Its install script would fetch CUDA libraries; what runs on processors is in the package.
        npm install --prefix "$folder" --ignore-scripts --no-audit --no-fund onnxruntime-node >&2
    else
        python3 -m venv "$folder"
        if [[ $name != mediapipe ]]; then
            site="$(python3 -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')"
            echo "$site" >"$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')/shared.pth"
        fi
        "$folder/bin/python" -m pip install --quiet "${packages[@]}" >&2
    fi
    echo "$name" >"$marker"
fi

case "$name" in
mediapipe) echo "DEEPLAB_MEDIAPIPE_PYTHON=$folder/bin/python python3 -m pytest tests/deeplab/export/formats/test_mediapipe.py" ;;
node) echo "DEEPLAB_NODE_MODULES=$folder/node_modules python3 -m pytest tests/test_examples.py -k node" ;;
*) echo "$folder/bin/python -m pytest tests/deeplab/export tests/deeplab/inference/runtimes tests/test_examples.py -k '$tests'" ;;
esac
