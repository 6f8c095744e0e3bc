# Shared by the scripts in this folder: `source` it. Makes .venv once, installs the project into it, and puts it on PATH.
# VENV=folder chooses another environment; DEEPLAB_PYTHON_READY=1 uses the python that is on PATH as it is.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="${VENV:-$ROOT/.venv}"

say() { printf '\n== %s\n' "$*"; }

find_python() {
  local name
  for name in python3 python3.13 python3.12 python3.11; do
    if command -v "$name" >/dev/null && "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
      echo "$name"
      return
    fi
  done
  echo "error: Python 3.11 to 3.13 is needed; none of python3, python3.13, python3.12 and python3.11 has such a version" >&2
  return 1
}

# use_environment [requirements.txt]: installs the project and the given requirements, if they changed.
use_environment() {
  if [ "${DEEPLAB_PYTHON_READY:-}" = 1 ]; then return; fi
  local requirements="${1:-requirements.txt}" python stamp
  stamp="$VENV/.installed-$(cat "$ROOT"/requirements*.txt "$ROOT/setup.py" | cksum | cut -d' ' -f1)-$requirements"
  if [ ! -e "$stamp" ]; then
    python="$(find_python)"
    say "installing into $VENV (once, a minute or two)"
    # An environment that is not complete has no pip; --clear starts it from scratch.
    [ -x "$VENV/bin/pip" ] || "$python" -m venv --clear "$VENV"
    "$VENV/bin/pip" install --quiet --disable-pip-version-check -r "$ROOT/$requirements"
    "$VENV/bin/pip" install --quiet --disable-pip-version-check --no-deps -e "$ROOT"
    touch "$stamp"
  fi
  export PATH="$VENV/bin:$PATH"
}
