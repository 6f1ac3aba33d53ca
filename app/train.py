"""--train: train a run up to --num_epochs, and write checkpoints, history and the pictures of epochs."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from app import records
from app.draw import draw_epoch
from app.events import EventLog
from app.folders import branch_off, is_newer, set_aside
from app.report import print_epoch
from app.run import Run
from app.settings import foreign_arguments, names
from data import Dataset
from sources.batches import evaluation_batches, training_batches
from storage.checkpoints import CheckpointError, read_header, save_model_weights
from storage.files import make_folder, remove_partial
from training import devices, loop
from training.interrupts import Stopped
from training.progress import FIGURES
from training.state import TrainingState
from vae import VAE

EPOCH_PICTURES = ("samples", "reconstructions")


def train(run: Run, model: VAE, dataset: Dataset, state: TrainingState, header: Mapping[str, Any] | None) -> None:
    """Train up to --num_epochs and keep `state` up to date. `header` is that of the checkpoint to continue."""
    settings, folders = run.settings, run.folders
    is_chief = devices.is_chief(model.distribute_strategy)
    for folder in folders.both if is_chief else ():
        remove_partial(folder)
    has_newer = run.continues_itself and is_newer(folders.newest, header)
    was_cut_off = run.continues_itself and not has_newer and lacks_epoch_files(run, state, header)
    if header is not None and state.epoch >= settings.num_epochs:
        print(f"nothing left to train: {run.source} has {state.epoch} of {settings.num_epochs} epochs")
        if not was_cut_off:
            return
    if is_chief:
        if has_newer:
            branch_off(folders, run.source, state.epoch)
        elif not run.continues_itself:
            set_aside(folders)
        for folder in folders.both:
            make_folder(folder)
    print(describe_start(run, model))
    recorder = Recorder(run, model, dataset, state, is_chief)
    if was_cut_off:
        recorder.after_epoch(state.epoch)
    if state.epoch < settings.num_epochs:
        noted = [name for name in names(per_epoch=True) if name not in foreign_arguments(settings.model)]
        state.note_settings(state.epoch + 1, {name: getattr(settings, name) for name in noted})
    try:
        loop.train(
            model,
            training_batches(
                dataset.train,
                settings.batch_size,
                seed=settings.seed,
                binarize=settings.binarize,
                flip=settings.flip,
                labelled=dataset.labelled if dataset.is_partly_labelled and model.infers_labels else None,
            ),
            evaluation_batches(dataset.test, seed=settings.seed, binarize=settings.binarize),
            batch_size=settings.batch_size,
            split=dataset.split,
            num_epochs=settings.num_epochs,
            state=state,
            save=recorder.save,
            report=functools.partial(print_epoch, num_epochs=settings.num_epochs, split=dataset.split),
            after_epoch=recorder.after_epoch,
            save_every_steps=settings.save_every_steps,
            held_out_figures=held_out_figures(model, dataset),
        )
    except Stopped as stopped:
        where = f"in epoch {state.epoch + 1}, after step {state.step}" if state.step else "between epochs"
        is_newest = run.source is None or run.source.resolve() == folders.newest.resolve()
        how = "add --load_weights to the same command" if is_newest else f"give --checkpoint {folders.newest}"
        raise Stopped(stopped.number, f"stopped {where}; to go on from there, {how}") from None


def held_out_figures(model: VAE, dataset: Dataset) -> tuple[str, ...]:
    """The figures of held-out data after every epoch. The error of clusters, which have no names, is not among them."""
    return FIGURES + ("error",) * (model.infers_labels and not dataset.hides_all_labels)


def lacks_epoch_files(run: Run, state: TrainingState, header: Mapping[str, Any]) -> bool:
    """Whether the run was killed after an epoch's checkpoint and before its kept files were written."""
    frequency = header["config"]["sample_and_save_frequency"]
    if state.step or not state.epoch or state.epoch % frequency:
        return False
    try:
        return read_header(run.folders.kept(state.epoch))["history"] != header["history"]
    except CheckpointError:
        return True


def describe_start(run: Run, model: VAE) -> str:
    """One line: what is trained."""
    settings, arguments = run.settings, model.arguments
    widths = " ".join(map(str, arguments["hidden_dims"]))
    parts = f", prior {arguments['prior']}" + f", window {arguments['window']}" * model.takes_window
    parts += ", unconditional" * settings.unconditional
    num_replicas = model.distribute_strategy.num_replicas_in_sync
    replicas = f"; {num_replicas} replicas" if num_replicas > 1 else ""
    return (
        f"{settings.model} with {model.count_params():,} parameters: {settings.network} {widths}, likelihood "
        f"{settings.likelihood}, binarize {settings.binarize}, latent size {settings.latent_size}{parts}; batch size "
        f"{settings.batch_size}; epochs: {settings.num_epochs}; checkpoints: {run.folders.checkpoints}{replicas}"
    )


@dataclasses.dataclass
class Recorder:
    """Writes the files of a training: checkpoints, history, pictures of epochs, events for TensorBoard."""

    run: Run
    model: VAE
    dataset: Dataset
    state: TrainingState
    is_chief: bool

    def __post_init__(self):
        folder = self.run.folders.outputs / "tensorboard"
        self.events = EventLog(folder) if self.run.settings.tensorboard and self.is_chief else None
        dataset, class_probs = self.dataset, self.model.class_probs(self.dataset.class_probs())
        self.unchanging = {
            "config": self.run.stored(),
            "dataset": {
                "name": dataset.name,
                "source": dataset.source,
                "class_names": dataset.names_in_model,
                "class_probs": None if class_probs is None else class_probs.tolist(),
                "fingerprint": dataset.fingerprint(),
                "held_out": len(dataset.test),
            },
            "versions": records.versions(),
            "fallback_from": self.run.fallback_from,
        }

    def save(self, epoch: int | None = None) -> None:
        """Write the run's newest checkpoint, or the kept one of an epoch."""
        if self.is_chief:
            folders = self.run.folders
            path = folders.newest if epoch is None else folders.kept(epoch)
            save_model_weights(self.model, path, {**self.state.to_header(), **self.unchanging})

    def after_epoch(self, epoch: int) -> None:
        if not self.is_chief:
            return
        outputs, history = self.run.folders.outputs, self.state.history
        records.write_history(outputs, history)
        if self.events:
            self.events.write_figures(history[-1])
        if epoch % self.run.settings.sample_and_save_frequency:
            return
        prefix = f"epoch_{epoch:03d}_"
        draw_epoch(self.run, self.model, self.dataset, prefix)
        if self.events:
            for name in EPOCH_PICTURES:
                self.events.write_picture(outputs / f"{prefix}{name}.png", name, epoch)
        self.save(epoch)
