"""Flags, a checkpoint and the data -> the values that a run goes by, and the names of its files."""

import os
import pathlib
import shlex
from typing import Any

from app import flags
from data import is_path, short_name
from sources.examples import Dataset
from storage.checkpoints import CheckpointError, read_header, refuse_differences, refuse_other_types

EVALUATION_SAMPLES = 100  # of --evaluate, to estimate log p(x) with
FALLBACK = "mnist_sample"  # what the run without --dataset uses where MNIST is out of reach
# A variational lossy autoencoder, where it differs; found on held-out training images (README).
VLAE_DEFAULTS = {
    "latent_size": 12,
    "num_epochs": 30,
    "warmup_epochs": 2,
    "prior": "flow",
    "sample_and_save_frequency": 1,
}
VLAE_IMAGE_DEFAULTS = {"network": "resnet", "activation": "elu", "learning_rate": 2e-3, "window": 7}
# What a checkpoint fixes: asking for something else is refused.
FIXED = ("model", "dataset", "image_size", "latent_size", "hidden_dims", "network", "activation", "likelihood",
         "prior", "window", "binarize", "validation_size")  # fmt: skip
# What a run passes on to its continuation unless it is given anew.
KEPT = (*FIXED, "data_dir", "num_epochs", "batch_size", "learning_rate", "beta", "warmup_epochs", "free_bits",
        "run_name", "num_samples", "sample_and_save_frequency", "save_every_steps", "mixed_precision",
        "seed")  # fmt: skip
# What has no effect where nothing is trained, or where nothing is drawn either.
OF_TRAINING = ("num_epochs", "batch_size", "learning_rate", "beta", "warmup_epochs", "free_bits",
               "sample_and_save_frequency", "save_every_steps")  # fmt: skip
OF_DRAWING = ("num_samples", "labels")
CHANGEABLE = ("batch_size", "beta", "warmup_epochs", "free_bits", "learning_rate", "seed")  # between epochs
OF_MACHINE = ("dataset", "data_dir", "run_name")  # what may differ among the machines of a run
NAMING = ("model", "dataset", "run_name", "checkpoint_dir")  # what says where a run's own checkpoint is
# What the header of a run's checkpoint tells, by type.
NUMBER, NONE = (int, float), type(None)
RUN = {
    "epoch": int,
    "history": [{"epoch": int}],
    "train_seconds": NUMBER,
    "train_images": int,
    "fallback_from": (str, NONE),
    "dataset": {"name": str, "source": str, "class_names": [str], "fingerprint": str},
    "model": {"model": str, "data_shape": [int], "num_classes": int},
    "config": {
        **dict.fromkeys(("model", "dataset", "network", "activation", "likelihood", "binarize", "data_dir"), str),
        **dict.fromkeys(("latent_size", "batch_size", "num_epochs", "num_samples", "validation_size", "seed"), int),
        **dict.fromkeys(("learning_rate", "beta", "warmup_epochs", "free_bits"), NUMBER),
        "sample_and_save_frequency": int,
        "image_size": (list, NONE),
        "hidden_dims": (list, NONE),
        "run_name": (str, NONE),
    },
}


