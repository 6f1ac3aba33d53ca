"""The one table of settings. The parser, --help, docs/flags.md, the defaults, the checks of a checkpoint's header, the
notes on what is ignored, and metrics.json all come from it: a new flag is a new row.

A default can depend on the model, the data and the network: `by` maps conditions to values, and the last condition
that holds decides. A condition is one or more words of these, all of which must hold:

    vae, cvae, m2, m1m2, vlae                    the model
    points, images, drawings, photographs, colour   the data (drawings and photographs are grey)
    few, many                                    images: at most 10,000 to train on, or more
    mlp, conv, resnet                            the network
    binary, levels                               pixels that were asked for, by --binarize or --likelihood
"""

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from app import values
from app.values import one_of, real, whole
from parts.catalogue import ACTIVATIONS, AUGMENTATIONS, BINARIZATIONS, LIKELIHOODS, MODELS, NETWORKS, PRIORS

ON_DATA = (
    "encode",
    "score",
    "fill_in",
    "compress",
)  # verbs that put a trained model to use on data that the flag names
ALONE = (*ON_DATA, "decompress", "explore", "slim")  # verbs that go with no other
VERBS = ("train", "evaluate", "sample", "compare", *ALONE)
SPLITS = ("test", "train", "all")
FEW_STEPS, COLOUR_STEPS, MOST_PICTURES, MOST_EPOCHS = 1500, 2000, 5, 100  # of runs on few images


@dataclasses.dataclass(frozen=True)
class Row:
    """All that the program knows about a setting, besides its name, type and default.

    Args:
        parse: turns the flag's text into a value.
        switch: the flag takes no value.
        optional_value: the flag alone means true.
        several: the flag takes one value or more.
        by: defaults by condition; a `Computed` for one that is not a constant.
        default_text: the default in words, where the value does not explain itself.
        fixed: a checkpoint fixes it; another value is refused.
        kept: a continued run keeps it unless it is given anew.
        of_new_runs: a continued run ignores it with a note.
        added_later: checkpoints of earlier versions may lack it.
        verbs: those that use it. The others ignore it with a note, or refuse it if it is `strict`.
        models: those that have it.
        reported: metrics.json has it.
        builds_model: it is an argument of vae.build_model.
        argument_of: "optimizer" or "objective", if it is an argument of that of those models.
        per_machine: the machines of one training may differ in it.
        per_epoch: a continued run may change it; the run records the epoch from which each value holds.
    """

    group: str
    help: str
    parse: Callable[[str], Any] | None = None
    choices: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    metavar: str | None = None
    switch: bool = False
    optional_value: bool = False
    several: bool = False
    by: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    default_text: str = ""
    fixed: bool = False
    kept: bool = False
    of_new_runs: bool = False
    added_later: bool = False
    verbs: tuple[str, ...] = ("train", "evaluate", "sample", *ALONE)
    strict: bool = False
    models: tuple[str, ...] = tuple(MODELS)
    reported: bool = False
    builds_model: bool = False
    argument_of: str = ""
    per_machine: bool = False
    per_epoch: bool = False


@dataclasses.dataclass(frozen=True)
class Computed:
    """A default that depends on the number of training examples, and on settings in rows above its own."""

    text: str
    function: Callable[[int, Mapping[str, Any]], Any]

    def __call__(self, num_examples: int, settings: Mapping[str, Any]) -> Any:
        return self.function(num_examples, settings)


def at_most_all(batch_size: int) -> Computed:
    return Computed(f"{batch_size}", lambda num_examples, _: min(batch_size, num_examples))


