"""What a run starts from, opened and checked: its checkpoint and its data."""

import dataclasses
import pathlib
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from app.rules import FlagError, starts_anew, verbs_of
from app.run import own_folders, read_run
from app.settings import DEFAULTS, as_setting, as_stored, names
from data import DataError, Dataset, OutOfReachError, is_path, load_dataset
from parts.catalogue import MODELS
from storage.checkpoints import CheckpointError, refuse_differences

FALLBACK = "mnist_sample"  # what the run without --dataset uses where MNIST is out of reach


def open_checkpoint(given: Mapping[str, Any]) -> tuple[pathlib.Path | None, dict[str, Any] | None]:
    """The checkpoint that these flags need and its header; None for a new run.

    Raises:
        CheckpointError: if it is not there, or the flags ask for another model or other data than its own.
        FlagError: if a flag cannot change at this point of the run.
    """
    if starts_anew(given):
        return None, None
    path = find_checkpoint(given)
    header = read_run(path)
    stored = header["config"]
    asked = asked_of(given, stored, names(fixed=True))
    if asks_for_test_set(given, header):
        del asked["validation_size"]
    refuse_differences(path, stored | header["model"], asked)  # a model's arguments have default widths too
    if header.get("step") and "train" in verbs_of(given):
        for name in ("batch_size", "seed"):
            if given.get(name, stored[name]) != stored[name]:
                raise FlagError(f"--{name} can change only between epochs, and {path} is within one")
    return path, header


def open_features(given: Mapping[str, Any]) -> dict[str, Any] | None:
    """The header of the VAE of --features, if it is given. It is not needed to go on with a run.

    Raises:
        CheckpointError: if there is no such VAE, and a new run needs it.
    """
    if "features" not in given:
        return None
    try:
        return read_run(given["features"])
    except CheckpointError as error:
        if starts_anew(given):
            raise CheckpointError(f"--features: {error}") from None
        return None


def with_features(given: Mapping[str, Any], header: Mapping[str, Any]) -> Mapping[str, Any]:
    """The flags of a new run, and with them what the VAE of --features fixes: its data and its networks.

    Raises:
        CheckpointError: if it is another model, or the flags ask for other data or networks than its own.
    """
    path = given["features"]
    if MODELS[header["config"]["model"]].labels != "never":
        raise CheckpointError(f"--features needs a VAE, and {path} holds a {header['config']['model']}")
    fixed = ("dataset", "data_dir", "image_size", "binarize", "validation_size")
    networks = ("latent_size", "likelihood", "network", "hidden_dims", "activation")
    of_run = header["config"] | header["model"]  # a model's arguments have default widths too
    stored = {name: of_run[name] for name in (*fixed, *networks)}
    try:
        refuse_differences(path, stored, asked_of(given, stored, [name for name in stored if name != "data_dir"]))
    except CheckpointError as error:
        raise CheckpointError(f"--features {error}. Leave that flag out, or train a VAE with it") from None
    taken = {name: as_setting(value) for name, value in stored.items()} | dict(given)
    return taken | {"features": str(pathlib.Path(path).resolve())}


def asked_of(given: Mapping[str, Any], stored: Mapping[str, Any], compared: Iterable[str]) -> dict[str, Any]:
    """The flags of these names that were given, to be compared with what a checkpoint stores."""
    asked = {name: as_stored(given[name]) for name in compared if name in given}
    if "dataset" in asked and is_path(asked["dataset"]) and is_path(stored["dataset"]):
        del asked["dataset"]  # the same data may lie elsewhere now; their fingerprint is compared
    return asked


def asks_for_test_set(given: Mapping[str, Any], header: Mapping[str, Any]) -> bool:
    """Whether a model that was chosen on a validation split is to be tested now."""
    is_test = "evaluate" in verbs_of(given) and "train" not in verbs_of(given)
    return is_test and given.get("validation_size") == 0 and header["config"]["validation_size"] > 0


