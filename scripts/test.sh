#!/usr/bin/env bash
# Makes .venv if needed, installs, and runs all tests. Arguments go to pytest: scripts/test.sh -k checkpoint
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
use_environment requirements-dev.txt
cd "$ROOT"
if [ $# -eq 0 ]; then
  set -- -n 2 --dist=loadfile --no-loadscope-reorder --durations=10  # tests/conftest.py orders the files
fi
exec python -m pytest "$@"
