#!/usr/bin/env bash
# Sets up .venv, then trains and compares the methods on the embedded demo suite and prints the table.
# `bash scripts/demo.sh --help` lists the options; relative paths start at the root of this checkout.
set -euo pipefail

[ ! -h "$0" ] || exec bash "$(readlink -f -- "$0")" "$@" # called by a link
root="$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"
bash "$root/scripts/setup.sh"
cd "$root"
exec .venv/bin/python -m scripts.demo "$@"
