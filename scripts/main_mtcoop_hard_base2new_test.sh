#!/bin/sh
# Base to new, second part: what main_mtcoop_hard_base2new_train.sh has learned is tested on the other half of every
# task's classes, with their names. The last epoch is evaluated, or the one of the option --load-epoch N.
#
#   sh main_mtcoop_hard_base2new_test.sh general10 rn50_ep50 1 16 False False
#
# usage: sh main_mtcoop_hard_base2new_test.sh DATASET CFG SHOTS N_CTX CSC TSC [OPTION ...]

[ ! -h "$0" ] || exec sh "$(readlink -f -- "$0")" "$@" # called by a link
kind='hard base2new test'
. "$(dirname -- "$0")/common.sh"
