"""What is checked before TensorFlow is imported: the checkpoint, the data, and the run that they define."""

import dataclasses
import importlib.util
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from app.folders import is_newer, previous
from app.inputs import open_checkpoint, open_dataset, open_features, with_features
from app.records import read_history
from app.rules import NOTHING_MISSING, FlagError, starts_anew, verbs_of
from app.run import Run, class_numbers, resolve
from app.settings import DEFAULTS, ON_DATA
from data import Dataset, load_others, open_stream
from parts.catalogue import MODELS, NETWORKS
from trained.inputs import shared_classes

if TYPE_CHECKING:  # it imports Pillow
    from sources.streams import Stream


@dataclasses.dataclass(frozen=True)
class Source:
    """What a run starts from: the flags that were given, and the checkpoint that they name, with its header; and the
    header of the checkpoint that a new run takes networks from."""

    given: Mapping[str, Any]
    checkpoint: pathlib.Path | None
    header: Mapping[str, Any] | None
    features: Mapping[str, Any] | None

    def setting(self, name: str) -> Any:
        """A setting as given, as stored, or its default where that does not depend on the data."""
        stored = self.header["config"] if self.header else {}
        return self.given.get(name, stored.get(name, getattr(DEFAULTS, name)))

    @property
    def has_large_steps(self) -> bool:
        return MODELS[self.setting("model")].large_steps or NETWORKS[self.setting("network")].large_steps


@dataclasses.dataclass(frozen=True)
class Plan:
    """A run, the header of the checkpoint that it starts from, its data if it needs any, those of --ood_dataset, and
    those that its model is put to use on."""

    run: Run
    header: Mapping[str, Any] | None
    dataset: Dataset | None
    other_data: Dataset | None
    stream: "Stream | None"
    notes: Sequence[str]

    @property
    def dataset_name(self) -> str:
        return self.dataset.name if self.dataset else self.header["dataset"]["name"]

    @property
    def class_names(self) -> Sequence[str]:
        return self.dataset.names_in_model if self.dataset else self.header["dataset"]["class_names"]

    def lines(self) -> list[str]:
        """What the user should know before the work begins."""
        if self.stream:
            return [*self.notes, self.stream.describe()]
        data = [self.dataset.describe(), *(f"NOTE: {note}" for note in self.dataset.notes)] if self.dataset else []
        return [*self.notes, *data]


def open_source(given: Mapping[str, Any]) -> Source:
    """The flags and the checkpoint that they name. Raises CheckpointError or FlagError, see `open_checkpoint`."""
    features = open_features(given)
    if features and starts_anew(given):
        given = with_features(given, features)
    elif features:  # the run is named after its data
        given = {"dataset": features["config"]["dataset"], **given}
    source = Source(given, *open_checkpoint(given), features if starts_anew(given) else None)
    strategy, model = source.setting("strategy"), source.setting("model")
    if strategy != DEFAULTS.strategy and MODELS[model].infers_labels and "train" in verbs_of(given):
        raise FlagError(f"--strategy {strategy}: a model that infers labels, as {model}, trains on one device")
    return source


def make_plan(source: Source) -> Plan:
    """Read the data and resolve the run.

    Raises:
        UserError: for whatever is wrong with data, checkpoint or flags.
    """
    given, header = source.given, source.header
    verbs = verbs_of(given)
    if source.setting("tensorboard") and "train" in verbs:
        require("tensorboard", "tensorboard", "--tensorboard")
    if verbs & {"compress", "decompress"}:
        require("constriction", "compression", f"--{verbs.pop()}")
    dataset, fallback_from, notes = None, None, []
    of_points = header is not None and len(header["model"]["data_shape"]) == 1
    draws_points = "sample" in verbs and of_points  # they are shown beside the data
    if verbs & {"train", "evaluate", "explore"} or draws_points:
        dataset, fallback_from, notes = open_dataset(given, header, source.features)
    run = resolve(given, source.checkpoint, header, dataset, fallback_from)
    refuse_figures_of_another_run(run, header)
    refuse_idle_training(run, header)
    stream = open_stream_of(run, header)
    return Plan(run, header, dataset, open_other_data(run, dataset), stream, [*run.notes, *notes])


