#!/usr/bin/env bash
# Makes or updates the virtual environment .venv of this checkout from requirements.txt. Does nothing if it is current.
# pip checks every download, torch and its CUDA libraries included, against the digests in that file.
#
#   bash scripts/setup.sh
#
# PYTHON=...         the interpreter to use; otherwise the first suitable one of python3.12, python3.11, ...
# SETUP_FREE_GB=...  free disk space required before an install, in GB
# SETUP_HASHES=off   the pins of requirements.in without digests: for an index with its own builds, such as PyTorch's
#                    (+cpu, +cu130), whose files differ from PyPI's of the same release
#
# Exit codes: 0 ready, 2 a problem that the user can solve, explained in one line.
set -euo pipefail

[ ! -h "$0" ] || exec bash "$(readlink -f -- "$0")" "$@" # called by a link
root="$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"
venv="$root/.venv"
lockfile="$root/requirements.txt"
requirements="$lockfile"
checked=(--require-hashes)
state="$venv/.setup-state" # "installing", later the fingerprint of what was installed
scratch="$venv/.setup-tmp" # pip unpacks here: /tmp is often too small for torch
log="$venv/setup.log"
newest_minor=14 # the newest 3.x that the pinned packages support
range="3.10 to 3.$newest_minor"
unset PYTHONHOME PYTHONPATH # they would mix foreign packages into the environment
if [ "${SETUP_HASHES:-}" = off ]; then requirements="$root/requirements.in" checked=(--no-input); fi

say() { printf 'setup: %s\n' "$*" >&2; }

die() {
    say "$@"
    exit 2
}

# Prints "MAJOR MINOR yes|no" for an interpreter (yes: it can make virtual environments); fails if it cannot be run.
# The code must also run in Python 2.
probe() {
    "$1" -c '
import sys
try:
    import ensurepip, venv
    able = "yes"
except ImportError:
    able = "no"
print("%d %d %s" % (sys.version_info[0], sys.version_info[1], able))' 2>/dev/null
}

supported() { # supported MAJOR MINOR
    [ "$1" = 3 ] && [ "$2" -ge 10 ] && [ "$2" -le "$newest_minor" ]
}

# Sets `python` to the first suitable interpreter, or says what is wrong with those found.
find_python() {
    local name major minor able seen="" unable=""
    local names=(python3.12 python3.11 python3.10 python3.13 python3.14 python3 python)
    [ -z "${PYTHON:-}" ] || names=("$PYTHON")
    for name in "${names[@]}"; do
        read -r major minor able < <(probe "$name") || continue
        if ! supported "$major" "$minor"; then
            seen="${seen:+$seen, }$name is $major.$minor"
        elif [ "$able" = no ]; then
            unable="${unable:-$major.$minor}"
        else
            python="$name"
            return
        fi
    done
    if [ -n "$unable" ]; then
        die "Python $unable cannot make virtual environments: install its venv module (Debian, Ubuntu: apt install python$unable-venv) and start again"
    elif [ -n "$seen" ]; then
        die "Python $range is needed, but $seen: install a suitable one, or name it with PYTHON=/path/to/python3"
    elif [ -n "${PYTHON:-}" ]; then
        die "PYTHON=$PYTHON cannot be run: give the path of a Python $range"
    fi
    die "no Python found: install Python $range, or name it with PYTHON=/path/to/python3"
}

# Prints the version of the environment's interpreter and the digest of the requirements.
fingerprint() {
    "$venv/bin/python" -I -c '
import hashlib, pathlib, sys
print("%d.%d" % sys.version_info[:2], hashlib.sha256(pathlib.Path(sys.argv[1]).read_bytes()).hexdigest())
' "$requirements" 2>/dev/null
}

# True if the environment's interpreter has the version that the user requested with PYTHON.
right_version() {
    local major minor
    [ -n "${PYTHON:-}" ] || return 0
    read -r major minor _ < <(probe "$PYTHON") && [ "$(fingerprint | cut -d ' ' -f 1)" = "$major.$minor" ]
}

up_to_date() {
    local found
    found="$(fingerprint)" && [ "$found" = "$(cat "$state" 2>/dev/null)" ] && right_version
}

# Waits until no other set-up of this checkout is running. Descriptor 9 holds the lock, which ends with this process.
lock() {
    exec 9<"$lockfile"
    "$python" -I -c '
import fcntl, sys
try:
    fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("setup: another set-up of this checkout is running, waiting for it", file=sys.stderr, flush=True)
    fcntl.flock(9, fcntl.LOCK_EX)
except OSError:
    pass  # a file system without locks
'
}

# True if .venv can be updated without starting over.
usable() {
    local major minor
    [ "$(cat "$state" 2>/dev/null)" != installing ] && read -r major minor _ < <(probe "$venv/bin/python") &&
        supported "$major" "$minor" && right_version && "$venv/bin/python" -I -m pip --version >/dev/null 2>&1
}

# Refuses to replace a .venv that this script has not made.
check_ours() {
    [ ! -d "$venv" ] || [ -f "$state" ] || [ -z "$(ls -A "$venv")" ] || usable ||
        die "$venv does not serve (no Python $range with pip) and was not made by this script: move it away and start again"
}