def enough_epochs(least: int, num_steps: int = FEW_STEPS) -> Computed:
    def epochs(num_examples: int, settings: Mapping[str, Any]) -> int:
        steps = max(1, num_examples // settings["batch_size"])
        return min(max(num_steps // steps, least), MOST_EPOCHS)

    return Computed(f"{least} to {MOST_EPOCHS}, for {num_steps:,} steps", epochs)


def a_few_times(num_examples: int, settings: Mapping[str, Any]) -> int:
    return max(5, settings["num_epochs"] // MOST_PICTURES)


def row(default: Any, group: str, help: str, parse=None, **more) -> Any:
    """A row of the table: a dataclass field with its Row."""
    more["kept"] = more.get("kept", False) or more.get("fixed", False)
    return dataclasses.field(default=default, metadata={"row": Row(group, help, parse, **more)})


def choice(default: str | None, group: str, choices: typing.Iterable[str], help: str, **more) -> Any:
    words = tuple(choices)
    return row(default, group, help, one_of(words), choices=words, **more)


WHAT, EVALUATION, DATA, MODEL = "what to do (default: --train)", "evaluation", "data", "model"
ON = "codes, scores, completions and small files"
TRAINING, FILES, MACHINE = "training", "files and pictures", "machine"
OF_TRAINING = {"verbs": ("train",), "kept": True}
OF_FIGURES = {"verbs": ("train", "evaluate"), "strict": True}
OF_DATA = {"verbs": ON_DATA, "strict": True}
OF_COMPRESSION = {"verbs": ("compress",), "strict": True}
WRITING = {"verbs": ALONE, "strict": True}
OF_DRAWING = {"verbs": ("train", "sample")}
EVERYWHERE = {"verbs": VERBS}
PER_EPOCH = {**OF_TRAINING, "per_epoch": True, "reported": True}
INFERRING = tuple(name for name, entry in MODELS.items() if entry.infers_labels)
OF_MUON = {**PER_EPOCH, "models": ("vlae",), "added_later": True, "argument_of": "optimizer"}
OF_M2 = {**PER_EPOCH, "models": INFERRING, "added_later": True, "argument_of": "objective"}
ARCHITECTURE = {"fixed": True, "reported": True, "builds_model": True}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Every setting of a run, resolved. Each field is also the row of a flag."""

    train: bool = row(False, WHAT, "train, then evaluate and draw the pictures", switch=True, verbs=VERBS)
    evaluate: bool = row(False, WHAT, "evaluate a checkpoint on held-out data", switch=True, verbs=VERBS)
    sample: bool = row(False, WHAT, "draw samples from a checkpoint (samples.npz)", switch=True, verbs=VERBS)
    compare: tuple[str, ...] = row(
        (), WHAT, "compare runs side by side; each is a checkpoint, a folder, MODEL/RUN or RUN", values.path,
        several=True, metavar="RUN", default_text="none", **EVERYWHERE
    )  # fmt: skip
    encode: str | None = row(
        None, WHAT, "write the code of every example of these data: a named dataset, a folder, an .npz or an image "
        "(codes.npz, codes.png)",
        values.dataset(), metavar="NAME_OR_PATH", default_text="none", **EVERYWHERE
    )  # fmt: skip
    score: str | None = row(
        None, WHAT, "write the bounds on log p(x) of every example of these data, and draw the least and the most "
        "likely (scores.csv, scores.png)",
        values.dataset(), metavar="NAME_OR_PATH", default_text="none", **EVERYWHERE
    )  # fmt: skip
    fill_in: str | None = row(
        None, WHAT, "complete images of which a part is missing: what --hide says, and transparent pixels of PNG files "
        "(fill_in.png, fill_in.npz)",
        values.dataset(), metavar="NAME_OR_PATH", default_text="none", **EVERYWHERE
    )  # fmt: skip
    compress: str | None = row(
        None, WHAT, "write these images to a small file, without loss unless --lossy says otherwise (FILE.vz)",
        values.dataset(), metavar="NAME_OR_PATH", default_text="none", **EVERYWHERE
    )  # fmt: skip
    decompress: str | None = row(
        None, WHAT, "the images of a file that --compress wrote", values.path, metavar="FILE", default_text="none",
        **EVERYWHERE
    )  # fmt: skip
    explore: bool = row(
        False, WHAT, "write explorer.html, a page in which the model runs: sliders, drawing, the plane of codes",
        switch=True, verbs=VERBS
    )  # fmt: skip
    slim: bool = row(
        False, WHAT, "write a small checkpoint to hand on: the weights alone, in 16 bits", switch=True, verbs=VERBS
    )

    num_importance_samples: int | None = row(
        None, EVALUATION, "draws per example to estimate log p(x) with; 0: the ELBO only",
        whole(0, 1_000_000), metavar="K", default_text="100 for --evaluate and --score, else 0",
        verbs=("train", "evaluate", "score"), strict=True
    )  # fmt: skip
    max_examples: int | None = row(
        None, EVALUATION, "evaluate on N held-out examples, score, complete or compress N, chosen at random", whole(1),
        metavar="N", default_text="all; 20 for --fill_in", verbs=("train", "evaluate", "score", "fill_in", "compress"),
        strict=True
    )  # fmt: skip
    ood_dataset: str | None = row(
        None, EVALUATION, "another dataset, or noise: how well the bound on log p(x) separates the test set from it",
        values.dataset("noise"), metavar="NAME_OR_PATH", default_text="none", **OF_FIGURES
    )  # fmt: skip

    split: str | None = choice(
        None, ON, SPLITS, "which part of the data to use, where they have such parts", default_text="test", **OF_DATA
    )
    to: str | None = row(
        None, ON, "folder to write to; for --compress and --explore a file, for --decompress a folder or an .npz file",
        values.path,
        metavar="PATH", default_text="OUTPUT_DIR/MODEL/RUN/VERB/DATA, or OUTPUT_DIR/MODEL/RUN for --slim", **WRITING
    )  # fmt: skip
    inliers: tuple[str, ...] = row(
        (), ON, "names or numbers of the usual classes: how well each score tells the others from them (AUROC)",
        values.class_name, several=True, metavar="CLASS", default_text="none", verbs=("score",), strict=True
    )  # fmt: skip
    hide: str | None = row(
        None, ON, "what to hide of each image: left, right, top or bottom, the half of it; centre, a quarter; or a "
        "number between 0 and 1, that share of its pixels at random",
        values.hidden, metavar="PART", default_text="transparent pixels only", verbs=("fill_in",), strict=True
    )  # fmt: skip
    lossy: bool = row(
        False, ON, "keep the codes alone: a few bytes an image, which comes back redrawn", switch=True, **OF_COMPRESSION
    )
    levels: float = row(
        1.0, ON, "levels of a latent in two standard deviations of its posterior: more keep more, for more bytes",
        real(0.01, 100), metavar="X", **OF_COMPRESSION
    )  # fmt: skip
    append: bool = row(False, ON, "add the images to those in the file of --to", switch=True, **OF_COMPRESSION)

    model: str = choice(
        "vae",
        MODEL,
        MODELS,
        "the model: VAE, conditional, semi-supervised or lossy VAE",
        fixed=True,
        builds_model=True,
    )
    dataset: str = row(
        "mnist", DATA, "a name, such as mnist_sample, fashion_mnist, cifar10 or moons (docs/data.md has all); a folder "
        "of images; or an .npz file",
        values.dataset(), metavar="NAME_OR_PATH", fixed=True, per_machine=True
    )  # fmt: skip
    data_dir: str = row(
        "data", DATA, "folder in which to look first for the files of named datasets", values.path, metavar="DIR",
        kept=True, per_machine=True
    )  # fmt: skip
    image_size: tuple[int, int] | None = row(
        None, DATA, "crop and resize images to N x N, or to height and width", whole(1, 2048), several=True,
        metavar="N", default_text="as they are", fixed=True
    )  # fmt: skip
    offline: bool = row(False, DATA, "never use the network", switch=True)
    binarize: str = choice(
        "none", DATA, BINARIZATIONS, "make pixels binary; dynamic: drawn anew at every use, with "
        "the grey value as probability; threshold: cut at 1/2",
        by={"vlae drawings": "dynamic", "vlae drawings levels": "none"},
        fixed=True, reported=True
    )  # fmt: skip
    validation_size: int = row(
        0, DATA, "hold out the last N training examples and report on those, not on the test set", whole(0),
        metavar="N", fixed=True, reported=True
    )  # fmt: skip
    num_labels: int | None = row(
        None, DATA, "use the labels of N training examples only, as many of each class, and hide the others; 0: none",
        whole(0), metavar="N", default_text="all there are", models=INFERRING, fixed=True, added_later=True,
        reported=True
    )  # fmt: skip
    label_seed: int = row(
        0, DATA, "seed by which --num_labels chooses them", whole(0), metavar="N", models=INFERRING, fixed=True,
        added_later=True, reported=True
    )  # fmt: skip

    latent_size: int = row(
        15, MODEL, "number of latents", whole(1, 4096), aliases=("--latent_dim",), metavar="N",
        by={"colour": 64, "vlae images": 12, "vlae colour": 64, "points": 2}, **ARCHITECTURE
    )  # fmt: skip
    likelihood: str = choice(
        "bernoulli", MODEL, LIKELIHOODS, "distribution of the data given the code, p(x|z)",
        by={"points": "sigma", "colour": "sigma", "photographs": "sigma", "vlae images": "logistic",
            "vlae drawings": "bernoulli", "vlae drawings levels": "logistic", "binary": "bernoulli"},
        **ARCHITECTURE
    )  # fmt: skip
    network: str = choice(
        "mlp", MODEL, NETWORKS, "dense layers; strided convolutions; the same with a residual block after each",
        by={"colour": "conv", "vlae images": "resnet"}, **ARCHITECTURE
    )  # fmt: skip
    hidden_dims: tuple[int, ...] | None = row(
        None, MODEL, "widths of the encoder's layers; the decoder has them in reverse order", whole(1, 8192),
        several=True, metavar="N",
        by={**{name: entry.hidden_dims for name, entry in NETWORKS.items()}, "points": (128, 128, 128)}, **ARCHITECTURE
    )  # fmt: skip
    activation: str = choice(
        "gelu", MODEL, ACTIVATIONS, "activation function of the hidden layers",
        by={"points": "leaky_relu", "vlae images": "elu"},
        **ARCHITECTURE
    )  # fmt: skip
    prior: str = choice(
        "standard", MODEL, PRIORS, "p(z), or p(z|y) where labels reach it: N(0, I), a Gaussian, an autoregressive "
        "flow, or autoregressive mixtures of Gaussians",
        by={"few colour": "flow", "few photographs": "flow", "cvae": "flow", "vlae": "flow",
            "vlae drawings": "mixture", "m2": "mixture", "m1m2": "mixture"}, added_later=True,
        **ARCHITECTURE
    )  # fmt: skip
    classifier: str | None = choice(
        None, MODEL, NETWORKS, "network of q(y|x), with its default widths; that of an m1m2 reads codes if it is mlp",
        default_text="none", models=INFERRING,
        by={"m2 images": "conv", "m2 points": "mlp", "m1m2": "mlp"}, added_later=True, **ARCHITECTURE
    )  # fmt: skip
    features: str | None = row(
        None, MODEL, "checkpoint of a VAE of the same data, whose encoder and decoder the model takes and keeps",
        values.path, metavar="FILE", default_text="none",
        models=tuple(name for name, entry in MODELS.items() if entry.takes_features), kept=True, of_new_runs=True,
        added_later=True, verbs=("train",), per_machine=True
    )  # fmt: skip
    unconditional: bool = row(
        False, MODEL, "ignore the labels: the bound is on log p(x)", switch=True, models=("vlae",), fixed=True,
        added_later=True, reported=True
    )  # fmt: skip
    window: int = row(
        0, MODEL, "width of the window of earlier pixels that p(x|z) sees; odd, 0: none", values.window, metavar="N",
        by={"vlae images": 7, "vlae drawings": 11}, models=("vlae",), added_later=True, **ARCHITECTURE
    )  # fmt: skip
    pixel_dims: tuple[int, ...] | None = row(
        None, MODEL, "widths of the layers behind the window; every second one is a masked 3x3 convolution",
        whole(1, 1024), several=True, metavar="N", default_text="none",
        by={"vlae images": (64,) * 5, "vlae images mlp": (32, 32)}, models=("vlae",), added_later=True, **ARCHITECTURE
    )  # fmt: skip

    batch_size: int = row(
        128, TRAINING, "examples per training step, over all devices", whole(1), metavar="N",
        by={"vlae images": 64, "few": at_most_all(32), "points": at_most_all(256)}, **PER_EPOCH
    )  # fmt: skip
    num_epochs: int = row(
        10, TRAINING, "epochs of the run in total, with those before a continuation", whole(1),
        aliases=("--n_epochs",), metavar="N",
        by={"colour": 20, "few": enough_epochs(10), "few colour": enough_epochs(20, COLOUR_STEPS),
            "vlae images": 30, "vlae few": enough_epochs(30), "points": 50},
        **OF_TRAINING
    )  # fmt: skip
    learning_rate: float = row(
        1e-3, TRAINING, "learning rate", real(values.SMALLEST, 1e30), aliases=("--lr",), metavar="X",
        by={"drawings many": 2e-3, "vlae images": 2e-3}, **PER_EPOCH
    )  # fmt: skip
    lr_decay_steps: int = row(
        2000, TRAINING, "steps after which the learning rate is half; in step t it is divided by 1 + t / N", whole(1),
        metavar="N", by={"vlae drawings many": 4000}, **OF_MUON
    )  # fmt: skip
    weight_decay: float = row(
        0.0, TRAINING, "what kernels shrink by in a step, in learning rates", real(0, 1e30), metavar="X",
        by={"vlae drawings many": 0.1}, **OF_MUON
    )  # fmt: skip
    averaging: float = row(
        0.9995, TRAINING, "momentum of the running average of the weights", real(0, 1), metavar="X",
        by={"vlae drawings many": 0.9997}, **OF_MUON
    )  # fmt: skip
    beta: float = row(1.0, TRAINING, "weight of the rate in the loss", real(0), metavar="X", **PER_EPOCH)
    warmup_epochs: float = row(
        0, TRAINING, "epochs in which the weight of the rate rises from 0 to beta", real(0), metavar="X",
        by={"vlae images": 2}, **PER_EPOCH
    )  # fmt: skip
    free_bits: float = row(
        0.0, TRAINING, "nats that each latent may spend before its rate counts in the loss", real(0), metavar="X",
        **PER_EPOCH
    )  # fmt: skip
    classification_weight: float = row(
        1.0, TRAINING, "weight of the cross-entropy of q(y|x) on labelled examples in the loss", real(0), metavar="X",
        **OF_M2
    )  # fmt: skip
    classifier_warmup_epochs: float = row(
        2.0, TRAINING, "epochs in which q(y|x) learns from labels and --consistency alone, before the sum over the "
        "classes of unlabelled examples comes in", real(0), metavar="X", **OF_M2
    )  # fmt: skip
    consistency: float = row(
        0.0, TRAINING, "weight in the loss of the cross-entropy of q(y|x) between an unlabelled example and the same "
        "changed by --augmentation", real(0), metavar="X", by={"m2": 1.0, "m1m2": 1.0}, **OF_M2
    )  # fmt: skip
    augmentation: str = choice(
        "shift", TRAINING, AUGMENTATIONS, "how --consistency changes images: shift, by up to two pixels; affine: also "
        "turned, scaled and sheared a little; erase: also with a part blackened; adversarial: in the direction that "
        "changes q(y|x) most, also points",
        by={"m2 images": "erase", "m1m2 images": "affine", "m2 points": "adversarial", "m1m2 points": "adversarial"},
        **OF_M2
    )  # fmt: skip
    flip: bool = row(
        False, TRAINING, "mirror each image left to right at random, anew in every epoch", values.boolean,
        optional_value=True, metavar="BOOL", by={"few colour": True}, added_later=True, **PER_EPOCH
    )  # fmt: skip
    load_weights: bool = row(
        False, TRAINING, "continue the run from its checkpoint, up to --num_epochs", switch=True
    )  # fmt: skip
    seed: int = row(
        0, TRAINING, "seed of the initial weights, the order of examples and all noise", whole(0), metavar="N",
        kept=True, per_epoch=True
    )  # fmt: skip

    checkpoint: str | None = row(
        None, FILES, "checkpoint to evaluate, sample, continue or use on data", values.path, metavar="FILE",
        default_text="the run's own"
    )  # fmt: skip
    run_name: str | None = row(
        None, FILES, "name of the run and its folders", values.name, metavar="NAME", default_text="the dataset's name",
        kept=True, per_machine=True, **EVERYWHERE
    )  # fmt: skip
    num_samples: int = row(
        10, FILES, "samples to draw; per class for a conditional model, per image for --fill_in", whole(1, 100_000),
        metavar="N", by={"points": 1000}, kept=True, verbs=("train", "sample", "fill_in")
    )  # fmt: skip
    labels: tuple[int, ...] = row(
        (), FILES, "names or numbers of the classes to draw", values.class_name, several=True, metavar="CLASS",
        default_text="all", models=tuple(name for name, entry in MODELS.items() if entry.labels != "never"),
        **OF_DRAWING
    )  # fmt: skip
    sample_and_save_frequency: int = row(
        5, FILES, "epochs between two kept checkpoints with pictures", whole(1), metavar="N",
        by={"few": Computed(f"at most {MOST_PICTURES} times", a_few_times), "points": 10, "vlae": 1}, **OF_TRAINING
    )  # fmt: skip
    save_every_steps: int = row(
        0, FILES, "also save the run's checkpoint every N steps of an epoch", whole(0), metavar="N",
        default_text="0: after each epoch only", added_later=True, **OF_TRAINING
    )  # fmt: skip
    checkpoint_dir: str = row(
        "model_ckpts", FILES, "folder for the checkpoints of all runs", values.path, metavar="DIR", **EVERYWHERE
    )
    output_dir: str = row(
        "outputs", FILES, "folder for the figures and pictures of all runs", values.path, metavar="DIR", **EVERYWHERE
    )
    tensorboard: bool = row(
        False, FILES, "also write curves and epoch pictures for TensorBoard", values.boolean, optional_value=True,
        metavar="BOOL", verbs=("train",), strict=True, kept=True, added_later=True, per_machine=True
    )  # fmt: skip

    device: str = row(
        "auto", MACHINE, "auto, cpu, gpu or gpu:N; auto: a GPU if there is one", values.device, metavar="DEVICE"
    )  # fmt: skip
    strategy: str = choice(
        "none", MACHINE, ("none", "mirrored", "multi_worker"), "train on several devices of this machine, or on "
        "several machines (TF_CONFIG)", verbs=("train",), strict=True
    )  # fmt: skip
    num_replicas: int | None = row(
        None, MACHINE, "with --strategy mirrored: use the first N GPUs, or N shares of the CPU", whole(1, 1024),
        metavar="N", default_text="all GPUs"
    )  # fmt: skip
    mixed_precision: bool = row(
        False, MACHINE, "compute the networks in bfloat16, for GPUs and CPUs that are fast at it; slower on other CPUs",
        values.boolean, optional_value=True, metavar="BOOL", kept=True, added_later=True, reported=True
    )  # fmt: skip


ROWS: dict[str, Row] = {field.name: field.metadata["row"] for field in dataclasses.fields(Settings)}
TYPES: dict[str, Any] = typing.get_type_hints(Settings)
DEFAULTS = Settings()


def names(**wanted: Any) -> tuple[str, ...]:
    """The settings whose rows have these properties, such as fixed=True."""
    return tuple(name for name, row in ROWS.items() if all(getattr(row, key) == value for key, value in wanted.items()))


def arguments_of(part: str, model: str) -> tuple[str, ...]:
    """The settings that are arguments of the "optimizer" or the "objective" of this model, and not of every model."""
    return tuple(name for name in names(argument_of=part) if model in ROWS[name].models)


def foreign_arguments(model: str) -> set[str]:
    """The settings that are arguments of the optimizer or the objective of other models only."""
    return {name for name, row in ROWS.items() if row.argument_of and model not in row.models}


def default_of(name: str, words: set[str], num_examples: int, settings: Mapping[str, Any]) -> Any:
    """The default of a setting where these conditions hold; `settings` has those of the rows above it."""
    default = getattr(DEFAULTS, name)
    for condition, value in ROWS[name].by.items():
        if set(condition.split()) <= words:
            default = value
    return default(num_examples, settings) if isinstance(default, Computed) else default


def as_stored(value: Any) -> Any:
    """The value as JSON stores it: tuples become lists."""
    return list(value) if isinstance(value, tuple) else value


def as_setting(value: Any) -> Any:
    """The value as Settings holds it: lists from JSON become tuples."""
    return tuple(value) if isinstance(value, list) else value


def stored_type(name: str) -> Any:
    """The type or types that a checkpoint's header has for a setting."""
    options = typing.get_args(TYPES[name]) if isinstance(TYPES[name], types.UnionType) else (TYPES[name],)
    kinds = []
    for option in options:
        origin = typing.get_origin(option) or option
        kinds += {tuple: [list], float: [int, float]}.get(origin, [origin])
    return tuple(kinds) if len(kinds) > 1 else kinds[0]
