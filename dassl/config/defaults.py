"""The engine's config keys. Names and defaults are those of the original code where it has the key."""

from dassl.config.keys import Key, above, areas, at_least, between, colour, deviations, exponent, length, title
from dassl.data.own.description import parse_tasks

PRECISIONS = ("fp32", "fp16", "bf16", "amp")
OPTIMIZERS = ("sgd", "adam", "amsgrad", "adamw", "radam", "rmsprop")
SCHEDULERS = ("cosine", "single_step", "multi_step")
SAMPLERS = ("RandomSampler", "SequentialSampler")

KEYS: tuple[Key, ...] = (
    Key("VERSION", 1, "version of the config format"),
    Key("OUTPUT_DIR", "./output", "folder of the run: log, results, checkpoints"),
    Key("RESUME", "", "folder of an interrupted run to resume"),
    Key("SEED", -1, "seed of everything random; negative: draw one and log it", check=between(-(2**63), 2**63 - 1)),
    Key("USE_CUDA", True, "use the GPU when there is one"),
    Key("VERBOSE", False, "log the whole config at the start, as --print-config does; config.yaml has it in any case"),
    # images
    Key(
        "INPUT.SIZE",
        (),
        "height and width of an image in pixels; must fit the backbone; empty: its own",
        check=length(2, or_empty=True),
        like=(224, 224),
    ),
    Key(
        "INPUT.INTERPOLATION",
        "",
        "how images are resized; empty: as for the backbone",
        ("", "bilinear", "bicubic", "nearest"),
    ),
    Key(
        "INPUT.RESIZE",
        "",
        "how a test image gets to INPUT.SIZE: shortest (the shorter side, then a centre crop), squash (both sides "
        "whatever the proportions), longest (the longer side, then black bars); empty: as for the backbone",
        ("", "shortest", "squash", "longest"),
    ),
    Key("INPUT.TRANSFORMS", (), "names of the transforms; the order of application is fixed; empty: normalize"),
    Key("INPUT.NO_TRANSFORM", False, "only resize and normalise, also in training"),
    Key(
        "INPUT.PIXEL_MEAN",
        (),
        "mean of a normalised channel; empty: the backbone's",
        check=length(3, or_empty=True),
        like=(0.485, 0.456, 0.406),
    ),
    Key(
        "INPUT.PIXEL_STD",
        (),
        "standard deviation of a normalised channel; empty: the backbone's",
        check=deviations,
        like=(0.229, 0.224, 0.225),
    ),
    Key(
        "INPUT.BACKGROUND",
        "",
        "colour that replaces transparency, such as white or #808080; original: drop transparency, as the "
        "released code does; empty: white for your own tasks, original for registered data sets",
        check=colour,
    ),
    Key(
        "INPUT.ORIENTATION",
        "",
        "upright: turn images as EXIF says; original: leave them as stored; empty: upright for your own tasks, "
        "original for registered data sets",
        ("", "upright", "original"),
    ),
    Key(
        "INPUT.MAX_PIXELS", 500_000_000, "larger images are refused; a pixel takes 4 bytes of memory", check=at_least(1)
    ),
    Key(
        "INPUT.VIEWS",
        0,
        "random views of a training image that the epochs take in turn, which limits what is encoded; 0: a new view in "
        "every epoch",
        check=at_least(0),
    ),
    Key(
        "INPUT.RESOLUTION",
        "",
        "reduced: much larger images are decoded to what the transforms need, see docs/data.md; original: every pixel "
        "is kept; empty: reduced for your own tasks, original for registered data sets",
        ("", "reduced", "original"),
    ),
    Key("INPUT.RRCROP_SCALE", (0.08, 1.0), "range of the area kept by random_resized_crop", check=areas),
    # data
    Key("DATASET.ROOT", "", "data root: the folder that holds the data folders"),
    Key("DATASET.NAME", "", "registered name of a data set or a suite"),
    Key("DATASET.MEMBERS", (), "data sets that make up the suite; empty: its own list"),
    Key(
        "DATASET.TITLE",
        "",
        "name of the suite in folders of sweeps, tables and plots; empty: the name of its file, DATASET.NAME",
        check=title,
    ),
    Key("DATASET.TASKS", (), "your own tasks, see docs/your-own-data.md", parse=parse_tasks),
    Key("DATASET.NUM_SHOTS", -1, "training images per class; below 1: all"),
    Key("DATASET.SUBSAMPLE_CLASSES", "all", "classes of every task", ("all", "base", "new")),
    Key(
        "DATASET.SUBSAMPLE_TASKS",
        "all",
        "tasks of the suite: all, taskN, base, new, a list such as task0,task3, or all others by not:task0,task3",
    ),
    Key(
        "DATASET.TEMPLATES",
        "own",
        "hand-written prompts of the data sets: ours, or the released code's where they differ",
        ("own", "released"),
    ),
    Key(
        "DATASET.CHECK_IMAGES",
        True,
        "decode every image once before the first run, to find broken ones early",
    ),
    Key("DATASET.SKIP_UNREADABLE", False, "skip unreadable images instead of stopping"),
    Key(
        "DATASET.REDUCED_GIB", 4.0, "disk space for reduced images in the cache; 0: none are stored", check=at_least(0)
    ),
    Key("DATASET.CACHE_DIR", "", "folder of splits and subsets if the data folder is read-only; empty: output/cache"),
    Key("DATALOADER.NUM_WORKERS", 4, "processes that read images", check=at_least(0)),
    Key("DATALOADER.TRAIN_X.SAMPLER", "RandomSampler", "order of the training images", SAMPLERS),
    Key("DATALOADER.TRAIN_X.BATCH_SIZE", 32, "images per training batch", check=at_least(1)),
    Key("DATALOADER.TEST.SAMPLER", "SequentialSampler", "order of the test images", ("SequentialSampler",)),
    Key("DATALOADER.TEST.BATCH_SIZE", 32, "images per test batch", check=at_least(1)),
    Key("DATALOADER.FEATURES", False, "encode each image view once and share it between runs (on or off)"),
    Key("DATALOADER.FEATURES_DIR", "", "folder of the feature store; empty: output/features"),
    Key("DATALOADER.FEATURES_DTYPE", "fp32", "format of stored features; fp16 needs half the space", ("fp32", "fp16")),
    # model
    Key(
        "MODEL.INIT_WEIGHTS",
        "",
        "run folder whose learned tensors training starts from; several, with commas: from their mean",
    ),
    Key(
        "MODEL.BACKBONE.NAME",
        "",
        "one of OpenAI's names, open_clip's MODEL:TAG, hf-hub:OWNER/NAME, local-dir:PATH, demo, demo-vit, or a weights "
        "file; see docs/backbones.md",
    ),
    Key("MODEL.BACKBONE.ARCH", "", "open_clip's name of the architecture of a weights file"),
    Key("MODEL.BACKBONE.PRETRAINED", True, "kept for old config files; a backbone always has its weights", (True,)),
    Key("MODEL.BACKBONE.WEIGHTS", "", "weights file, or folder that is searched for weights"),
    Key(
        "MODEL.BACKBONE.ACTIVATION",
        "",
        "activation of a weights file that is not OpenAI's",
        ("", "quickgelu", "gelu"),
    ),
    Key(
        "MODEL.BACKBONE.HEAD_WIDTHS",
        (0, 0),
        "width of an attention head in the image and in the text tower of such a file; 0: infer it from the sizes",
        check=length(2),
    ),
    Key(
        "MODEL.TEXT_ENCODING",
        "auto",
        "encode what prompts share once, or all 77 columns of each prompt",
        ("auto", "plain"),
    ),
    Key("MODEL.TEXT_CHUNK", 0, "prompts per chunk; 0: as many as the free memory allows", check=at_least(0)),
    Key(
        "MODEL.IMAGE_CHECKPOINT",
        False,
        "methods that tune the image tower: compute its blocks again in the backward pass, which needs less memory and "
        "more time; figures are the same",
    ),
    Key("MODEL.HEAD.NAME", "", "kept for old config files; no trainer here has a head"),
    Key("MODEL.HEAD.HIDDEN_LAYERS", (), "see MODEL.HEAD.NAME"),
    Key("MODEL.HEAD.ACTIVATION", "relu", "see MODEL.HEAD.NAME"),
    Key("MODEL.HEAD.BN", True, "see MODEL.HEAD.NAME"),
    Key("MODEL.HEAD.DROPOUT", 0.0, "see MODEL.HEAD.NAME"),
    # optimisation
    Key("OPTIM.NAME", "adam", "optimiser", OPTIMIZERS),
    Key("OPTIM.LR", 0.0003, "learning rate", check=at_least(0)),
    Key("OPTIM.WEIGHT_DECAY", 5e-4, "weight decay", check=at_least(0)),
    Key("OPTIM.MOMENTUM", 0.9, "momentum of sgd and rmsprop", check=at_least(0)),
    Key("OPTIM.SGD_DAMPNING", 0.0, "dampening of sgd (spelt as in the original)"),
    Key("OPTIM.SGD_NESTEROV", False, "Nesterov momentum of sgd"),
    Key("OPTIM.RMSPROP_ALPHA", 0.99, "smoothing constant of rmsprop"),
    Key("OPTIM.ADAM_BETA1", 0.9, "first beta of the adam family", check=between(0, 1)),
    Key("OPTIM.ADAM_BETA2", 0.999, "second beta of the adam family", check=between(0, 1)),
    Key("OPTIM.ADAM_EPS", 1e-8, "added to the divisor of the adam family's steps", check=above(0)),
    Key("OPTIM.LR_SCHEDULER", "single_step", "schedule of the learning rate", SCHEDULERS),
    Key("OPTIM.STEPSIZE", (-1,), "epochs at which the rate drops; single_step uses the last one; below 1: MAX_EPOCH"),
    Key("OPTIM.GAMMA", 0.1, "factor of a drop", check=above(0)),
    Key("OPTIM.MAX_EPOCH", 10, "number of epochs, unless OPTIM.MIN_STEPS needs more", check=at_least(1)),
    Key(
        "OPTIM.MIN_STEPS",
        0,
        "least number of training steps (batches): as many epochs as these need are trained if that is more than "
        "OPTIM.MAX_EPOCH, with the schedule stretched over them; 0: MAX_EPOCH decides",
        check=at_least(0),
    ),
    Key("OPTIM.WARMUP_EPOCH", -1, "epochs of warm-up; below 1: none"),
    Key("OPTIM.WARMUP_TYPE", "linear", "shape of the warm-up", ("linear", "constant")),
    Key("OPTIM.WARMUP_CONS_LR", 1e-5, "rate of the constant warm-up", check=at_least(0)),
    Key("OPTIM.WARMUP_MIN_LR", 1e-5, "first rate of the linear warm-up", check=at_least(0)),
    Key("OPTIM.WARMUP_RECOUNT", True, "start the schedule at its beginning after the warm-up"),
    # training and testing
    Key("TRAIN.CHECKPOINT_FREQ", 0, "epochs between kept checkpoints; 0: keep only the newest one", check=at_least(0)),
    Key("TRAIN.PRINT_FREQ", 10, "batches between log lines", check=at_least(1)),
    Key(
        "TRAIN.VAL_FREQ",
        0,
        "training steps between two validations where TEST.FINAL_MODEL needs them; 0: after every epoch",
        check=at_least(0),
    ),
    Key(
        "TRAIN.PATIENCE",
        0,
        "validations in a row without a better result after which training stops; 0: it never stops early",
        check=at_least(0),
    ),
    Key("TRAIN.LOGGERS", ("tensorboard",), "loggers of curves, see docs/extending.md; empty: none"),
    Key("TRAIN.COUNT_ITER", "train_x", "what counts as an epoch", ("train_x",)),
    Key(
        "TRAIN.DETERMINISTIC",
        False,
        "give the same figures to the last digit for any number of threads and any free memory; on a GPU with "
        "deterministic algorithms only; see docs/reliability.md",
    ),
    Key(
        "MULTI.LOSS",
        "bce",
        "loss of multi-label tasks: binary cross-entropy, or asymmetric; see docs/multi-label.md",
        ("bce", "asymmetric"),
    ),
    Key("MULTI.GAMMA_NEG", 4.0, "asymmetric loss: exponent for absent labels", check=exponent),
    Key("MULTI.GAMMA_POS", 0.0, "asymmetric loss: exponent for present labels", check=exponent),
    Key("MULTI.CLIP", 0.05, "asymmetric loss: subtracted from the probability of absent labels", check=between(0, 0.5)),
    Key("TEST.EVALUATOR", "ClassificationMT", "evaluator", ("ClassificationMT", "Classification")),
    Key("TEST.PER_CLASS_RESULT", False, "log the recall of every class"),
    Key("TEST.PER_TASK_RESULT", False, "log the metric of every task"),
    Key("TEST.COMPUTE_CMAT", False, "write the confusion matrix of every task to cmat.json"),
    Key("TEST.NO_TEST", False, "do not test after training"),
    Key("TEST.SPLIT", "test", "split that is tested", ("test", "val")),
    Key(
        "TEST.CALIBRATE",
        False,
        "divide the logits of a task by a temperature fitted on its validation images; see docs/protocols.md",
    ),
    Key(
        "TEST.FINAL_MODEL",
        "last_step",
        "model that is tested: that of the last epoch, the best on val, or (auto) the best on val where it has enough "
        "images, see docs/recipe.md",
        ("last_step", "best_val", "auto"),
    ),
    Key("TRAINER.NAME", "", "registered name of the method"),
    Key(
        "TRAINER.PUBLISHED_SETTINGS",
        "",
        "apply: use what the method's authors chose by shots and data set, except for keys set after the config "
        "file; the run's config then says applied",
        ("", "apply", "applied"),
    ),
    Key(
        "TRAINER.PUBLISHED_KEYS",
        (),
        "written by the program: the keys that published settings decide, each with the config file's value; runs "
        "that agree in them are one setting in tables",
        like=("OPTIM.MAX_EPOCH 200",),
    ),
    Key("TRAINER.LABEL", "", "name of the method in tables and plots; empty: its row in configs/methods.yaml"),
)
