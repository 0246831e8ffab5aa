# What the experiment scripts share. A script checks its arguments, sets trainer, dataset, cfg, shots, setting (the
# method's name in folders) and keys (KEY VALUE pairs for train.py), and calls runs.
#
# A run lies in OUTPUT/<dataset>/[<protocol>/]<Trainer>/<cfg>_<shots>shots/<setting>[/task<t>]/seed<k>. It is left alone
# when command.txt there says that the same command made its results.json, and nothing that the result depends on is
# newer. In all other cases train.py decides: it starts, goes on, leaves alone, or refuses a folder of another config.
# shellcheck shell=sh disable=SC2034

set -euf # no patterns of file names: $keys and $SEEDS are lists of words

script=${0##*/}
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
checkout=${here%/*}
# shellcheck source=set_env.sh
. "$here/set_env.sh"
export RUN_FOLDER_BY='TAG or OUTPUT' # what a message of train.py advises in the place of --output-dir

protocol='' # part of the folder: base2new/base, base2new/new, newtasks/<tasks>/seen, newtasks/<tasks>/unseen
task_argument='' # what says the numbers of the tasks
asked_tasks='' # the numbers that are said, and may not be there
trained='' # protocol of the runs that an evaluation reads
each_task='' # numbers of the tasks, where a method runs task by task
keys=''
softcpt_arguments="DATASET CFG SHOTS CLASS_N_CTX CLASS_CSC TASK_N_CTX TASK_CSC N_CTX CSC PG_TYPE PG_RATIO"
hard_arguments="DATASET CFG SHOTS N_CTX CSC TSC"

# ---- what is said -------------------------------------------------------------------------------------------------

stop() { # a mistake that has nothing to do with the arguments
    printf '%s: %s\n' "$script" "$*" >&2
    exit 2
}

fail() { # a mistake in the arguments
    printf '%s: %s\n' "$script" "$*" >&2
    sed -n 's/^# \(usage: \)/\1/p' "$here/$script" >&2
    exit 2
}

show_help() { # the comment at the top of the script, then that of set_env.sh
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$here/$script"
    printf '%s\n' '' 'Options are those of train.py: flags such as --backbone RN101, then KEY VALUE pairs.' \
        'The first run that fails ends the script with its exit code; the same command goes on from there.' \
        'Finished runs are skipped. Variables:' ''
    sed -n 's/^#  //p' "$here/set_env.sh"
    exit 0
}

# ---- checks of arguments ------------------------------------------------------------------------------------------

arguments() { # arguments "NAME NAME ..." "$@": answers -h; none is missing, and what follows are options of train.py
    names=$1
    shift
    case ${1-} in -h | --help) show_help ;; esac
    for name in $names; do
        [ $# -gt 0 ] || fail "argument $name is missing"
        shift
    done
    [ $# -eq 0 ] || case $1 in
    -?* | [A-Z]*) ;;
    *) fail "'$1' is one argument too many; options for train.py are flags or KEY VALUE pairs" ;;
    esac
    for word; do
        case ${word%%=*} in
        --config-file | --dataset-config-file | --trainer | TRAINER.NAME | --eval-only | --model-dir)
            fail "${word%%=*} is set by this script; leave it out" ;;
        --seed | SEED) fail "seeds are given as SEEDS=\"1 2 3\", not with ${word%%=*}" ;;
        --output-dir | OUTPUT_DIR) fail "the folder of all runs is given as OUTPUT=DIR, not with ${word%%=*}" ;;
        esac
    done
}

whole() { # whole NAME VALUE [LEAST]
    case $2 in
    '' | *[!0-9]* | 0?* | ??????????*) fail "$1 must be a whole number, not '$2'" ;;
    esac
    [ "$2" -ge "${3:-0}" ] || fail "$1 must be at least $3, not $2"
}

numbers() { # numbers NAME "VALUE VALUE ..."
    case $2 in *[!\ ]*) ;; *) fail "$1 must be whole numbers with blanks between them, not '$2'" ;; esac
    for value in $2; do whole "$1" "$value"; done
}

number() { # number NAME VALUE
    case $2 in
    '' | . | *[!0-9.]* | *.*.*) fail "$1 must be a number, not '$2'" ;;
    esac
}

truth() { # truth NAME VALUE
    case $2 in
    True | False) ;;
    *) fail "$1 must be True or False, not '$2'" ;;
    esac
}

one_of() { # one_of NAME VALUE "CHOICE CHOICE ..."
    case " $3 " in
    *" $2 "*) [ -z "$2" ] || return 0 ;;
    esac
    fail "$1 must be one of $3, not '$2'"
}

plain() { # plain NAME VALUE: may stand in the name of a folder
    case $2 in
    '' | [!A-Za-z0-9]* | *[!A-Za-z0-9._+-]*) fail "$1 must be a name of letters, digits and . _ + -, not '$2'" ;;
    esac
}

names() { # names FOLDER TEST...: what lies in it and passes the test of find
    inside=$1
    shift
    find "$checkout/$inside" -mindepth 1 "$@" | sed 's|.*/| |; s|\.yaml$||' | LC_ALL=C sort | tr -d '\n'
}

listed() { # listed NAME VALUE FOLDER: FOLDER has VALUE.yaml
    [ -d "$checkout/$3" ] || stop "there is no folder $checkout/$3"
    plain "$1" "$2"
    [ -f "$checkout/$3/$2.yaml" ] ||
        fail "$1 '$2' has no file $3/$2.yaml; there are:$(names "$3" -name '*.yaml')"
}

learns() { # shots of a method that learns
    whole SHOTS "$shots" 1
    keys="DATASET.NUM_SHOTS $shots"
}

check_run() { # dataset and cfg of the trainer, and the variables
    listed DATASET "$dataset" configs/datasets
    listed CFG "$cfg" "configs/trainers/$trainer"
    numbers SEEDS "$SEEDS"
    [ -z "$TAG" ] || plain TAG "$TAG"
    command -v "$PYTHON" >/dev/null ||
        stop "PYTHON=$PYTHON cannot be run; name an interpreter, or let scripts/setup.sh make .venv"
}

# ---- methods ------------------------------------------------------------------------------------------------------

named() { # named KEY VALUE STANDARD: what is not as in the paper stands in the folder's name
    [ "$2" = "$3" ] || setting=$setting-$1=$2
}

softcpt() { # softcpt ARGUMENT...: those of softcpt_arguments
    trainer=MTCoOp dataset=$1 cfg=$2 shots=$3
    check_run
    learns
    whole CLASS_N_CTX "$4"
    truth CLASS_CSC "$5"
    whole TASK_N_CTX "$6"
    truth TASK_CSC "$7"
    whole N_CTX "$8" 1
    truth CSC "$9"
    one_of PG_TYPE "${10}" "lin linmean lincls"
    number PG_RATIO "${11}" # of old commands; nothing has ever read it
    case $9$5 in
    FalseFalse) setting=NA ;;
    TrueFalse) setting=CA ;;
    TrueTrue) setting=CS ;;
    FalseTrue) fail "CLASS_CSC is True but CSC is False, so there are no class prompts; make both True or both False" ;;
    esac
    case $7 in
    False) setting=${setting}TA ;;
    True) setting=${setting}TS ;;
    esac
    keys="$keys TRAINER.MTCOOP.TASK_N_CTX $6 TRAINER.MTCOOP.TASK_CSC $7 TRAINER.MTCOOP.N_CTX $8 TRAINER.MTCOOP.CSC $9"
    keys="$keys TRAINER.MTCOOP.PG_TYPE ${10}"
    named N_CTX "$8" 16
    named TASK_N_CTX "$6" 4
    if [ "$9" = True ]; then
        keys="$keys TRAINER.MTCOOP.CLASS_N_CTX $4 TRAINER.MTCOOP.CLASS_CSC $5"
        named CLASS_N_CTX "$4" 4
    fi
    named PG_TYPE "${10}" lin
    paper_rate=0
    [ "$dataset$9" != general10True ] || paper_rate=0.1
    named CLS_SAMPLE_RATE 0 "$paper_rate"
    own_class_context=$5 own_task_context=$7
}

