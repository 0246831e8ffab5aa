#!/bin/sh
# SoftCPT on all tasks of a suite; a training step scores only a share of the classes that are not in the batch.
#
#   sh main_mtcoop_cls_sample.sh general10 rn50_ep50 1 4 False 4 False 16 True lin 1 0.1    # CATA
#   sh main_mtcoop_cls_sample.sh general10 rn50_ep50 1 4 True 4 False 16 True lin 1 0.1     # CSTA
#   sh main_mtcoop_cls_sample.sh general10 rn50_ep50 1 4 False 4 True 16 True lin 1 0.1     # CATS
#   sh main_mtcoop_cls_sample.sh general10 rn50_ep50 1 4 True 4 True 16 True lin 1 0.1      # CSTS
#
# usage: sh main_mtcoop_cls_sample.sh DATASET CFG SHOTS CLASS_N_CTX CLASS_CSC TASK_N_CTX TASK_CSC N_CTX CSC PG_TYPE PG_RATIO CLS_SAMPLE_RATE [OPTION ...]

[ ! -h "$0" ] || exec sh "$(readlink -f -- "$0")" "$@" # called by a link
kind='softcpt'
. "$(dirname -- "$0")/common.sh"
