#!/bin/sh
# Base to new, first part: SoftCPT learns from the first half of every task's classes. The test of these runs gives
# the base accuracy.
#
#   sh main_mtcoop_base2new_train.sh general10 rn50_ep50 1 0 False 4 False 16 False lin 1
#
# usage: sh main_mtcoop_base2new_train.sh DATASET CFG SHOTS CLASS_N_CTX CLASS_CSC TASK_N_CTX TASK_CSC N_CTX CSC PG_TYPE PG_RATIO [OPTION ...]

[ ! -h "$0" ] || exec sh "$(readlink -f -- "$0")" "$@" # called by a link
kind='softcpt base2new train'
. "$(dirname -- "$0")/common.sh"
