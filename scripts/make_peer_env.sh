#!/usr/bin/env bash
# Makes an environment for the peers of benchmarks/train_step.py and benchmarks/accelerator.py. Nothing else needs them.
#   scripts/make_peer_env.sh pytorch|jax FOLDER [PACKAGE...]
# Without packages, the ones for processors are installed; for a GPU name others, such as "jax[cuda12]".
set -euo pipefail
name=${1:-} folder=${2:-}
case "$name" in
pytorch) packages=(torch numpy --extra-index-url https://download.pytorch.org/whl/cpu) ;;
jax) packages=(jax) ;;
*)
    folder=""
    ;;
esac
if [[ -z $folder ]]; then
    echo "usage: scripts/make_peer_env.sh pytorch|jax FOLDER [PACKAGE...]" >&2
    exit 2
fi
(($# < 3)) || packages=("${@:3}")
[[ $name == pytorch ]] || packages+=(keras pyyaml)
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet "${packages[@]}"
module=$([[ $name == pytorch ]] && echo torch || echo "$name")
"$folder/bin/python" -c "import $module; print('$name', $module.__version__, 'is in', __import__('sys').prefix)"
