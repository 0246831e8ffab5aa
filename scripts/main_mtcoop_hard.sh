#!/bin/sh
# CoOp with one model for all tasks of a suite.
#
#   sh main_mtcoop_hard.sh general10 rn50_ep50 1 16 False False    # CoOp-MT: one context for everything
#   sh main_mtcoop_hard.sh general10 rn50_ep50 1 16 False True     # one context per task
#   sh main_mtcoop_hard.sh general10 rn50_ep50 1 16 True False     # one context per class
#
# usage: sh main_mtcoop_hard.sh DATASET CFG SHOTS N_CTX CSC TSC [OPTION ...]

[ ! -h "$0" ] || exec sh "$(readlink -f -- "$0")" "$@" # called by a link
kind='hard'
. "$(dirname -- "$0")/common.sh"
