#!/bin/sh
# Base to new, second part: what main_single_base2new_train.sh has learned is tested on the other half of each
# task's classes, with their names. TASKS as in main_single.sh.
#
#   sh main_single_base2new_test.sh CoCoOp general10 rn50_c4_ep10_batch1_ctxv1 16
#
# usage: sh main_single_base2new_test.sh TRAINER DATASET CFG SHOTS [OPTION ...]

[ ! -h "$0" ] || exec sh "$(readlink -f -- "$0")" "$@" # called by a link
kind='single base2new test'
. "$(dirname -- "$0")/common.sh"
