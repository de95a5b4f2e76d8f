#!/usr/bin/env bash
# Check that the compiled pipeline is up to date, build every kustomization and every combination of components
# (combinations.yaml), and judge each object: its schema (unknown fields refused; CRDs from FAIRLEAD_CRDS, default
# shared/crds beside the checkout), restricted pod security, images by digest, secrets, labels, probes, limits, and
# whether Argo CD would see a difference for ever.
#   PYTHON    an interpreter with fairlead's `dev` requirements, default .venv/bin/python or python3
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
[ -x "$python" ] || python=$(command -v python3)
PYTHONPATH=src:. exec "$python" -m manifests.validation "${1:-manifests}" "${FAIRLEAD_CRDS:-../shared/crds}"
