#!/usr/bin/env bash
# Install what the checks and tests need, then run all of them.
# Usage: tools/test.sh [--all | --long] [pytest arguments]
#   without arguments: all checks, the short matrix of the lab, and all tests that are
#     not marked "long"
#   --all: the same, and the long tests as well; --long: only those, no checks
#   with arguments for pytest: only the tests that they name, no checks
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/install.sh

install_packages test lab
install_python "$EXTRAS"
PATH=$PWD/.venv/bin:$PATH
# Else each of some hundred processes that the tests start compiles the package again.
unset PYTHONDONTWRITEBYTECODE

which=(-m 'not long')
case "${1:-}" in
--all) which=() && shift ;;
--long) which=(-m long) && shift ;;
*) [ $# -eq 0 ] || exec pytest "$@" ;;
esac
status=0
if [ "${which[*]}" != '-m long' ]; then
    # It downloads, and takes one processor: the checks have the other one meanwhile.
    tools/lab.sh build >"$WORK/lab-build.log" 2>&1 &
    lab=$!
    trap 'kill "$lab" 2>/dev/null || true' EXIT
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
    say "lab: a machine with real storage, built beside the checks"
    wait "$lab" || { status=$?; cat "$WORK/lab-build.log"; exit "$status"; }
    trap - EXIT
    cat "$WORK/lab-build.log"
    say "lab: every protocol once on a real kernel"
    tools/lab.sh run --short --machines 2 --again || status=$?
fi
say "pytest: unit tests, parity, and a real libvirtd, QEMU, Cinder and storage"
# Most tests wait for others half of their time, so that more run than there are
# processors.  A process takes a file as a whole; those that last longest come first.
export PYTEST_XDIST_AUTO_NUM_WORKERS=$(($(nproc) + 1))
code=0
pytest -q -n auto --dist loadfile --no-loadscope-reorder "${which[@]}" "$@" \
    tests/functional tests/unit tests/parity || code=$?
if [ "$code" = 1 ]; then
    # Daemons and guests that run by the hundred on two processors are late now and then; a
    # test that fails twice, the second time alone, fails.
    say "pytest: what failed, once more and one after the other"
    pytest -q --last-failed --last-failed-no-failures none --maxfail 1 "${which[@]}" "$@" \
        tests/functional tests/unit tests/parity && code=0
fi
[ "$code" = 0 ] || status=$code
exit "$status"
