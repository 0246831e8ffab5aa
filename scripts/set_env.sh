# Folders and seeds, read by the scripts in this folder. Edit the values at the end of a line, or set an environment
# variable of the same name, which takes precedence.
#
#   DATA    folder that holds the data folders (default: YOUR_DATA_PATH if that is set, else data/ of the checkout)
#   OUTPUT  folder that holds all runs (default: output/ of the checkout)
#   PYTHON  interpreter (default: .venv/bin/python of the checkout if it is there, else python3)
#   SEEDS   seeds of the runs (default: 1 2 3)
#   TAG     added to the folder names of the runs, to separate runs with other options (default: nothing)
# shellcheck shell=sh disable=SC2034

: "${DATA:=${YOUR_DATA_PATH:-}}" # what the released scripts call it
: "${DATA:=$checkout/data}"
: "${OUTPUT:=$checkout/output}"
: "${SEEDS:=1 2 3}"
: "${TAG:=}"
if [ -z "${PYTHON:-}" ]; then
    PYTHON=python3
    [ ! -x "$checkout/.venv/bin/python" ] || PYTHON=$checkout/.venv/bin/python
fi
