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
say "pytest: with a real Cinder; beside it unit tests, parity, and a real libvirtd, QEMU and storage"
# Each waits half of its time for others, and there are two processors at least.
rest=$WORK/pytest.log
pytest -q tests/unit tests/parity tests/functional --ignore=tests/functional/cinder \
    >"$rest" 2>&1 &
others=$!
trap 'kill "$others" 2>/dev/null' INT TERM
status=0
pytest -q tests/functional/cinder || status=$?
say "pytest: the other tests"
wait $others || status=$?
cat "$rest"
exit $status
