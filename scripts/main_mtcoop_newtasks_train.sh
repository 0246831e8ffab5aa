#!/bin/sh
# New tasks, first part: SoftCPT learns from some tasks of a suite. TASKS is base (the first half), new (the others),
# or their numbers.
#
#   sh main_mtcoop_newtasks_train.sh general10 rn50_ep50 1 0 False 4 False 16 False lin 1 base
#   sh main_mtcoop_newtasks_train.sh general10 rn50_ep50 1 0 False 4 False 16 False lin 1 0,3,5
#
# usage: sh main_mtcoop_newtasks_train.sh DATASET CFG SHOTS CLASS_N_CTX CLASS_CSC TASK_N_CTX TASK_CSC N_CTX CSC PG_TYPE PG_RATIO TASKS [OPTION ...]

[ ! -h "$0" ] || exec sh "$(readlink -f -- "$0")" "$@" # called by a link
kind='softcpt newtasks train'
. "$(dirname -- "$0")/common.sh"