def find_checkpoint(given: Mapping[str, Any]) -> pathlib.Path:
    """--checkpoint, else the run's own. Without --dataset this may be the run that fell back to other data.

    Raises:
        CheckpointError: if it is not there.
    """
    own = own_folders(given).newest
    if "checkpoint" in given:
        path = pathlib.Path(given["checkpoint"])
        if not path.is_file():
            raise CheckpointError(f"there is no checkpoint at {path}: --checkpoint takes a file, such as {own}")
        return path
    if own.exists():
        return own
    fallback = own_folders({**given, "dataset": FALLBACK}).newest
    if "dataset" not in given and fallback.exists():
        return fallback
    named_by = ("model", "dataset", "run_name", "checkpoint_dir")
    needed = [name for name in named_by if given.get(name, getattr(DEFAULTS, name)) != getattr(DEFAULTS, name)]
    command = shlex.join(["python", "assignment.py", *(part for name in needed for part in (f"--{name}", given[name]))])
    raise CheckpointError(f"there is no checkpoint at {own}: train first ({command}), or name a file with --checkpoint")


def open_dataset(
    given: Mapping[str, Any], header: Mapping[str, Any] | None, features: Mapping[str, Any] | None = None
) -> tuple[Dataset, str | None, list[str]]:
    """The data of the run; without --dataset, MNIST or else the sample of it that needs no network.

    Args:
        header, features: of the run's checkpoint, and of that which a new run takes networks from.

    Returns:
        The dataset, what was asked for if it fell back to another, and notes for the user.

    Raises:
        DataError: if it cannot be had or is not the one of the checkpoints.
    """
    stored = header["config"] if header else {}
    of_data = ("dataset", "data_dir", "image_size", "validation_size", "num_labels", "label_seed")
    data_settings = {name: getattr(DEFAULTS, name) for name in of_data}
    data_settings |= {name: as_setting(stored[name]) for name in data_settings if name in stored}
    data_settings |= {name: given[name] for name in data_settings if name in given}
    offline, fallback_from, notes = given.get("offline", False), None, []
    try:
        dataset = load_dataset(
            data_settings["dataset"], data_settings["data_dir"], image_size=data_settings["image_size"], offline=offline
        )
    except OutOfReachError as error:
        if "dataset" in given or header:
            raise
        notes.append(
            f"NOTE: MNIST is out of reach, so this run uses {FALLBACK}, 5,000 digits with figures of its own. {error}"
        )
        fallback_from = data_settings["dataset"]
        dataset = load_dataset(FALLBACK, image_size=data_settings["image_size"])
    if header:
        refuse_other_data(dataset, header, must_match="train" in verbs_of(given) or is_path(data_settings["dataset"]))
    elif features:
        refuse_other_data(dataset, features, must_match=is_path(data_settings["dataset"]))
    if header and asks_for_test_set(given, header):
        trained_on = as_trained_on(dataset, header["config"])
        trained_on = dataclasses.replace(trained_on, test=dataset.test, split=dataset.split, notes=dataset.notes)
        return trained_on, fallback_from, notes
    return as_trained_on(dataset, data_settings), fallback_from, notes


def as_trained_on(dataset: Dataset, settings: Mapping[str, Any]) -> Dataset:
    """What a run with these settings has of its data: without the hold-out, and with the labels that it may know.

    Raises:
        DataError: as `Dataset.hold_out` and `Dataset.hide_labels`.
    """
    held_out = dataset.hold_out(settings["validation_size"])
    return held_out.hide_labels(settings.get("num_labels"), settings.get("label_seed", DEFAULTS.label_seed))


def refuse_other_data(dataset: Dataset, header: Mapping[str, Any], *, must_match: bool) -> None:
    """Raise a DataError unless a checkpoint can be continued or evaluated with this dataset, before its hold-out.

    Test figures may use a named dataset from another source, in another order. Validation figures may not.
    """
    # An unconditional model knows no classes, but the data that it was trained on may have some.
    shapes = {
        "data_shape": (list(dataset.data_shape), header["model"]["data_shape"]),
        "num_classes": (dataset.num_classes, len(header["dataset"]["class_names"])),
    }
    for name, (found, stored) in shapes.items():
        if found != stored:
            raise DataError(f"{dataset.name} from {dataset.source} has {name} {found}, the checkpoint {stored}")
    config = header["config"]
    if not must_match and not config["validation_size"]:
        return
    if as_trained_on(dataset, config).fingerprint() != header["dataset"]["fingerprint"]:
        raise DataError(
            f"{dataset.name} from {dataset.source} has other examples or labels, or another order of them, "
            f"than the checkpoint's from {header['dataset']['source']}"
        )
