#!/bin/sh
# Cross-data-set transfer and domain generalisation: a method learns all tasks of DATASET at once and is tested on each
# of TARGETS (names in configs/datasets/ with commas between them) with their own class names.
#
#   sh main_transfer.sh CoOp imagenet vit_b16_ep50 16 caltech101,oxford_pets,imagenetv2
#
# usage: sh main_transfer.sh TRAINER DATASET CFG SHOTS TARGETS [OPTION ...]

[ ! -h "$0" ] || exec sh "$(readlink -f -- "$0")" "$@" # called by a link
kind='single transfer'
. "$(dirname -- "$0")/common.sh"