sampled() { # sampled CLS_SAMPLE_RATE: after softcpt
    case $1 in
    0 | 1 | 0.[0-9]* | 1.0) number CLS_SAMPLE_RATE "$1" ;;
    *) fail "CLS_SAMPLE_RATE must be a number from 0 to 1, not '$1'" ;;
    esac
    keys="$keys TRAINER.MTCOOP.CLS_SAMPLE_RATE $1"
    setting=${setting%-CLS_SAMPLE_RATE=0}
    named CLS_SAMPLE_RATE "$1" "$paper_rate"
}

hard() { # hard ARGUMENT...: those of hard_arguments
    trainer=MTCoOpHard dataset=$1 cfg=$2 shots=$3
    check_run
    learns
    whole N_CTX "$4" 1
    truth CSC "$5"
    truth TSC "$6"
    case $5$6 in
    FalseFalse) setting=shared ;;
    FalseTrue) setting=per_task ;;
    TrueFalse) setting=per_class ;;
    TrueTrue) setting=per_class_of_task ;;
    esac
    keys="$keys TRAINER.MTCOOPH.N_CTX $4 TRAINER.MTCOOPH.CSC $5 TRAINER.MTCOOPH.TSC $6"
    named N_CTX "$4" 16
    own_class_context=$5 own_task_context=$6
}

