#!/usr/bin/env bash
# Build, run and look into the lab: every protocol on a real kernel with real storage.
# Usage: tools/lab.sh build|up|run [PATTERN] [pytest options]|shell [COMMAND]|logs|down|clean
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/install.sh

case "${1:-}" in
build | up | run)
    # What they say is of interest only where something is missing.
    install_packages lab >&2
    install_python "$EXTRAS" >&2
    ;;
esac
exec .venv/bin/python -m tests.lab.vm.commands "$@"
