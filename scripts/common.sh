# Shared by the experiment scripts: the folders of set_env.sh, and the start of launch.py, which does the rest. A script
# sets kind, its method and protocol, and sources this file; its usage line names its arguments.
# shellcheck shell=sh disable=SC2154

set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
checkout=${here%/*}
set -a # what set_env.sh sets is for launch.py
# shellcheck source=set_env.sh
. "$here/set_env.sh"
RUN_FOLDER_BY='TAG or OUTPUT' # what a message of train.py advises in place of --output-dir
PYTHONPATH=$checkout${PYTHONPATH:+:$PYTHONPATH}
set +a

command -v "$PYTHON" >/dev/null || {
    printf '%s: %s\n' "${0##*/}" "PYTHON=$PYTHON cannot be run; name an interpreter, or let scripts/setup.sh make .venv" >&2
    exit 2
}
exec "$PYTHON" "$here/launch.py" "$here/${0##*/}" "$kind" "$@"
