#!/usr/bin/env bash
# Install what the checks and tests need, then run all of them.
# Usage: tools/test.sh [pytest arguments]; with arguments only those tests run.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/install.sh

install_packages test
install_python libvirt,test,cinder
PATH=$PWD/.venv/bin:$PATH

if [ $# -gt 0 ]; then
    exec pytest "$@"
fi
say "ruff: style"
ruff check .
ruff format --check .
say "mypy: types"
mypy
say "import-linter: layers"
lint-imports --no-cache
say "sphinx: documentation"
sphinx-build -q -W -b html doc/source "$WORK/doc"
say "parity: Nova's answers on 903 inputs"
python tests/parity/compare.py --adapter tests/parity/adapter.py --show 0
say "pytest: unit tests, parity, then functional tests on a real libvirtd, QEMU and storage"
exec pytest -q tests/unit tests/parity tests/functional
