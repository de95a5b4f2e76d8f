#!/usr/bin/env bash
# Check that the compiled manifests are up to date, and validate every object of every kustomization
# strictly against the CRD schemas in FAIRLEAD_CRDS (default: shared/crds beside the checkout).
#   PYTHON    an interpreter with fairlead's `dev` requirements, default .venv/bin/python or python3
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
[ -x "$python" ] || python=$(command -v python3)
PYTHONPATH=src:. exec "$python" manifests/validate.py "${1:-manifests}" "${FAIRLEAD_CRDS:-../shared/crds}"
