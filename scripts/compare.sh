#!/usr/bin/env bash
# Compares all methods on your own tasks and says which one to take: data check, runs, tables, one page.
# `bash scripts/compare.sh --help` lists the options.
set -euo pipefail

[ ! -h "$0" ] || exec bash "$(readlink -f -- "$0")" "$@" # called by a link
root="$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"
bash "$root/scripts/setup.sh"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
exec "$root/.venv/bin/python" -m scripts.compare "$@"
