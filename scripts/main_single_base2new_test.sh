#!/bin/sh
# Base to new, second part: what main_single_base2new_train.sh has learned is tested on the other half of each
# task's classes, with their names. TASKS as in main_single.sh.
#
#   sh main_single_base2new_test.sh CoCoOp general10 rn50_c4_ep10_batch1_ctxv1 16
#
# usage: sh main_single_base2new_test.sh TRAINER DATASET CFG SHOTS [OPTION ...]

[ ! -h "$0" ] || exec sh "$(readlink -f -- "$0")" "$@" # called by a link
. "$(dirname -- "$0")/common.sh"

arguments "TRAINER DATASET CFG SHOTS" "$@"
single "$1" "$2" "$3" "$4"
new_classes
shift 4
find_tasks "$@"
runs "$@"
