#!/bin/sh
# LP-CLIP: a logistic regression on frozen image features, for the tasks 0 to LAST_TASK of a suite one by one, or for
# all tasks in one run (all), on the same few-shot images as all other methods. SHOTS="1 16" replaces the numbers of
# shots 1 2 4 8 16.
#
#   sh linearprob.sh general10 rn50 9
#   sh linearprob.sh plant6 rn50 5
#   sh linearprob.sh rs8 rn50 7
#   sh linearprob.sh fashion20 rn50 19
#   sh linearprob.sh general10 rn50 all
#
# usage: sh linearprob.sh DATASET CFG LAST_TASK [OPTION ...]

[ ! -h "$0" ] || exec sh "$(readlink -f -- "$0")" "$@" # called by a link
kind='linearprob'
. "$(dirname -- "$0")/common.sh"
