#!/usr/bin/env bash
# Makes .venv if needed, installs, and runs all tests. Arguments go to pytest: scripts/test.sh -k checkpoint
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
use_environment requirements-dev.txt
cd "$ROOT"
if [ $# -eq 0 ]; then
  set -- -n 2 --dist=loadscope --durations=10
fi
exec python -m pytest "$@"
