"""What the verbs that put a trained model to use on data have in common: where they write, how they go through."""

import pathlib
from collections.abc import Iterator

import numpy as np
import tqdm

from app.run import Run
from sources.batches import TEST_BATCH_SIZE
from sources.streams import Block, Stream
from storage.files import make_folder
from trained.conditions import Conditioner
from trained.model import TrainedModel


def make_destination(run: Run, verb: str, stream: Stream) -> pathlib.Path:
    """The folder of --to, or else a folder of the verb and the data among the run's outputs; it is made."""
    folder = pathlib.Path(run.settings.to) if run.settings.to else run.folders.outputs / verb / stream.name
    make_folder(folder)
    return folder


def walk(stream: Stream, title: str) -> Iterator[tuple[int, Block]]:
    """The blocks of the data, each with the number of its first example; a bar shows the time left."""
    first = 0
    with tqdm.tqdm(total=stream.total, desc=title, unit=stream.unit, disable=None) as bar:
        for block in stream.blocks(TEST_BATCH_SIZE):
            yield first, block
            first += len(block.x)
            bar.update(len(block.x))


def print_notes(stream: Stream, conditioner: Conditioner | None = None) -> None:
    """What was done to the data, and what the user should know about them and about the classes assumed."""
    for note in [*stream.changes, *stream.notes()]:
        print(f"NOTE: {note}")
    if conditioner is None:
        return
    if conditioner.num_chosen:
        examples = stream.count(conditioner.num_chosen)
        print(f"NOTE: {examples} without a class that the model knows: the most probable one is assumed")
    shared = [stream.class_names[number] for number in conditioner.of_data]
    if 0 < len(shared) < max(len(stream.class_names), len(conditioner.trained.class_names)):
        print(f"NOTE: of the data's classes the model knows {', '.join(shared)}, by these names")


def names_of_chosen(trained: TrainedModel, numbers: np.ndarray) -> list[str]:
    """The names of the classes that a model chose; empty where the number is negative, since none was chosen."""
    return [trained.class_names[number] if number >= 0 else "" for number in numbers]
