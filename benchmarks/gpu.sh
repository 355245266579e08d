#!/bin/sh
# Five minutes on a machine with a GPU: do its maps agree with the CPU's, and how fast are attend, train and recompose?
# Run it in the repository's folder, with a Python that has SLIM and its demo's packages: PYTHON=.venv/bin/python sh benchmarks/gpu.sh
set -e
PYTHON=${PYTHON:-python3}
DATA=${1:-runs/gpu-data}
if [ ! -f "$DATA/metadata.csv" ]; then
    "$PYTHON" -c "import slim; slim.compose_demo('$DATA', seed=0)"
fi
"$PYTHON" benchmarks/gpu.py "$DATA"
