#!/bin/sh
# Base to new, first part: a method that is trained task by task learns from the first half of each task's
# classes. TASKS as in main_single.sh.
#
#   sh main_single_base2new_train.sh CoCoOp general10 rn50_c4_ep10_batch1_ctxv1 16
#
# usage: sh main_single_base2new_train.sh TRAINER DATASET CFG SHOTS [OPTION ...]

[ ! -h "$0" ] || exec sh "$(readlink -f -- "$0")" "$@" # called by a link
kind='single base2new train'
. "$(dirname -- "$0")/common.sh"