def require(package: str, requirements: str, flag: str) -> None:
    """Raise a FlagError where a package is not installed that only this flag needs."""
    if importlib.util.find_spec(package) is None:
        raise FlagError(f"{flag} needs the package {package}: pip install -r requirements-{requirements}.txt")


def refuse_figures_of_another_run(run: Run, header: Mapping[str, Any] | None) -> None:
    """Raise a FlagError if figures of a checkpoint would go to the outputs of another run, which has the same name."""
    if run.settings.train or run.settings.to:
        return
    there = read_history(run.folders.outputs)
    own = [{name: str(value) for name, value in row.items()} for row in header["history"]]
    num = min(len(there), len(own))
    if there and (not own or there[:num] != own[:num]):
        raise FlagError(
            f"{run.folders.outputs} has the results of another run than {run.source}: name this one with --run_name"
        )


def refuse_idle_training(run: Run, header: Mapping[str, Any] | None) -> None:
    """Raise a FlagError if there is nothing to train, or if training would move its own checkpoint away."""
    if header is None or not run.settings.train:
        return
    if run.source.parent.resolve() == previous(run.folders.checkpoints).resolve():
        raise FlagError(
            f"{run.source.parent} would be replaced by the run {run.folders.checkpoints}: name another with --run_name"
        )
    is_newest = run.continues_itself and not is_newer(run.folders.newest, header)
    if header["epoch"] >= run.settings.num_epochs and not is_newest:
        # Its figures would take the place of those of another run, or of a later epoch.
        raise FlagError(
            f"{run.source} has {header['epoch']} epochs, so --num_epochs {run.settings.num_epochs} leaves nothing to "
            "train: give more, or --evaluate"
        )


def open_other_data(run: Run, dataset: Dataset) -> Dataset | None:
    """The data of --ood_dataset, if it was given, in the shape of the run's own data."""
    settings = run.settings
    if settings.ood_dataset is None or not (settings.train or settings.evaluate):
        return None
    if run.is_conditional and dataset.has_several_labels():
        raise FlagError("--ood_dataset needs p(x), which a conditional model of several labels at a time lacks")
    return load_others(settings.ood_dataset, settings.data_dir, dataset.data_shape, offline=settings.offline)


def open_stream_of(run: Run, header: Mapping[str, Any] | None) -> "Stream | None":
    """The data that the model is put to use on, if that was asked for.

    Raises:
        DataError, FlagError: for data that do not fit the model or the flags.
    """
    settings = run.settings
    data = next((getattr(settings, verb) for verb in ON_DATA if getattr(settings, verb)), None)
    if data is None:
        return None
    shape = run.model_arguments["data_shape"]
    stream = open_stream(data, settings.data_dir, shape, split=settings.split, offline=settings.offline)
    names = stream.class_names
    knows_all = names and len(shared_classes(names, header["dataset"]["class_names"])[0]) == len(names)
    if run.is_conditional and not knows_all and header["dataset"].get("class_probs") is None:
        raise FlagError(
            f"this model needs the labels of {stream.name}, which are not all of its classes, and it cannot choose "
            f"them: {run.source} does not say how frequent each class is"
        )
    find_inliers(settings.inliers, stream)
    if settings.fill_in and stream.is_points:
        raise FlagError(f"--fill_in is for images, and {stream.name} are points")
    if settings.fill_in and not settings.hide and not stream.may_be_transparent:
        raise FlagError(NOTHING_MISSING.format(data=stream.name))
    if settings.max_examples and (settings.score or settings.compress or settings.hide):
        stream = stream.choose(settings.max_examples, settings.seed)
    return stream


def find_inliers(inliers: Sequence[str], stream: "Stream") -> list[int]:
    """The numbers of the classes that --inliers names; a name counts before a number.

    Raises:
        FlagError: for a class that the data do not have, or if no other class is left.
    """
    names = stream.class_names
    if inliers and not names:
        raise FlagError(f"--inliers needs classes, and {stream.name} has none")
    found = sorted({*class_numbers("inliers", inliers, names, stream.name)})
    if inliers and len(found) == len(names):
        raise FlagError(f"--inliers names every class of {stream.name}: leave out those that should be found odd")
    return found
