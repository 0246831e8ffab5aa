#!/bin/sh
# SoftCPT on all tasks of a suite.
#
#   sh main_mtcoop.sh general10 rn50_ep50 1 0 False 4 False 16 False lin 1    # NATA
#   sh main_mtcoop.sh general10 rn50_ep50 1 0 False 4 True 16 False lin 1     # NATS
#   sh main_mtcoop.sh plant6 rn50_ep50 1 4 False 4 False 16 True lin 1        # CATA
#
# usage: sh main_mtcoop.sh DATASET CFG SHOTS CLASS_N_CTX CLASS_CSC TASK_N_CTX TASK_CSC N_CTX CSC PG_TYPE PG_RATIO [OPTION ...]

[ ! -h "$0" ] || exec sh "$(readlink -f -- "$0")" "$@" # called by a link
kind='softcpt'
. "$(dirname -- "$0")/common.sh"
