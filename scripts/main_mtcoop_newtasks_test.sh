#!/bin/sh
# New tasks, second part: what main_mtcoop_newtasks_train.sh has learned from TASKS is tested on all other tasks of
# the suite.
#
#   sh main_mtcoop_newtasks_test.sh general10 rn50_ep50 1 0 False 4 False 16 False lin 1 base
#
# usage: sh main_mtcoop_newtasks_test.sh DATASET CFG SHOTS CLASS_N_CTX CLASS_CSC TASK_N_CTX TASK_CSC N_CTX CSC PG_TYPE PG_RATIO TASKS [OPTION ...]

[ ! -h "$0" ] || exec sh "$(readlink -f -- "$0")" "$@" # called by a link
kind='softcpt newtasks test'
. "$(dirname -- "$0")/common.sh"