single() { # single TRAINER DATASET CFG SHOTS: a method whose arguments are all options
    plain TRAINER "$1"
    [ -d "$checkout/configs/trainers/$1" ] ||
        fail "TRAINER '$1' has no folder in configs/trainers; there are:$(names configs/trainers -type d)"
    trainer=$1 dataset=$2 cfg=$3 shots=$4 setting=default own_class_context=False
    check_run
    learns
}

up_to() { # up_to LAST: 0 1 ... LAST
    task=0
    while [ "$task" -le "$1" ]; do
        printf '%s ' "$task"
        task=$((task + 1))
    done
}

find_tasks() { # find_tasks [OPTION...]: sets each_task to TASKS, or to all tasks; TASKS=all: all of them in one run
    if [ -n "${TASKS:-}" ] && [ "$TASKS" != all ]; then
        numbers TASKS "$TASKS"
        asks_for TASKS "$TASKS"
    fi
    [ "${TASKS:-}$protocol" = all ] || check_tasks "$@"
    [ "${TASKS:-}" != all ] || return 0
    each_task=${TASKS:-$(up_to $((count - 1)))}
}

asks_for() { # asks_for NAME "NUMBER NUMBER ...": tasks that an argument or variable NAME says
    task_argument=$1 asked_tasks=$2
}

check_tasks() { # check_tasks [OPTION...]: the tasks that are asked for are there; sets count to the number of tasks
    count=$(count_tasks "$@") || exit
    for task in $asked_tasks; do
        [ "$task" -lt "$count" ] ||
            fail "$task_argument: there is no task$task; the data set has $count tasks, task0 to task$((count - 1))"
    done
    asked_tasks=''
}

count_tasks() { # count_tasks [OPTION...]: also refuses what cannot be tested on new classes
    case ${1-} in
    -*) set -- "$@" ${protocol:+DATASET.SUBSAMPLE_CLASSES base} ;;
    *) set -- ${protocol:+DATASET.SUBSAMPLE_CLASSES base} "$@" ;;
    esac
    PYTHONPATH=$checkout${PYTHONPATH:+:$PYTHONPATH} "$PYTHON" "$here/count_tasks.py" --eval-only --root "$DATA" \
        --trainer "$trainer" --dataset-config-file "$checkout/configs/datasets/$dataset.yaml" \
        --config-file "$checkout/configs/trainers/$trainer/$cfg.yaml" "$@"
}

