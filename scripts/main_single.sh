#!/bin/sh
# A method that is trained task by task: one run for each task of a suite and each seed. TASKS="0 3" chooses
# tasks; by default all. The table program averages over the tasks. TASKS=all makes one run of the whole suite.
#
#   sh main_single.sh CoOp general10 rn50 16                            # CoOp-CA; rn50_ep50 for 1 shot, rn50_ep100 for 2 and 4
#   sh main_single.sh CoOp general10 rn50 16 TRAINER.COOP.CSC True      # CoOp-CS
#   TASKS="0 1" sh main_single.sh KgCoOp plant6 rn50_ep100 4
#   TASKS=all sh main_single.sh ProtoNet general10 rn50 16
#
# usage: sh main_single.sh TRAINER DATASET CFG SHOTS [OPTION ...]

[ ! -h "$0" ] || exec sh "$(readlink -f -- "$0")" "$@" # called by a link
kind='single'
. "$(dirname -- "$0")/common.sh"
