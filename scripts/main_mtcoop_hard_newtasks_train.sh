#!/bin/sh
# New tasks, first part: CoOp learns from some tasks of a suite. TASKS is base (the first half), new (the others),
# or their numbers.
#
#   sh main_mtcoop_hard_newtasks_train.sh general10 rn50_ep50 1 16 False False base
#   sh main_mtcoop_hard_newtasks_train.sh general10 rn50_ep50 1 16 False False 0,3,5
#
# usage: sh main_mtcoop_hard_newtasks_train.sh DATASET CFG SHOTS N_CTX CSC TSC TASKS [OPTION ...]

[ ! -h "$0" ] || exec sh "$(readlink -f -- "$0")" "$@" # called by a link
kind='hard newtasks train'
. "$(dirname -- "$0")/common.sh"
