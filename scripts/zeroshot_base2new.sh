#!/bin/sh
# CLIP with hand-written prompts on the base or the new half of the classes; otherwise like zeroshot.sh.
#
#   sh zeroshot_base2new.sh plant6 rn50 3 base
#   sh zeroshot_base2new.sh plant6 rn50 all new
#
# usage: sh zeroshot_base2new.sh DATASET CFG TASK base|new [OPTION ...]

[ ! -h "$0" ] || exec sh "$(readlink -f -- "$0")" "$@" # called by a link
kind='zeroshot base2new'
. "$(dirname -- "$0")/common.sh"