zeroshot() { # zeroshot DATASET CFG TASK; METHOD chooses among the two trainers
    one_of METHOD "${METHOD:=ZeroshotCLIP}" "ZeroshotCLIP ZeroshotCLIP2"
    trainer=$METHOD dataset=$1 cfg=$2 shots='' setting=template
    [ "$METHOD" = ZeroshotCLIP ] || setting=ensemble
    SEEDS=1 # nothing is drawn
    check_run
    if [ "$3" != all ]; then
        whole "TASK (or all)" "$3"
        each_task=$3
        asks_for TASK "$3"
    fi
    keys="DATASET.NUM_SHOTS 1" # fewer images to check; none is learned from
}

# ---- protocols ----------------------------------------------------------------------------------------------------

base_classes() { # train on the first half of every task's classes
    [ "$own_class_context" = False ] ||
        fail "this variant learns a context for each class (CLASS_CSC or CSC True), so it has none for new classes"
    protocol=base2new/base
    keys="$keys DATASET.SUBSAMPLE_CLASSES base"
}

new_classes() { # test what base_classes trained on the other half
    base_classes
    trained=$protocol protocol=base2new/new
    keys="${keys% base} new"
}

some_tasks() { # some_tasks TASKS: train on these
    [ "$own_class_context$own_task_context" = FalseFalse ] ||
        fail "this variant learns a context for each class or task (CLASS_CSC, TASK_CSC, CSC or TSC True)," \
            "so it has none for new tasks"
    case $1 in
    base | new) tasks=$1 part=$1 ;;
    *)
        part=$(printf '%s\n' "$1" | tr ',' '\n' | sed 's/^task//')
        if printf '%s\n' "$part" | grep -qvx '[0-9][0-9]*'; then
            fail "TASKS must be base, new, or numbers such as 0,3, not '$1'"
        fi
        part=$(printf '%s\n' "$part" | sed 's/^0*\([0-9]\)/\1/' | sort -nu)
        numbers TASKS "$(printf '%s' "$part" | tr '\n' ' ')"
        asks_for TASKS "$part"
        tasks=$(printf '%s\n' "$part" | sed 's/^/task/' | tr '\n' ',')
        tasks=${tasks%,} part=$(printf 'tasks%s' "$part" | tr '\n' '_')
        ;;
    esac
    protocol=newtasks/$part/seen
    keys="$keys DATASET.SUBSAMPLE_TASKS $tasks"
}

other_tasks() { # other_tasks TASKS: test what some_tasks trained on all other tasks
    some_tasks "$1"
    trained=$protocol protocol=newtasks/$part/unseen
    case $tasks in
    base) others=new ;;
    new) others=base ;;
    *) others=not:$tasks ;;
    esac
    keys="${keys% "$tasks"} $others"
}

# ---- runs ---------------------------------------------------------------------------------------------------------

runs() { # runs [OPTION...]: one run for each seed or, with each_task, for each of these tasks and each seed
    check_options "$@"
    [ -z "$asked_tasks" ] || check_tasks "$@"
    for place in $(places); do
        [ -z "$trained" ] || whole_result "$(folder "$trained")/$place/results.json" || stop "no finished run is in" \
            "$(folder "$trained")/$place; train it by ${script%test.sh}train.sh with the same arguments"
    done
    for place in $(places); do one_run "$place" "$@"; done
}

places() { # the last parts of the runs' folders
    for task in ${each_task:-all}; do
        for seed in $SEEDS; do
            printf '%s ' "${each_task:+task$task/}seed$seed"
        done
    done
}

