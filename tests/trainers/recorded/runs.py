"""The runs that were recorded whole: settings of each variant, and the figures in what a run prints."""

import re

from tests.trainers.recorded.problem import SIZE

EPOCHS = 6
CLIP_MEAN, CLIP_STD = "0.48145466,0.4578275,0.40821073", "0.26862954,0.26130258,0.27577711"
IMAGES = 40  # training images of ToyBoth; as many make a batch, so that their order does not matter
SETTINGS = {
    "INPUT__SIZE": f"{SIZE['vit']},{SIZE['vit']}",
    "INPUT__TRANSFORMS": "normalize",
    "INPUT__PIXEL_MEAN": CLIP_MEAN,
    "INPUT__PIXEL_STD": CLIP_STD,
    "DATALOADER__TRAIN_X__BATCH_SIZE": IMAGES,
    "DATASET__NUM_SHOTS": -1,
    "OPTIM__LR": 0.02,
    "OPTIM__MAX_EPOCH": EPOCHS,
}


def soft(**options: object) -> dict[str, object]:
    """Keys of a SoftCPT variant, with the released recipe."""
    kept = {"RECIPE": "released", "N_CTX": 4, "TASK_N_CTX": 2, "CLASS_N_CTX": 2, **options}
    return {"trainer": "MTCoOp", **SETTINGS, **{f"TRAINER__MTCOOP__{key}": value for key, value in kept.items()}}


def hard(**options: object) -> dict[str, object]:
    """Keys of a baseline with hard sharing."""
    kept = {"N_CTX": 4, **options}
    return {"trainer": "MTCoOpHard", **SETTINGS, **{f"TRAINER__MTCOOPH__{key}": value for key, value in kept.items()}}


RUNS = {
    "NATA": soft(),
    "NATS": soft(TASK_CSC=True),
    "CATA": soft(CSC=True),
    "CSTA": soft(CSC=True, CLASS_CSC=True),
    "CATS": soft(CSC=True, TASK_CSC=True),
    "CSTS": soft(CSC=True, CLASS_CSC=True, TASK_CSC=True),
    "CoOp-MT": hard(),
    "CoOp-CA": hard(TSC=True),
    "CoOp-CS": hard(CSC=True),
}
_STEP = re.compile(r"epoch \[(\d+)/\d+\]\[1/1\].*?loss (\S+) .*?map (\S+) .*?lr (\S+)")
_RESULT = re.compile(r"^\* (?:total|overall_metric|task|average): .*$", re.MULTILINE)


def printed(text: str) -> dict[str, list]:
    """What a run prints of itself: (epoch, loss, map, rate) of each step, and the lines of its result."""
    steps = [[float(value) for value in match.groups()] for match in _STEP.finditer(text)]
    return {"steps": steps, "result": [line.strip() for line in _RESULT.findall(text)]}
