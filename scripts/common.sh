# Sourced by start.sh and test.sh: a virtual environment in .venv with the program in it.

fail() { echo "$1" >&2; exit 1; }

make_environment() {
    python=${PYTHON:-python3}
    command -v "$python" >/dev/null || fail "Python 3.11 or newer is needed; on Debian: sudo apt-get install python3 python3-venv"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "Python 3.11 or newer is needed; set PYTHON=python3.12, for example"
    if [ ! -x .venv/bin/pip ]; then
        "$python" -m venv .venv || fail "cannot make a virtual environment; on Debian: sudo apt-get install python3-venv"
    fi
    echo "installing into .venv (a few minutes the first time)" >&2
    .venv/bin/pip install --quiet --disable-pip-version-check "$@" 2> >(grep -v "^WARNING: Location" >&2)
}
