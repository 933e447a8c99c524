#!/usr/bin/env bash
# Install what the checks and tests need, then run all of them.
# Usage: tools/test.sh [--all | --long] [pytest arguments]
#   without arguments: all checks, and all tests that are not marked "long"
#   --all: the checks, and the long tests as well; --long: only those, no checks
#   with arguments for pytest: only the tests that they name, no checks
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/install.sh

install_packages test
install_python libvirt,test,cinder
PATH=$PWD/.venv/bin:$PATH
# Else each of some hundred processes that the tests start compiles the package again.
unset PYTHONDONTWRITEBYTECODE

which=(-m 'not long')
case "${1:-}" in
--all) which=() && shift ;;
--long) which=(-m long) && shift ;;
*) [ $# -eq 0 ] || exec pytest "$@" ;;
esac
if [ "${which[*]}" != '-m long' ]; then
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
fi
say "pytest: unit tests, parity, and a real libvirtd, QEMU, Cinder and storage"
# Most tests wait for others half of their time, so that more run than there are
# processors.  A process takes a file as a whole; those that last longest come first.
export PYTEST_XDIST_AUTO_NUM_WORKERS=$(($(nproc) + 1))
exec pytest -q -n auto --dist loadfile --no-loadscope-reorder "${which[@]}" "$@" \
    tests/functional tests/unit tests/parity
