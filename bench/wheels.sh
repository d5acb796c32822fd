#!/usr/bin/env bash
# A wheel for each system and CPU, cross-compiled with ziglang; each is tried where that can be done here, or looked at.
#   pip install ziglang; bench/wheels.sh [FOLDER] [--bed FOLDER] [--only manylinux_2_17_aarch64]
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${PYTHON:-python3}" -m bench.wheels "$@"
