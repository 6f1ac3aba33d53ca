"""What a run is, resolved once from flags, checkpoint and data into a frozen Run; and the names of its files.

Precedence: a flag that was given, then what the checkpoint stores, then the default for the model and the data.
"""

import dataclasses
import os
import pathlib
import shlex
from collections.abc import Mapping
from typing import Any

from app.folders import CHECKPOINT, PREVIOUS, Folders, without_ending
from app.rules import FlagError, contradiction, ignored, verbs_of
from app.settings import DEFAULTS, ROWS, Settings, as_setting, as_stored, default_of, names, stored_type
from data import DataError, Dataset, OutOfReachError, is_path, load_dataset, short_name
from parts.catalogue import LIKELIHOODS, MODELS, NETWORKS, bound_on
from storage.checkpoints import CheckpointError, read_header, refuse_differences, refuse_other_types

EVALUATION_SAMPLES = 100  # per example, with which --evaluate estimates log p(x)
FALLBACK = "mnist_sample"  # what a run without --dataset uses if MNIST is out of reach
# What the header of a run's checkpoint holds, by type, besides its settings.
HEADER = {
    "epoch": int,
    "history": [{"epoch": int}],
    "train_seconds": (int, float),
    "train_images": int,
    "fallback_from": (str, type(None)),
    "dataset": {"name": str, "source": str, "class_names": [str], "fingerprint": str},
    "model": {"model": str, "data_shape": [int], "num_classes": int},
    "config": {name: stored_type(name) for name in names(kept=True, added_later=False)},
    "iterations": int,
}
# The arguments of vae.build_model that are settings.
ARCHITECTURE = ("model", "latent_size", "network", "hidden_dims", "activation", "likelihood", "prior", "window")


@dataclasses.dataclass(frozen=True)
class Run:
    """One run: its settings, its files, and what its model is built from. Nothing edits it.

    Args:
        source: the checkpoint to continue, evaluate or sample; None for a new run.
        model_arguments: of vae.build_model.
        notes: messages for the user about how the settings were resolved.
    """

    settings: Settings
    folders: Folders
    source: pathlib.Path | None
    model_arguments: Mapping[str, Any]
    fallback_from: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def caption(self) -> str:
        """The line above every picture, without the dataset."""
        return f"run {self.settings.model}/{self.folders.name}"

    @property
    def is_conditional(self) -> bool:
        return bound_on(self.model_arguments) == "log p(x|y)"

    def stored(self) -> dict[str, Any]:
        """The settings that a continuation keeps, as a checkpoint's header holds them."""
        kept = {name: as_stored(getattr(self.settings, name)) for name in names(kept=True)}
        return kept | {"data_dir": str(pathlib.Path(self.settings.data_dir).resolve())}


def read_run(path: str | os.PathLike) -> dict[str, Any]:
    """The header of a run's checkpoint.

    Raises:
        CheckpointError: as `read_header`, or if something of HEADER is missing or of another type.
    """
    header = read_header(path)
    refuse_other_types(path, header, HEADER)
    for name, table in (("model", MODELS), ("network", NETWORKS), ("likelihood", LIKELIHOODS)):
        if header["config"][name] not in table:
            raise CheckpointError(f"{path} is of a {name} that this program does not know: {header['config'][name]}")
    later = {name: stored_type(name) for name in names(kept=True, added_later=True) if name in header["config"]}
    refuse_other_types(path, header["config"], later, "header's config")
    return header


def open_checkpoint(given: Mapping[str, Any]) -> tuple[pathlib.Path | None, dict[str, Any] | None]:
    """The checkpoint that these flags need and its header; None for a new run.

    Raises:
        CheckpointError: if it is not there, or the flags ask for another model or other data than its own.
        FlagError: if a flag cannot change at this point of the run.
    """
    if not (given.get("load_weights") or given.get("checkpoint")) and "train" in verbs_of(given):
        return None, None
    path = find_checkpoint(given)
    header = read_run(path)
    stored = header["config"]
    asked = {name: as_stored(given[name]) for name in names(fixed=True) if name in given}
    if "dataset" in asked and is_path(asked["dataset"]) and is_path(stored["dataset"]):
        del asked["dataset"]  # the same data may lie elsewhere now; their fingerprint is compared
    if asks_for_test_set(given, header):
        del asked["validation_size"]
    refuse_differences(path, stored | header["model"], asked)  # a model's arguments have default widths too
    if header.get("step") and "train" in verbs_of(given):
        for name in ("batch_size", "seed"):
            if given.get(name, stored[name]) != stored[name]:
                raise FlagError(f"--{name} can change only between epochs, and {path} is within one")
    refuse_labels(given, header["model"], path)
    return path, header


