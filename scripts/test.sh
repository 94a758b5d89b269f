#!/usr/bin/env bash
# Install the assistant with its test tools into .venv, fetch the weights, run the tests.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
make_environment -e ".[dev]"
.venv/bin/assistant weights pull || echo "no weights: the tests that need them will skip" >&2
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
[ $# -eq 0 ] || exec .venv/bin/pytest "$@"
# Two at a time, each with a core of its own; but one by one what listens in real time, or measures the machine.
OMP_NUM_THREADS=1 .venv/bin/pytest -n 2 --dist loadfile -m "not microphone and not slow"
exec .venv/bin/pytest -m "microphone or slow"
