#!/bin/sh
# MVLPT's second stage: METHOD (MCoOp, MVPT or MUPT) learns each task of DATASET by itself, from the mean over SEEDS of
# what main_mvlpt_source.sh with the same arguments has learned.
#
#   sh main_mvlpt_target.sh MCoOp plant6 vit_b16_ep200 16 others
#
# usage: sh main_mvlpt_target.sh METHOD DATASET CFG SHOTS SOURCE [OPTION ...]

[ ! -h "$0" ] || exec sh "$(readlink -f -- "$0")" "$@" # called by a link
kind='mvlpt target'
. "$(dirname -- "$0")/common.sh"
