#!/bin/sh
# Install the main environment from its lock: `install.sh SOURCE PREFIX`. The image runs this, and so
# do the tests. With `--dry-run` as third argument, uv resolves everything and installs nothing.
set -eu
source=$1 prefix=$2 dry=${3:-}
uv venv --quiet --python 3.11 "$prefix"
python=$prefix/bin/python
# Every package is in the lock, with its checksum; nothing is resolved anew.
uv pip install --python "$python" --no-deps --require-hashes -r "$source/requirements.lock" $dry
# The library, for its metadata and the command `esr`; PYTHONPATH=src puts the checkout's code first.
uv pip install --python "$python" --no-deps "$source" $dry
test -n "$dry" || "$python" -c "import esr, pygraphviz, sae_lens, snakemake, torch, transformers"
