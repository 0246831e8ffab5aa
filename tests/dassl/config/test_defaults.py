"""The original's keys and defaults; those of domain adaptation and semi-supervised learning are left out."""

import pytest

from dassl.config import all_keys, flatten, get_cfg_default, merge_cfg
from dassl.results.record import RETIRED_KEYS
from dassl.utils.errors import UserError

ORIGINAL = {
    "VERSION": 1,
    "OUTPUT_DIR": "./output",
    "RESUME": "",
    "SEED": -1,
    "USE_CUDA": True,
    "VERBOSE": False,
    "INPUT.TRANSFORMS": (),
    "INPUT.NO_TRANSFORM": False,
    "INPUT.CROP_PADDING": 4,
    "INPUT.RRCROP_SCALE": (0.08, 1.0),
    "INPUT.CUTOUT_N": 1,
    "INPUT.CUTOUT_LEN": 16,
    "INPUT.GN_MEAN": 0.0,
    "INPUT.GN_STD": 0.15,
    "INPUT.RANDAUGMENT_N": 2,
    "INPUT.RANDAUGMENT_M": 10,
    "INPUT.COLORJITTER_B": 0.4,
    "INPUT.COLORJITTER_C": 0.4,
    "INPUT.COLORJITTER_S": 0.4,
    "INPUT.COLORJITTER_H": 0.1,
    "INPUT.RGS_P": 0.2,
    "INPUT.GB_P": 0.5,
    "INPUT.GB_K": 21,
    "DATASET.ROOT": "",
    "DATASET.NAME": "",
    "DATASET.NUM_SHOTS": -1,
    "DATASET.SUBSAMPLE_CLASSES": "all",
    "DATASET.SUBSAMPLE_TASKS": "all",
    "DATALOADER.NUM_WORKERS": 4,
    "DATALOADER.TRAIN_X.SAMPLER": "RandomSampler",
    "DATALOADER.TRAIN_X.BATCH_SIZE": 32,
    "DATALOADER.TEST.SAMPLER": "SequentialSampler",
    "DATALOADER.TEST.BATCH_SIZE": 32,
    "MODEL.INIT_WEIGHTS": "",
    "MODEL.BACKBONE.NAME": "",
    "MODEL.BACKBONE.PRETRAINED": True,
    "MODEL.HEAD.NAME": "",
    "MODEL.HEAD.HIDDEN_LAYERS": (),
    "MODEL.HEAD.ACTIVATION": "relu",
    "MODEL.HEAD.BN": True,
    "MODEL.HEAD.DROPOUT": 0.0,
    "OPTIM.NAME": "adam",
    "OPTIM.LR": 0.0003,
    "OPTIM.WEIGHT_DECAY": 5e-4,
    "OPTIM.MOMENTUM": 0.9,
    "OPTIM.SGD_NESTEROV": False,
    "OPTIM.RMSPROP_ALPHA": 0.99,
    "OPTIM.ADAM_BETA1": 0.9,
    "OPTIM.ADAM_BETA2": 0.999,
    "OPTIM.STAGED_LR": False,
    "OPTIM.NEW_LAYERS": (),
    "OPTIM.BASE_LR_MULT": 0.1,
    "OPTIM.LR_SCHEDULER": "single_step",
    "OPTIM.STEPSIZE": (-1,),
    "OPTIM.GAMMA": 0.1,
    "OPTIM.MAX_EPOCH": 10,
    "OPTIM.WARMUP_EPOCH": -1,
    "OPTIM.WARMUP_TYPE": "linear",
    "OPTIM.WARMUP_CONS_LR": 1e-5,
    "OPTIM.WARMUP_MIN_LR": 1e-5,
    "OPTIM.WARMUP_RECOUNT": True,
    "TRAIN.CHECKPOINT_FREQ": 0,
    "TRAIN.PRINT_FREQ": 10,
    "TRAIN.COUNT_ITER": "train_x",
    "TEST.PER_CLASS_RESULT": False,
    "TEST.COMPUTE_CMAT": False,
    "TEST.NO_TEST": False,
    "TEST.SPLIT": "test",
    "TEST.FINAL_MODEL": "last_step",
    "TEST.PER_TASK_RESULT": False,
    "TRAINER.NAME": "",
    "TRAINER.MTCOOPH.PREC": "fp16",
    "TRAINER.MTCOOPH.N_CTX": 16,
    "TRAINER.MTCOOPH.CSC": False,
    "TRAINER.MTCOOPH.CTX_INIT": "",
    "TRAINER.MTCOOPH.TOKEN_POSITION": "end",
    "TRAINER.MTCOOPH.TSC": False,
    "TRAINER.MTCOOP.PREC": "fp16",
    "TRAINER.MTCOOP.CLASS_N_CTX": 16,
    "TRAINER.MTCOOP.CLASS_CSC": False,
    "TRAINER.MTCOOP.CLASS_CTX_INIT": "",
    "TRAINER.MTCOOP.CLASS_TOKEN_POSITION": "end",
    "TRAINER.MTCOOP.TASK_N_CTX": 16,
    "TRAINER.MTCOOP.TASK_CSC": False,
    "TRAINER.MTCOOP.TASK_CTX_INIT": "",
    "TRAINER.MTCOOP.TASK_TOKEN_POSITION": "end",
    "TRAINER.MTCOOP.N_CTX": 16,
    "TRAINER.MTCOOP.CSC": False,
    "TRAINER.MTCOOP.CTX_INIT": "",
    "TRAINER.MTCOOP.TOKEN_POSITION": "end",
    "TRAINER.MTCOOP.CLS_SAMPLE_RATE": 0.0,
}
# The original's own type or value could not be used: a whole number where fractions are meant, a name that crashes, a
# preprocessing that is no backbone's.
CHANGED = {
    "INPUT.SIZE": (),
    "INPUT.INTERPOLATION": "",
    "INPUT.PIXEL_MEAN": (),
    "INPUT.PIXEL_STD": (),
    "OPTIM.SGD_DAMPNING": 0.0,
    "TEST.EVALUATOR": "ClassificationMT",
    "TRAINER.MTCOOP.PG_TYPE": "lin",
    "TRAINER.MTCOOP.PG_RATIO": 1.0,
    "TRAINER.MTCOOP.FREEZE_CLS_PROMPT": False,
}


@pytest.mark.parametrize(("name", "value"), [*ORIGINAL.items(), *CHANGED.items()])
def test_defaults_are_those_of_the_original(name, value):
    found = {**flatten(get_cfg_default()), **RETIRED_KEYS}[name]
    assert found == value
    assert type(found) is type(value)


def test_every_default_is_accepted_by_its_own_key():
    wrong = {name: key.problem(key.default) for name, key in all_keys().items() if key.problem(key.default)}
    assert wrong == {}


def test_every_key_is_explained():
    assert [name for name, key in all_keys().items() if not key.help] == []
    assert len(all_keys()) == len(flatten(get_cfg_default()))


@pytest.mark.parametrize("name", RETIRED_KEYS)
def test_a_retired_key_may_say_its_old_default_and_nothing_else(name):
    cfg = get_cfg_default()
    merge_cfg(cfg, values={name: RETIRED_KEYS[name]})
    assert cfg == get_cfg_default()
    with pytest.raises(UserError, match=f"{name} is '7': its setting was removed"):
        merge_cfg(cfg, pairs=[name, "7"])
