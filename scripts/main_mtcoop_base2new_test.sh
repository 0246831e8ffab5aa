#!/bin/sh
# Base to new, second part: what main_mtcoop_base2new_train.sh has learned is tested on the other half of every
# task's classes, with their names. The last epoch is evaluated, or the one of the option --load-epoch N.
#
#   sh main_mtcoop_base2new_test.sh general10 rn50_ep50 1 0 False 4 False 16 False lin 1
#
# usage: sh main_mtcoop_base2new_test.sh DATASET CFG SHOTS CLASS_N_CTX CLASS_CSC TASK_N_CTX TASK_CSC N_CTX CSC PG_TYPE PG_RATIO [OPTION ...]

[ ! -h "$0" ] || exec sh "$(readlink -f -- "$0")" "$@" # called by a link
kind='softcpt base2new test'
. "$(dirname -- "$0")/common.sh"