def asks_for_test_set(given: Mapping[str, Any], header: Mapping[str, Any]) -> bool:
    """Whether a model that was chosen on a validation split is to be tested now."""
    is_test = "evaluate" in verbs_of(given) and "train" not in verbs_of(given)
    return is_test and given.get("validation_size") == 0 and header["config"]["validation_size"] > 0


def refuse_labels(given: Mapping[str, Any], model: Mapping[str, Any], path: str | os.PathLike = "") -> None:
    """Raise a FlagError or CheckpointError unless the model can draw these classes."""
    labels = given.get("labels")
    if not labels:
        return
    if path and MODELS[model["model"]].labels == "never":
        raise CheckpointError(f"--labels needs a conditional model, but {path} holds a {model['model']}")
    if not model["num_classes"]:
        raise FlagError("--labels needs classes, and the data have none")
    if max(labels) >= model["num_classes"]:
        raise FlagError(f"--labels {max(labels)}: there are classes 0 to {model['num_classes'] - 1} only")
    if bound_on(model) == "log p(x)":
        raise FlagError("--labels needs a prior that knows classes, and this model's is standard")


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


def own_folders(given: Mapping[str, Any]) -> Folders:
    """The folders of the run that these settings name; they need not exist."""
    model, dataset = (given.get(name, getattr(DEFAULTS, name)) for name in ("model", "dataset"))
    return folders_of(given, model, given.get("run_name") or default_run_name(dataset))


def default_run_name(dataset: str) -> str:
    """The dataset's name. The ending of runs that were set aside, .previous, becomes -previous."""
    name = short_name(dataset)
    return name if without_ending(name) == name else name.replace(PREVIOUS, "-previous")


def folders_of(given: Mapping[str, Any], model: str, run_name: str) -> Folders:
    roots = (pathlib.Path(given.get(name, getattr(DEFAULTS, name))) for name in ("checkpoint_dir", "output_dir"))
    return Folders(model, *(root / model / run_name for root in roots))


def run_of_file(path: pathlib.Path, model: str) -> str:
    """The name of the run that a checkpoint belongs to: that of its folder in MODEL/RUN, elsewhere that of the file."""
    folder = pathlib.Path(os.path.abspath(path)).parent  # a linked folder is a run of its own name
    return folder.name if folder.parent.name == model else path.name.removesuffix(CHECKPOINT).strip(".") or model


def choose_folders(given: Mapping[str, Any], source: pathlib.Path | None, header: Mapping[str, Any] | None) -> Folders:
    """The folders of a new run, or of the run that its checkpoint belongs to, unless --run_name says otherwise."""
    if source is None or "checkpoint" not in given:
        model = header["config"]["model"] if header else given.get("model", DEFAULTS.model)
        return folders_of(given, model, source.parent.name) if source else own_folders(given)
    model = header["config"]["model"]
    name = given.get("run_name") or run_of_file(source, model)
    if "train" in verbs_of(given):
        name = without_ending(name)
    return folders_of(given, model, name)


def open_dataset(given: Mapping[str, Any], header: Mapping[str, Any] | None) -> tuple[Dataset, str | None, list[str]]:
    """The data of the run; without --dataset, MNIST or else the sample of it that needs no network.

    Returns:
        The dataset, what was asked for if it fell back to another, and notes for the user.

    Raises:
        DataError: if it cannot be had or is not the one of the checkpoint.
    """
    stored = header["config"] if header else {}
    data_settings = {name: getattr(DEFAULTS, name) for name in ("dataset", "data_dir", "image_size", "validation_size")}
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
    if header and asks_for_test_set(given, header):
        trained_on = dataset.hold_out(header["config"]["validation_size"]).train
        dataset = dataclasses.replace(dataset, train=trained_on)
    elif data_settings["validation_size"]:
        dataset = dataset.hold_out(data_settings["validation_size"])
    return dataset, fallback_from, notes


