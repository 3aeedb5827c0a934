#!/usr/bin/env bash
# Measures everything that needs a GPU, cheapest first, within eight minutes. Results are in FOLDER/results.jsonl and
# FOLDER/results.md after every step; a second call with the same folder measures what is still missing.
#
#   experiments/benchmarks/on_a_gpu.sh --folder FOLDER
#
# The library need not be installed; its dependencies must be. PYTHON is the interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHON="${PYTHON:-python3}" PYTHONUNBUFFERED=1
exec "$PYTHON" -m experiments.benchmarks.on_a_gpu "$@"
