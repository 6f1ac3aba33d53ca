"""What every source returns: arrays of examples and their labels."""

import dataclasses

import numpy as np

Labelled = tuple[np.ndarray, np.ndarray | None]  # x, and class numbers (n,), multi-hot vectors (n, labels) or None
NO_LABEL = -1  # in place of the class number of an example without label


@dataclasses.dataclass(frozen=True)
class Examples:
    """x: images (n, height, width, channels) uint8 or points (n, 2) float32; labels (n, classes) uint8.

    The labels are one-hot; multi-hot where an example has several binary labels; of width 0 where there are none. Where
    some examples have a label and others have not, the rows of the others are 0.
    """

    x: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index) -> "Examples":
        return Examples(self.x[index], self.labels[index])

    def random_choice(self, num: int, seed: int) -> "Examples":
        """`num` of the examples, or all if they are fewer, in a random order, because files may be sorted."""
        return self[np.random.default_rng(seed).permutation(len(self))[:num]]


@dataclasses.dataclass(frozen=True)
class RawData:
    """What a source holds, before its splits are compared and its labels are made one-hot."""

    source: str  # a folder, file or program, to be named on the screen
    splits: dict[str, Labelled]  # of "train" and "test", or of "all" where they are still to be split
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # what the user should know about the data