def refuse_other_data(dataset: Dataset, header: Mapping[str, Any], *, must_match: bool) -> None:
    """Raise a DataError unless a checkpoint can be continued or evaluated with this dataset, before its hold-out.

    Test figures may use a named dataset from another source, in another order. Validation figures may not.
    """
    shapes = {"data_shape": list(dataset.data_shape), "num_classes": dataset.num_classes}
    for name, found in shapes.items():
        if header["model"][name] != found:
            raise DataError(
                f"{dataset.name} from {dataset.source} has {name} {found}, the checkpoint {header['model'][name]}"
            )
    held_out = header["config"]["validation_size"]
    if not must_match and not held_out:
        return
    trained_on = dataset.hold_out(held_out) if held_out else dataset
    if trained_on.fingerprint() != header["dataset"]["fingerprint"]:
        raise DataError(
            f"{dataset.name} from {dataset.source} has other examples or labels, or another order of them, "
            f"than the checkpoint's from {header['dataset']['source']}"
        )


def resolve(
    given: Mapping[str, Any],
    source: pathlib.Path | None,
    header: Mapping[str, Any] | None,
    dataset: Dataset | None,
    fallback_from: str | None = None,
) -> Run:
    """The run that flags, checkpoint and data define. `dataset` may be None if the checkpoint needs no data.

    Raises:
        FlagError: for settings that contradict the data or one another.
    """
    folders, notes, verbs = choose_folders(given, source, header), [], verbs_of(given)
    if header is None:
        fallback = {"dataset": FALLBACK} if fallback_from else {}
        if fallback_from and "run_name" not in given:
            folders = own_folders({**given, **fallback})
        values = defaults_for(given, dataset) | fallback
        arguments = {name: as_stored(values[name]) for name in ARCHITECTURE}
        arguments |= {"data_shape": list(dataset.data_shape), "num_classes": dataset.num_classes}
        refuse_labels(given, arguments)
        refuse_data(values, dataset)
    else:
        without_effect = ignored(given, verbs)
        notes += [f"NOTE: ignored here: --{', --'.join(without_effect)}"] if without_effect else []
        stored, arguments = header["config"], header["model"]
        values = dataclasses.asdict(DEFAULTS) | {
            name: as_setting(stored[name]) for name in names(kept=True) if name in stored
        }
        values |= {name: as_setting(arguments[name]) for name in ARCHITECTURE if name in arguments}
        values |= {name: value for name, value in given.items() if name not in without_effect}
        values["run_name"] = given.get("run_name", stored["run_name"])
        changed = [name for name in names(per_epoch=True) if "train" in verbs and values[name] != stored[name]]
        notes += [f"{name}: {values[name]:g} from now on, {stored[name]:g} before" for name in changed]
    if dataset is not None and "train" in verbs:
        refuse_batch_size(values, dataset)
    if values["num_importance_samples"] is None:
        values["num_importance_samples"] = EVALUATION_SAMPLES if "evaluate" in verbs else 0
    values |= {verb: verb in verbs for verb in ("train", "evaluate", "sample")}
    fallback_from = header["fallback_from"] if header else fallback_from
    return Run(Settings(**values), folders, source, arguments, fallback_from, tuple(notes))


def defaults_for(given: Mapping[str, Any], dataset: Dataset) -> dict[str, Any]:
    """Every setting of a new run: as given, else the default for the model and the data."""
    words = {given.get("model", DEFAULTS.model), dataset.kind(), *asked_pixels(given)}
    words |= set() if dataset.is_points else {"images", "few" if dataset.is_small else "many"}
    settings = {}
    for name in ROWS:
        settings[name] = given[name] if name in given else default_of(name, words, len(dataset.train), settings)
        if name == "network":
            words.add(settings[name])
    return settings


def asked_pixels(given: Mapping[str, Any]) -> set[str]:
    """ "binary" or "levels" where --binarize or --likelihood asked for such pixels."""
    if given.get("binarize", "none") != "none":
        return {"binary"}
    is_other_likelihood = "likelihood" in given and LIKELIHOODS[given["likelihood"]].pixels != "binary"
    return {"levels"} if "binarize" in given or is_other_likelihood else set()


def refuse_data(settings: Mapping[str, Any], dataset: Dataset) -> None:
    """Raise a FlagError or DataError for settings of a new run that make no sense for the data."""
    if MODELS[settings["model"]].labels == "always" and not dataset.num_classes:
        raise DataError(f"--model {settings['model']} needs labels, and {dataset.name} has none: use --model vae")
    if sentence := contradiction(settings, dataset.kind(), dataset.name):
        raise FlagError(sentence)


def refuse_batch_size(settings: Mapping[str, Any], dataset: Dataset) -> None:
    if settings["batch_size"] > len(dataset.train):
        raise FlagError(
            f"--batch_size {settings['batch_size']} is more than the {len(dataset.train)} training examples"
        )
