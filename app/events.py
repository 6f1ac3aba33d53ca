"""A run's curves and pictures for TensorBoard, an optional package."""

import functools
import pathlib
from collections.abc import Mapping

import tensorflow as tf


class EventLog:
    """Event files in a folder. `tensorboard --logdir` shows them, given this folder or one above it."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder

    @functools.cached_property
    def writer(self) -> tf.summary.SummaryWriter:
        return tf.summary.create_file_writer(str(self.folder))

    def write_figures(self, row: Mapping[str, float]) -> None:
        """Add a row of the history: one chart for each figure, with the curves of training and held-out data."""
        with self.writer.as_default(step=row["epoch"]):
            for column, value in row.items():
                if column != "epoch":
                    split, figure = column.split("_", 1)
                    tf.summary.scalar(f"{figure}/{split}", value)
        self.writer.flush()

    def write_picture(self, path: pathlib.Path, name: str, epoch: int) -> None:
        """Add a picture file to the series `name`."""
        with self.writer.as_default(step=epoch):
            tf.summary.image(name, tf.io.decode_png(path.read_bytes(), channels=3)[None])
        self.writer.flush()
