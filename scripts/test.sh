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
exec .venv/bin/pytest "$@"
