"""What is checked before TensorFlow is imported: the checkpoint, the data, and the run that they define."""

import dataclasses
import importlib.util
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from app.folders import is_newer, previous
from app.inputs import open_checkpoint, open_dataset
from app.records import read_history
from app.rules import FlagError, verbs_of
from app.run import Run, resolve
from app.settings import DEFAULTS
from data import Dataset, load_others
from parts.catalogue import MODELS, NETWORKS


@dataclasses.dataclass(frozen=True)
class Source:
    """What a run starts from: the flags that were given, and the checkpoint that they name, with its header."""

    given: Mapping[str, Any]
    checkpoint: pathlib.Path | None
    header: Mapping[str, Any] | None

    def setting(self, name: str) -> Any:
        """A setting as given, as stored, or its default where that does not depend on the data."""
        stored = self.header["config"] if self.header else {}
        return self.given.get(name, stored.get(name, getattr(DEFAULTS, name)))

    @property
    def has_large_steps(self) -> bool:
        return MODELS[self.setting("model")].large_steps or NETWORKS[self.setting("network")].large_steps


@dataclasses.dataclass(frozen=True)
class Plan:
    """A run, the header of the checkpoint that it starts from, its data if it needs any, and those of --ood_dataset."""

    run: Run
    header: Mapping[str, Any] | None
    dataset: Dataset | None
    other_data: Dataset | None
    notes: Sequence[str]

    @property
    def dataset_name(self) -> str:
        return self.dataset.name if self.dataset else self.header["dataset"]["name"]

    @property
    def class_names(self) -> Sequence[str]:
        return self.dataset.class_names if self.dataset else self.header["dataset"]["class_names"]

    def lines(self) -> list[str]:
        """What the user should know before the work begins."""
        data = [self.dataset.describe(), *(f"NOTE: {note}" for note in self.dataset.notes)] if self.dataset else []
        return [*self.notes, *data]


def open_source(given: Mapping[str, Any]) -> Source:
    """The flags and the checkpoint that they name. Raises CheckpointError or FlagError, see `open_checkpoint`."""
    return Source(given, *open_checkpoint(given))


def make_plan(source: Source) -> Plan:
    """Read the data and resolve the run.

    Raises:
        UserError: for whatever is wrong with data, checkpoint or flags.
    """
    given, header = source.given, source.header
    if source.setting("tensorboard") and "train" in verbs_of(given):
        require_tensorboard()
    dataset, fallback_from, notes = None, None, []
    draws_points = header is not None and len(header["model"]["data_shape"]) == 1  # samples are shown beside the data
    if verbs_of(given) & {"train", "evaluate"} or draws_points:
        dataset, fallback_from, notes = open_dataset(given, header)
    run = resolve(given, source.checkpoint, header, dataset, fallback_from)
    refuse_figures_of_another_run(run, header)
    refuse_idle_training(run, header)
    return Plan(run, header, dataset, open_other_data(run, dataset), [*run.notes, *notes])


def require_tensorboard() -> None:
    """Raise a FlagError where TensorBoard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        raise FlagError("--tensorboard needs the package tensorboard: pip install -r requirements-tensorboard.txt")


def refuse_figures_of_another_run(run: Run, header: Mapping[str, Any] | None) -> None:
    """Raise a FlagError if figures of a checkpoint would go to the outputs of another run, which has the same name."""
    if run.settings.train:
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
