#!/bin/sh
# Measure, on a machine with one GPU, all that this project could not measure on a CPU: at most
# 8 minutes, no network, no installation. Needs Python with PyTorch and transformers; vLLM where it
# is installed. Makes gpu_session.json and gpu_session.md.
#
#     sh benchmarks/gpu_session.sh [FOLDER]
set -eu
cd "$(dirname "$0")/.."
folder=${1:-results/gpu_session}
python=python3
for candidate in .venv/bin/python python3; do
    if "$candidate" -c "import sys, torch; sys.exit(not torch.cuda.is_available())" 2>/dev/null; then
        python=$candidate
        break
    fi
done
exec env PYTHONPATH=src HF_HUB_OFFLINE=1 timeout 510 \
    "$python" benchmarks/gpu_session.py --folder "$folder" --minutes 8
