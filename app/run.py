"""What a run is, resolved once from flags, checkpoint and data into a frozen Run; and the names of its files.

Precedence: a flag that was given, then what the checkpoint stores, then the default for the model and the data.
"""

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from app.folders import CHECKPOINT, PREVIOUS, Folders, without_ending
from app.rules import FlagError, contradiction, ignored, verbs_of
from app.settings import DEFAULTS, ROWS, Settings, as_setting, as_stored, default_of, names, stored_type
from app.values import suggestion
from data import DataError, Dataset, short_name
from parts.catalogue import LIKELIHOODS, MODELS, NETWORKS, bound_on
from storage.checkpoints import CheckpointError, read_header, refuse_other_types

EVALUATION_SAMPLES = 100  # per example, with which --evaluate and --score estimate log p(x)
COMPLETED = 20  # images, by --fill_in
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
    def continues_itself(self) -> bool:
        """Whether it starts from a checkpoint in its own folder."""
        return self.source is not None and self.source.parent.resolve() == self.folders.checkpoints.resolve()

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


def drawn_classes(labels: Sequence[str], model: Mapping[str, Any], class_names: Sequence[str]) -> tuple[int, ...]:
    """The numbers of the classes that --labels names.

    Args:
        model: the arguments of the model.
        class_names: of the model.

    Raises:
        FlagError: if the model cannot draw these classes.
    """
    if not labels:
        return ()
    if MODELS[model["model"]].labels == "never":
        raise FlagError(f"--labels needs a conditional model, and this is a {model['model']}")
    if not model["num_classes"]:
        raise FlagError("--labels needs classes, and this model knows none")
    if bound_on(model) == "log p(x)":
        raise FlagError("--labels needs a prior that knows classes, and this model's is standard")
    return class_numbers("labels", labels, class_names, "the model")


def class_numbers(flag: str, classes: Sequence[str], class_names: Sequence[str], owner: str) -> tuple[int, ...]:
    """The numbers of classes that a flag gives by name or by number; a name counts before a number.

    Raises:
        FlagError: for a class that `owner` does not have.
    """
    by_number = {str(number): number for number in range(len(class_names))}
    numbers = by_number | {name: number for number, name in reversed([*enumerate(class_names)])}
    for name in classes:
        if name not in numbers:
            shown = ", ".join(class_names[:10]) + ", ..." * (len(class_names) > 10)
            meant = "" if name.isdecimal() else suggestion(name, class_names)
            shown += f" (or 0 to {len(class_names) - 1})" * (numbers != by_number)
            raise FlagError(f"--{flag} {name}: {owner} has no such class, but {shown}{meant}")
    return tuple(numbers[name] for name in classes)


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
    verbs = verbs_of(given)
    if header is None:
        values = settings_of_new_run(given, dataset, fallback_from)
        arguments = {name: as_stored(values[name]) for name in names(builds_model=True)}
        arguments["data_shape"] = list(dataset.data_shape)
        arguments["num_classes"] = 0 if values["unconditional"] else dataset.num_classes
        if MODELS[values["model"]].infers_labels and values["num_labels"] is None:
            arguments["class_prior"] = dataset.class_prior().tolist()
        notes, class_names = [], dataset.names_in_model
        # A run that fell back to other data is named after those.
        folders = choose_folders({**given, "dataset": values["dataset"]}, None, None)
    else:
        values, notes = settings_of_checkpoint(given, header)
        arguments, fallback_from = header["model"], header["fallback_from"]
        class_names = header["dataset"]["class_names"]
        if len(arguments["data_shape"]) == 1 and (
            sentence := contradiction(values, "points", header["dataset"]["name"], given)
        ):
            raise FlagError(sentence)
        folders = choose_folders(given, source, header)
    values["labels"] = drawn_classes(values["labels"], arguments, class_names)
    if "train" in verbs and values["batch_size"] > len(dataset.train):
        raise FlagError(f"--batch_size {values['batch_size']} is more than the {len(dataset.train)} training examples")
    infers = MODELS[values["model"]].infers_labels
    if "train" in verbs and infers and dataset.is_partly_labelled and values["batch_size"] == 1:
        raise FlagError("--batch_size 1 has no room for examples with a label and without one: give 2 or more")
    if values["num_importance_samples"] is None:
        values["num_importance_samples"] = EVALUATION_SAMPLES if verbs & {"evaluate", "score"} else 0
    if values["max_examples"] is None and "fill_in" in verbs:
        values["max_examples"] = COMPLETED
    values |= {verb: verb in verbs for verb in ("train", "evaluate", "sample")}
    return Run(Settings(**values), folders, source, arguments, fallback_from, tuple(notes))


def settings_of_checkpoint(given: Mapping[str, Any], header: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Every setting of a run that starts from a checkpoint, and notes on what is ignored or has changed."""
    stored, verbs, notes = header["config"], verbs_of(given), []
    values = dataclasses.asdict(DEFAULTS)
    values |= {name: as_setting(stored[name]) for name in names(kept=True) if name in stored}
    values |= {name: as_setting(header["model"][name]) for name in names(builds_model=True) if name in header["model"]}
    without_effect = ignored(given, verbs)
    if without_effect:
        notes.append(f"NOTE: ignored here: --{', --'.join(without_effect)}")
    values |= {name: value for name, value in given.items() if name not in without_effect}
    for name in names(per_epoch=True) if "train" in verbs else ():
        before = stored.get(name, getattr(DEFAULTS, name))
        if values[name] != before:
            notes.append(f"{name}: {shown(values[name])} from now on, {shown(before)} before")
    return values, notes


def shown(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.12g}"


def settings_of_new_run(given: Mapping[str, Any], dataset: Dataset, fallback_from: str | None) -> dict[str, Any]:
    """Every setting of a new run.

    Raises:
        FlagError, DataError: for settings that make no sense for the data.
    """
    values = defaults_for(given, dataset)
    model = MODELS[values["model"]]
    if model.labels == "always" and not dataset.num_classes:
        raise DataError(f"--model {values['model']} needs labels, and {dataset.name} has none: use --model vae")
    if model.infers_labels and dataset.has_several_labels():
        raise DataError(
            f"--model {values['model']} needs examples of one class each, {dataset.name} has several labels"
        )
    needs_all = model.is_conditional(dataset.num_classes * (not values["unconditional"]), values["prior"])
    if dataset.is_partly_labelled and needs_all and not model.infers_labels:
        raise DataError(
            f"--model {values['model']} needs a label for every example, and only {len(dataset.labelled):,} of "
            f"{len(dataset.train):,} training examples of {dataset.name} have one: use --model m2"
        )
    if sentence := contradiction(values, dataset.kind(), dataset.name, given):
        raise FlagError(sentence)
    needless = [name for name in ("consistency", "augmentation") if given.get(name)]
    if needless and not dataset.is_partly_labelled:
        raise FlagError(
            f"--{needless[0]} needs examples without a label, and {dataset.name} has none: use --num_labels"
        )
    return values | ({"dataset": dataset.name} if fallback_from else {})


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
