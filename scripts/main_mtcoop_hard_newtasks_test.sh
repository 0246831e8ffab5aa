#!/bin/sh
# New tasks, second part: what main_mtcoop_hard_newtasks_train.sh has learned from TASKS is tested on all other tasks of
# the suite.
#
#   sh main_mtcoop_hard_newtasks_test.sh general10 rn50_ep50 1 16 False False base
#
# usage: sh main_mtcoop_hard_newtasks_test.sh DATASET CFG SHOTS N_CTX CSC TSC TASKS [OPTION ...]

[ ! -h "$0" ] || exec sh "$(readlink -f -- "$0")" "$@" # called by a link
kind='hard newtasks test'
. "$(dirname -- "$0")/common.sh"
