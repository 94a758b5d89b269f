#!/usr/bin/env bash
# Install the assistant into .venv, fetch the weights, answer about the example recordings, open the live screen.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
make_environment -e .
exec .venv/bin/assistant demo "$@"