check_options() { # no option says again what an argument has said; the method's options stand in the folder's name
    name=$setting epoch='' previous=''
    for word; do
        case $word in
        [A-Z]*.[A-Z]*) case " $keys ${each_task:+DATASET.SUBSAMPLE_TASKS} " in
            *" $word "*) fail "$word follows from the arguments of this script; leave it out" ;;
            esac ;;
        esac
        case $word in --load-epoch=*) epoch=-epoch=${word#*=} ;; esac
        case $previous in
        --load-epoch) epoch=-epoch=$word ;;
        TRAINER.*)
            name=$(printf '%s\n' "$name" | sed "s/-${previous##*.}=[^-]*//")
            [ "$previous=$word" = "TRAINER.MTCOOP.CLS_SAMPLE_RATE=${paper_rate-}" ] ||
                name=$name-${previous##*.}=$(printf '%s' "$word" | tr -c 'A-Za-z0-9.+' _)
            ;;
        esac
        previous=$word
    done
}

folder() { # folder PROTOCOL: where the runs of all seeds (or tasks) lie
    printf '%s\n' "$OUTPUT/$dataset${1:+/$1}/$trainer/$cfg${shots:+_${shots}shots}/$name${TAG:+-$TAG}"
}

whole_result() { # whole_result FILE: a results.json that was written to its end
    [ -f "$1" ] && [ "$(tail -n 1 "$1")" = "}" ]
}

one_run() { # one_run PLACE [OPTION...]: the command of one run; flags must stand before KEY VALUE pairs
    run=$(folder "$protocol")$epoch/$1 model_dir='' seed=${1##*seed} more=$keys
    [ -z "$each_task" ] || more="$keys DATASET.SUBSAMPLE_TASKS ${1%/*}"
    [ -z "$trained" ] || model_dir=$(folder "$trained")/$1
    shift
    # shellcheck disable=SC2086
    case ${1-} in
    -*) set -- "$@" DATALOADER.FEATURES_DIR "$OUTPUT/features" DATASET.CACHE_DIR "$OUTPUT/cache" $more ;;
    *) set -- DATALOADER.FEATURES_DIR "$OUTPUT/features" DATASET.CACHE_DIR "$OUTPUT/cache" $more "$@" ;;
    esac
    [ -z "$trained" ] || set -- --eval-only --model-dir "$model_dir" "$@"
    carry_out --trainer "$trainer" --dataset-config-file "$checkout/configs/datasets/$dataset.yaml" \
        --config-file "$checkout/configs/trainers/$trainer/$cfg.yaml" \
        --root "$DATA" --output-dir "$run" --seed "$seed" "$@"
}

carry_out() { # carry_out COMMAND...: train.py with these arguments, unless it is done
    if finished "$@"; then
        printf '== %s is done\n' "$run"
        return
    fi
    printf '== %s\n' "$run"
    [ ! -f "$run/results.json" ] || whole_result "$run/results.json" || rm "$run/results.json"
    code=0
    "$PYTHON" "$checkout/train.py" "$@" || code=$?
    if [ "$code" -ne 0 ]; then
        printf '%s: stopped at %s (exit code %s)\n' "$script" "$run" "$code" >&2
        exit "$code"
    fi
    [ ! -f "$run/results.json" ] || printf '%s\n' "$@" >"$run/command.txt"
}

finished() { # finished COMMAND...: see the top of this file
    whole_result "$run/results.json" && [ -f "$run/command.txt" ] &&
        [ "$(cat "$run/command.txt")" = "$(printf '%s\n' "$@")" ] || return 1
    for file in "configs/datasets/$dataset.yaml" "configs/trainers/$trainer/$cfg.yaml"; do
        [ -z "$(find "$checkout/$file" -newer "$run/results.json")" ] || return 1
    done
    [ -z "$model_dir" ] || [ -z "$(find "$model_dir/results.json" -newer "$run/results.json")" ]
}
