#!/usr/bin/env bash
# Sets up .venv, then runs lint, format check, word list, type check and all tests. Arguments go to pytest:
#
#   bash scripts/test.sh
#   bash scripts/test.sh tests/clip -k tokenize
set -uo pipefail

[ ! -h "$0" ] || exec bash "$(readlink -f -- "$0")" "$@" # called by a link
root="$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"
bash "$root/scripts/setup.sh" || exit
cd "$root" || exit

# A process for each core and one thread in each: with small models, more threads only slow each other down.
cores="$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)"
workers="$((cores < 8 ? cores : 8))"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

summary="" failed=0

check() { # check NAME COMMAND...: runs it and notes how it went
    local name="$1" code=0
    shift
    printf '== %s\n' "$name"
    "$@" || code=$?
    if [ "$code" -eq 0 ]; then
        summary="${summary:+$summary, }$name passed"
    else
        summary="${summary:+$summary, }$name FAILED (exit code $code)"
        failed=1
    fi
}

check "ruff check" .venv/bin/python -m ruff check .
check "ruff format" .venv/bin/python -m ruff format --check .
check "words" .venv/bin/python -m scripts.lint.words
check "mypy" .venv/bin/python -m scripts.lint.typecheck
check "pytest" .venv/bin/python -m pytest -n "$workers" --dist loadfile "$@"
printf 'test.sh: %s (%s s)\n' "$summary" "$SECONDS"
exit "$failed"
