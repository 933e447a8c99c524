#!/usr/bin/env bash
# Install what is needed, then attach real volumes to a real guest and show it.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/install.sh

install_packages demo
install_python libvirt,cinder
exec .venv/bin/python tools/demo.py "$@"
