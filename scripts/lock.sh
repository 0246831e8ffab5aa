#!/usr/bin/env bash
# Renews requirements*.txt from requirements*.in: all packages with their dependencies, and the SHA-256 digests of all
# their files for Linux, macOS and Windows. Pins that still fit stay.
#
#   bash scripts/lock.sh                      after a change of requirements*.in
#   bash scripts/lock.sh --upgrade            newest releases that the pins in requirements*.in allow
#
# PYTHON=...           the interpreter that runs uv; otherwise that of .venv
# UV_DEFAULT_INDEX=... another package index than PyPI
set -euo pipefail

[ ! -h "$0" ] || exec bash "$(readlink -f -- "$0")" "$@" # called by a link
root="$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT

"${PYTHON:-.venv/bin/python}" -m venv "$scratch/venv"
"$scratch/venv/bin/python" -m pip install --quiet --disable-pip-version-check uv==0.13.9

lock() { # lock NAME OPTIONS...: NAME.txt from NAME.in
    local name="$1"
    shift
    export UV_CUSTOM_COMPILE_COMMAND="bash scripts/lock.sh"
    "$scratch/venv/bin/uv" pip compile --quiet --no-config --universal --python-version 3.10 --generate-hashes \
        --output-file "$name.txt" "$@" "$name.in"
    printf 'lock: %s.txt holds %s packages\n' "$name" "$(grep -c '^[[:alnum:]]' "$name.txt")"
}

lock requirements "$@"
lock requirements-ray --constraint requirements.txt "$@"
lock requirements-export --constraint requirements.txt "$@"
lock requirements-app --constraint requirements.txt "$@"
lock requirements-browser --constraint requirements-app.txt "$@"
lock requirements-audit "$@"