def resolve_config(given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Defaults, overridden by what the checkpoint stores if one is used, overridden by the flags that were given.

    Returns the config, and the header of the checkpoint or None. Without a checkpoint `suit_data` has to follow.
    """
    config = {**flags.DEFAULTS, "train": not (given.get("evaluate") or given.get("sample")), "evaluate": False}
    config |= {"sample": False, "load_weights": False, "checkpoint": None, "offline": False, "tensorboard": False}
    config["mixed_precision"] = False
    config |= given
    config["dataset_given"] = "dataset" in given
    if config["num_importance_samples"] is None:
        config["num_importance_samples"] = EVALUATION_SAMPLES if config["evaluate"] else 0
    if not (config["load_weights"] or config["checkpoint"] or not config["train"]):
        return config, None
    path = find_checkpoint(config)
    header = read_run(path)
    stored = header["config"]
    asked = {name: given[name] for name in FIXED if name in given}
    if "dataset" in asked and is_path(asked["dataset"]) and is_path(stored["dataset"]):
        del asked["dataset"]  # the same data may lie elsewhere now; their fingerprint is compared
    refuse_differences(path, stored | header["model"], asked)  # a model knows also what was left to its network
    idle = () if config["train"] else OF_TRAINING if config["sample"] else OF_TRAINING + OF_DRAWING
    idle = [name for name in idle if name in given]
    if idle:
        print(f"NOTE: without effect here: --{', --'.join(idle)}")
    config |= {name: stored[name] for name in KEPT if name in stored and (name not in given or name in idle)}
    config |= {"checkpoint": str(path), "dataset_given": True}
    changed = [name for name in CHANGEABLE if config["train"] and config[name] != stored[name]]
    for name in changed:
        if name in ("batch_size", "seed") and header.get("step"):
            raise flags.FlagError(f"--{name} can change only between epochs, and {path} is within one")
    for name in changed:
        print(f"{name}: {config[name]:g} from now on, {stored[name]:g} before")
    if config["labels"] and config["model"] == "vae":
        raise CheckpointError(f"--labels needs a conditional model, but {path} holds a vae")
    return config, header


def read_run(path: str | os.PathLike) -> dict[str, Any]:
    """The header of a run's checkpoint.

    Raises:
        CheckpointError: as `read_header`, or if something of RUN is missing or of another type.
    """
    header = read_header(path)
    refuse_other_types(path, header, RUN)
    return header


def suit_data(config: dict[str, Any], given: dict[str, Any], dataset: Dataset) -> dict[str, Any]:
    """The config of a new run with what suits the data wherever nothing was asked for.

    Raises:
        FlagError: for a likelihood, network, binarization or window that makes no sense for them.
    """
    defaults = {**dataset.defaults(given.get("batch_size"))}
    if config["model"] == "vlae":
        defaults |= vlae_defaults(dataset, given, defaults)
    if given.get("binarize", "none") != "none":
        defaults["likelihood"] = "bernoulli"
    suited = config | {name: value for name, value in defaults.items() if name not in given}
    if "batch_size" not in given:
        suited["batch_size"] = min(suited["batch_size"], len(dataset.train))
    likelihood, binarize = suited["likelihood"], suited["binarize"]
    if dataset.is_points:
        if binarize != "none":
            raise flags.FlagError(f"--binarize {binarize} is for images, and {dataset.name} are points")
        if likelihood in ("bernoulli", "logistic"):
            raise flags.FlagError(f"--likelihood {likelihood} is for pixels: points need sigma or gaussian")
        if suited["network"] != "mlp":
            raise flags.FlagError(f"--network {suited['network']} is for images: points need mlp")
    if suited["window"]:
        refuse_window(dataset, likelihood, binarize, suited["window"])
    return suited


def vlae_defaults(dataset: Dataset, given: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """What suits a VLAE on these data: drawings are binarized, grey and colour images keep their 256 levels."""
    if dataset.is_points:
        return {name: VLAE_DEFAULTS[name] for name in ("prior", "sample_and_save_frequency")}
    settings = VLAE_DEFAULTS | VLAE_IMAGE_DEFAULTS
    for name in ("latent_size", "num_epochs"):
        settings[name] = max(settings[name], defaults.get(name, 0))
    is_binary = dataset.data_shape[-1] == 1 and dataset.is_near_binary()
    if is_binary and given.get("likelihood", "bernoulli") == "bernoulli" and "binarize" not in given:
        return settings | {"binarize": "dynamic"}
    return settings | {"likelihood": "logistic"}


def refuse_window(dataset: Dataset, likelihood: str, binarize: str, window: int) -> None:
    """Raise a FlagError unless p(x|z) can be autoregressive over a window of this size."""
    if dataset.is_points:
        raise flags.FlagError(f"--window {window} is for images, and {dataset.name} are points")
    if likelihood not in ("bernoulli", "logistic"):
        raise flags.FlagError(flags.NO_WINDOW.format(likelihood))
    if likelihood == "bernoulli" and binarize == "none":
        raise flags.FlagError(
            "--likelihood bernoulli with a window needs binary pixels: --binarize dynamic or threshold"
        )


def find_checkpoint(config: dict[str, Any]) -> pathlib.Path:
    """--checkpoint, else the run's own; a run that fell back to other data is found without naming it.

    Raises:
        CheckpointError: if it is not there.
    """
    own = checkpoint_path(config)
    if config["checkpoint"]:
        path = pathlib.Path(config["checkpoint"])
        if not path.is_file():
            raise CheckpointError(f"there is no checkpoint at {path}: --checkpoint takes a file, such as {own}")
        return path
    if own.exists():
        return own
    fallback = checkpoint_path({**config, "dataset": FALLBACK})
    if not config["dataset_given"] and fallback.exists():
        return fallback
    named = [name for name in NAMING if config[name] != flags.DEFAULTS[name]]
    command = shlex.join(["python", "assignment.py", *(part for name in named for part in (f"--{name}", config[name]))])
    raise CheckpointError(f"there is no checkpoint at {own}: train first ({command}), or name a file with --checkpoint")


def run_folders(config: dict[str, Any]) -> tuple[pathlib.Path, pathlib.Path]:
    """Where a run keeps its checkpoints and its figures and pictures."""
    run = pathlib.Path(config["model"], config["run_name"] or short_name(config["dataset"]))
    return pathlib.Path(config["checkpoint_dir"]) / run, pathlib.Path(config["output_dir"]) / run


def checkpoint_path(config: dict[str, Any], epoch: int | None = None) -> pathlib.Path:
    """The run's newest checkpoint, or the one kept of an epoch."""
    stem = config["model"] if epoch is None else f"epoch_{epoch:03d}"
    return run_folders(config)[0] / f"{stem}.weights.h5"
