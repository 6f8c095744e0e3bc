#!/usr/bin/env bash
# Makes a Python 3.7 environment with TensorFlow 1.15, against which the tests check checkpoints, records and
# frozen graphs. Called again it only looks whether the environment is sound; two calls at once wait for each other.
#
#   bash scripts/make_tf1_env.sh [folder]      (default: .venv-tf1 in the repository)
#
# The tests (tests/tf1) call it on first use, unless DEEPLAB_TF1_PYTHON names a python with TensorFlow 1.15.
# Prints the environment's python on standard output. Exit codes: 0 ready, 1 failed, 2 the folder is in use for
# something else, 3 no Python 3.7 found.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
folder="${1:-$root/.venv-tf1}"
packages=("tensorflow==1.15.*" "numpy<1.19" "protobuf<3.21")
marker="$folder/.tensorflow-1.15" # ours; holds the packages once they are all installed

say() { echo "make_tf1_env: $*" >&2; }

is_python37() { "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, 7))' 2>/dev/null; }

# Candidates, one a line: PATH, pyenv's versions, uv's. A python3.7 of pyenv on PATH may be a shim that fails,
# therefore each is tried.
candidates() {
    command -v python3.7 || true
    local place
    for place in "$(pyenv root 2>/dev/null || true)" "${PYENV_ROOT:-}" "$HOME/.pyenv"; do
        if [[ -n $place ]]; then compgen -G "$place/versions/3.7*/bin/python3.7" | sort -rV || true; fi
    done
    uv python find --no-project 3.7 2>/dev/null || true
}

find_python37() {
    local python
    while read -r python; do
        if is_python37 "$python"; then
            echo "$python"
            return
        fi
    done < <(candidates)
    return 1
}

is_ready() {
    [[ -f $marker && "$(cat "$marker")" == "${packages[*]}" ]] && "$folder/bin/python" - <<'PYTHON' 2>/dev/null
import importlib.util, sys
sys.exit(any(importlib.util.find_spec(name) is None for name in ("tensorflow", "tensorflow_core", "numpy", "google.protobuf")))
PYTHON
}

is_ours_or_empty() { [[ -f $marker || -z "$(ls -A "$folder")" ]]; }

if is_ready; then
    echo "$folder/bin/python"
    exit 0
fi
if [[ -e $folder ]] && ! [[ -d $folder ]]; then
    say "$folder is a file; give another folder"
    exit 2
fi
if ! python="$(find_python37)"; then
    say "no Python 3.7 found (looked on PATH, in pyenv's versions and at uv's). TensorFlow 1.15 needs one:"
    say "  pyenv install 3.7    or    uv python install 3.7"
    exit 3
fi

mkdir -p "$folder"
exec 9<"$folder"
if command -v flock >/dev/null && ! flock --nonblock 9; then
    say "another call is making $folder; waiting for it"
    flock 9
fi
if is_ready; then # the call that was waited for has made it
    echo "$folder/bin/python"
    exit 0
fi
if ! is_ours_or_empty; then
    say "$folder holds other things than a TensorFlow 1.15 environment; they are left alone. Give another folder."
    exit 2
fi

say "making $folder with $python (a minute or two)"
echo "not finished" >"$marker"
find "$folder" -mindepth 1 -maxdepth 1 ! -path "$marker" -exec rm -rf {} +
"$python" -m venv "$folder"
if ! "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "${packages[@]}" >&2; then
    say "pip could not install ${packages[*]}; see above"
    exit 1
fi
if ! version="$("$folder/bin/python" -c 'import tensorflow as tf; print(tf.__version__)' 2>/dev/null)"; then
    say "TensorFlow 1.15 was installed but does not import; try: $folder/bin/python -c 'import tensorflow'"
    exit 1
fi
echo "${packages[*]}" >"$marker"
say "TensorFlow $version is ready"
echo "$folder/bin/python"
