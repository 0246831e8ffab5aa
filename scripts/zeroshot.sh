#!/bin/sh
# CLIP with hand-written prompts, on one task of a suite (TASK is its number, from 0) or on the whole suite in one run
# (all). METHOD=ZeroshotCLIP2 uses several prompts for each class instead of one.
#
#   sh zeroshot.sh plant6 rn50 3
#   METHOD=ZeroshotCLIP2 sh zeroshot.sh plant6 rn50 all
#
# usage: sh zeroshot.sh DATASET CFG TASK [OPTION ...]

[ ! -h "$0" ] || exec sh "$(readlink -f -- "$0")" "$@" # called by a link
kind='zeroshot'
. "$(dirname -- "$0")/common.sh"
