#!/bin/sh
# Base to new, first part: CoOp learns from the first half of every task's classes. The test of these runs gives
# the base accuracy.
#
#   sh main_mtcoop_hard_base2new_train.sh general10 rn50_ep50 1 16 False False
#
# usage: sh main_mtcoop_hard_base2new_train.sh DATASET CFG SHOTS N_CTX CSC TSC [OPTION ...]

[ ! -h "$0" ] || exec sh "$(readlink -f -- "$0")" "$@" # called by a link
kind='hard base2new train'
. "$(dirname -- "$0")/common.sh"
