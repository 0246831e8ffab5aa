#!/bin/sh
# MVLPT's first stage: METHOD (MCoOp, MVPT or MUPT) learns source tasks together, once for each of SEEDS. SOURCE is
# another suite, or others: for each task of DATASET all its other tasks. main_mvlpt_target.sh with the same arguments is
# the second stage.
#
#   sh main_mvlpt_source.sh MCoOp plant6 vit_b16_ep200 16 others
#   sh main_mvlpt_source.sh MCoOp plant6 vit_b16_ep200 16 general10
#
# usage: sh main_mvlpt_source.sh METHOD DATASET CFG SHOTS SOURCE [OPTION ...]

[ ! -h "$0" ] || exec sh "$(readlink -f -- "$0")" "$@" # called by a link
kind='mvlpt source'
. "$(dirname -- "$0")/common.sh"
