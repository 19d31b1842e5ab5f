#!/usr/bin/env bash
# Proves the arrows between the crates and what else scripts/check_layers.py lists; the check is checked first.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python3 -B scripts/check_layers_selftest.py
python3 -B scripts/check_layers.py