# Requires space for the unpacked packages (5.2 GB) and the downloads (2.7 GB); on Linux torch includes its CUDA
# libraries. The size of .venv counts as free space. If space is tight, pip does not cache the downloads.
check_disk() {
    local need="${SETUP_FREE_GB:-}" free have=0
    if [ -z "$need" ]; then
        if [ "$(uname -s)" = Linux ]; then need=9; else need=3; fi
        [ ! -d "$venv" ] || have=$(($(du -sk "$venv" | cut -f 1) / 1048576))
        need=$((need > have + 1 ? need - have : 1))
    fi
    free=$(df -Pk "$root" | awk 'NR == 2 { print int($4 / 1048576) }')
    [ "$free" -ge "$need" ] ||
        die "only $free GB free on the disk of $root, the set-up needs $need GB: make room and start again (SETUP_FREE_GB=N requires less)"
    [ "$free" -ge $((need + 3)) ] || export PIP_NO_CACHE_DIR=1
}

# Shows pip's output as a few lines: large downloads, the phases, and a progress line every 20 seconds.
show_progress() {
    local line="" code phase="finding packages" beat=(-t 20)
    [ "${BASH_VERSINFO[0]}" -ge 4 ] || beat=(-d $'\n') # older ones report a time-out like the end of the output
    while true; do
        code=0
        IFS= read -r "${beat[@]}" line || code=$?
        if [ "$code" -gt 128 ]; then
            say "${SECONDS} s: $phase, .venv holds $(du -sm "$venv" 2>/dev/null | cut -f 1) MB"
            continue
        fi
        [ "$code" -eq 0 ] || return 0
        case "$line" in
        Collecting*) phase="finding and downloading packages (now ${line#Collecting })" ;;
        *Downloading*" MB)"* | *"Using cached"*" MB)"*) announce_large "$line" ;;
        "Installing collected"*) phase="unpacking packages" && say "${SECONDS} s: unpacking" ;;
        esac
    done
}

# Prints the download lines of 100 MB and more.
announce_large() {
    local name="${1##*/}" size="${1##*(}"
    name="${name##* Downloading }" name="${name##* Using cached }"
    size="${size%%[. ]*}"
    [ "$size" -lt 100 ] || say "${SECONDS} s: ${name%%-*} ($size MB)"
}

# Prints the first package whose file has another digest.
mismatched() {
    sed -n '/DO NOT MATCH THE HASHES/,$ s/^ *\([A-Za-z0-9._-]*==[^ ]*\) from .*/\1/p' "$log" | sed 1q
}

# Explains in one line why pip failed.
explain() {
    local why
    if grep -qiE 'no space left|disk quota exceeded|errno 28\b' "$log"; then
        why="the disk is full: make room and start again"
    elif grep -qiE 'certificate_verify|certificate verify|sslerror' "$log"; then
        why="the package index does not pass the certificate check: set PIP_CERT or check proxy and clock"
    elif grep -qiE 'connection broken|newconnection|failed to establish|name resolution|name or service|timed out|max retries|proxyerror' "$log"; then
        why="the package index cannot be reached: check the network, a proxy, or PIP_INDEX_URL, and start again"
    elif grep -q 'DO NOT MATCH THE HASHES' "$log"; then
        why="a file from the package index is not the one that requirements.txt names ($(mismatched)): use PyPI or a true copy of it (PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS), or accept the files of your index with SETUP_HASHES=off"
    elif grep -q 'No matching distribution' "$log"; then
        why="the package index has no $(sed -n 's/.*No matching distribution found for //p' "$log" | tail -n 1) for this machine and Python"
    elif grep -qi 'permission denied' "$log"; then
        why="no permission to write $venv"
    else
        why="$(grep -i error "$log" | tail -n 1 || true)"
        why="pip stopped: ${why:-perhaps the memory was too small}"
    fi
    die "$why (pip's whole output: $log)"
}

make_environment() {
    local output
    say "making $venv with $("$python" -V 2>&1): on Linux about 3 GB to download, 5 GB on the disk, 2 to 5 minutes"
    rm -rf "$venv"
    mkdir "$venv" && printf 'installing\n' >"$state" || exit 2
    output="$("$python" -m venv "$venv" 2>&1)" ||
        die "making the virtual environment failed: ${output##*$'\n'}"
}

# Runs if the set-up ends early. An environment that pip has not begun to change keeps its state; any other one is made
# again next time.
abandon() {
    rm -rf "$scratch"
    if grep -q '^Installing collected' "$log"; then return; fi
    rm -f "$state"
    [ -z "$before" ] || printf '%s\n' "$before" >"$state"
}

install_packages() {
    local output
    before="$(cat "$state" 2>/dev/null || true)"
    : >"$log"
    trap abandon EXIT
    printf 'installing\n' >"$state"
    mkdir -p "$scratch"
    say "installing the packages of ${requirements##*/} (details in $log)"
    if ! TMPDIR="$scratch" PIP_USER=0 PYTHONUNBUFFERED=1 "$venv/bin/python" -I -m pip install --no-input --disable-pip-version-check \
        --progress-bar off "${checked[@]}" -r "$requirements" 2>&1 | tee "$log" | show_progress; then
        explain
    fi
    output="$("$venv/bin/python" -I -c 'import torch, torchvision' 2>&1)" || die "torch does not start: ${output##*$'\n'}"
    rm -rf "$scratch"
    fingerprint >"$state.new" && mv "$state.new" "$state"
    trap - EXIT
}

main() {
    if up_to_date; then return; fi
    find_python
    lock
    if up_to_date; then return; fi
    check_ours
    check_disk
    usable || make_environment
    install_packages
    say "ready after $SECONDS s ($(du -sm "$venv" | cut -f 1) MB in .venv)"
}

main
