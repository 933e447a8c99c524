# Sourced by demo.sh, lab.sh and test.sh: what they need from Debian and PyPI, into
# the machine and into .venv of this clone.  Both are kept and reused.

say() { printf '\n== %s\n' "$*"; }

# The packages of bindep.txt that belong to one of the given profiles or to
# none.  bindep itself cannot be had before there is a virtual environment.
packages() {
    awk -v wanted=" $* " '
        /^[[:space:]]*(#|$)/ { next }
        {
            profile = ""
            if (match($0, /\[[^]]*\]/)) {
                count = split(substr($0, RSTART + 1, RLENGTH - 2), words, " ")
                for (i = 1; i <= count; i++)
                    if (words[i] !~ /^platform:/) profile = profile " " words[i]
            }
            if (profile == "") { print $1; next }
            count = split(profile, words, " ")
            for (i = 1; i <= count; i++)
                if (index(wanted, " " words[i] " ")) { print $1; next }
        }' bindep.txt
}

install_packages() {
    local missing=() name
    for name in $(packages "$@"); do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] ||
            missing+=("$name")
    done
    [ ${#missing[@]} -eq 0 ] && { echo "Debian packages: all there"; return; }
    if [ "$(id -u)" != 0 ]; then
        echo "These Debian packages are missing; run as root, or install them: ${missing[*]}" >&2
        exit 3
    fi
    say "Debian packages: installing ${#missing[@]} (${missing[*]})"
    mkdir -p "$WORK"
    if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y \
            --no-install-recommends "${missing[@]}"; } >"$WORK/apt.log" 2>&1; then
        tail -n 20 "$WORK/apt.log" >&2
        exit 3
    fi
}

# install_python EXTRAS: this clone, editable, with the extras it names.
install_python() {
    local stamp want
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        { echo "Python 3.11 or newer is needed" >&2; exit 3; }
    if ! .venv/bin/python -c '' 2>/dev/null; then
        say "Python: making .venv"
        # tox leaves a file of this name that leads to one of its environments.
        [ -d .venv ] || rm -f .venv
        python3 -m venv --clear .venv
    fi
    stamp=.venv/installed-$1
    want=$(cat requirements.txt setup.cfg pyproject.toml | sha256sum)
    if [ "$(cat "$stamp" 2>/dev/null)" != "$want" ]; then
        say "Python: installing volumedrivers[$1] into .venv (libvirt-python is built from source)"
        if ! .venv/bin/pip install --disable-pip-version-check -e ".[$1]" >"$WORK/pip.log" 2>&1; then
            tail -n 20 "$WORK/pip.log" >&2
            exit 3
        fi
        echo "$want" >"$stamp"
    else
        echo "Python packages: all there"
    fi
}

# What all checks and tests need, those of the lab as well.
EXTRAS=libvirt,test,cinder,nova,novatest

WORK=${TMPDIR:-/tmp}/volumedrivers-$(id -u)
mkdir -p -m 0700 "$WORK"
