#!/usr/bin/env bash
# Make the environment of the workflow, with the versions of constraints.txt, in a directory:
#   container/install.sh DIRECTORY [cuda|cpu]
# The container images are made by it; it needs Python 3.11 or later and nothing of this machine.
set -euo pipefail

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    echo "error: $# arguments, expected: install.sh DIRECTORY [cuda|cpu]" >&2
    exit 2
fi
case ${2:-cuda} in
    cuda) index=() ;;
    # PyTorch's own index has the builds without CUDA: 5 GB less.
    cpu) index=(--extra-index-url "${TORCH_CPU_INDEX:-https://download.pytorch.org/whl/cpu}") ;;
    *)
        echo "error: variant '$2', expected cuda or cpu" >&2
        exit 2
        ;;
esac
if [ -n "$(ls -A "$1" 2>/dev/null)" ]; then
    echo "error: $1 is not empty; give another directory" >&2
    exit 2
fi

# pip builds where the sources are, which may be read-only.
sources=$(mktemp -d)
trap 'rm -rf "$sources"' EXIT
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cp -R "$here"/{constraints.txt,flowgmm,LICENSE,pyproject.toml,README.md} "$sources"

"${PYTHON:-python3}" -m venv "$1"
"$1/bin/python" -m pip install --no-cache-dir -c "$sources/constraints.txt" "${index[@]}" \
    "$sources[workflow,encoders]"
