"""Data for a trained model, block by block and in its shape: arrays in memory, folders of images, single images.

The pixels of a folder are read as they are needed, so that memory does not grow with the number of images.
"""

import collections
import copy
import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from PIL import Image

from sources.examples import NO_LABEL, Examples
from sources.image_folders import (
    FoundImages,
    LeftOut,
    find_images,
    fit,
    fitted,
    notes_on_reading,
    open_image,
    with_channels,
)
from sources.own_data import split_folders
from sources.readers import DataError, aligned_empty, first_line, times

WORDS = {1: "grey", 3: "colour"}
OPAQUE = 250  # of 255, after resizing; what lets more through is missing, since it is mixed with white


@dataclasses.dataclass(frozen=True)
class Block:
    """A number of examples, in the shape that the model takes.

    Args:
        x: images (n, height, width, channels) uint8 or points (n, 2) float32.
        labels: (n, classes) uint8 of the data's own classes; of width 0 where the data have none.
        names: for each the path within the folder, or the number, as text.
        known: (n, height, width) bool, false where an image is transparent.
    """

    x: np.ndarray
    labels: np.ndarray
    names: list[str]
    known: np.ndarray


class Stream:
    """Examples of one source, in a fixed order.

    Args:
        name: a short name, which is that of a folder too.
        source: the folder, file or program, to be named on the screen.
        total: the number of examples, as far as it is known before they are read.
        available: the number of those that they were chosen from.
        class_names: of the data, not of the model.
        split: "test", "train" or "all"; None if the data have no split.
    """

    def __init__(
        self,
        name: str,
        source: str,
        total: int,
        class_names: Sequence[str],
        data_shape: Sequence[int],
        split: str | None,
    ):
        self.name, self.source, self.split = name, source, split
        self.total = self.available = total
        self.class_names, self.data_shape = tuple(class_names), tuple(data_shape)

    @property
    def is_points(self) -> bool:
        return len(self.data_shape) == 1

    @property
    def may_be_transparent(self) -> bool:
        return False

    @property
    def unit(self) -> str:
        """ "point" or "image"."""
        return "point" if self.is_points else "image"

    def count(self, num: int) -> str:
        """So many examples, in words: "1,000 images"."""
        return f"{num:,} {self.unit}{'s' * (num > 1)}"

    def describe(self) -> str:
        """One line: the source, the number of examples and of classes."""
        which = {"all": " for training and test", "train": " for training", "test": " for test", None: ""}[self.split]
        num = len(self.class_names)
        classes = f", {num} class{'es' * (num > 1)}" if num else ""
        chosen = f"{self.total:,} of " * (self.total < self.available)
        return f"{self.name} from {self.source}: {chosen}{self.count(self.available)}{which}{classes}"

    def choose(self, num: int, seed: int) -> "Stream":
        """`num` of the examples, or all if they are fewer, in the random order of `Examples.random_choice`."""
        if num >= self.total:
            return self
        chosen = copy.copy(self)
        chosen.total = num
        chosen.take(np.random.default_rng(seed).permutation(self.total)[:num])
        return chosen

    def take(self, rows: np.ndarray) -> None:
        """Keep only these examples."""
        raise NotImplementedError

    def blocks(self, size: int) -> Iterator[Block]:
        """All examples, `size` at a time; only the last block may be smaller.

        Raises:
            DataError: if none can be read.
        """
        raise NotImplementedError

    @property
    def changes(self) -> list[str]:
        """What was done to the images read so far to make them fit the model, such as "made grey"."""
        return []

    def notes(self) -> list[str]:
        """After the blocks: what was left out, and what looks wrong."""
        return []


class ArrayStream(Stream):
    """Arrays in memory, which are brought to the model's shape block by block."""

    def __init__(
        self,
        name: str,
        source: str,
        parts: Mapping[str, Examples],
        class_names: Sequence[str],
        data_shape: Sequence[int],
        split: str | None,
        notes: Sequence[str] = (),
    ):
        """`parts` are those of the split, of which there are two if it is "all"; all have the same shape."""
        super().__init__(name, source, sum(map(len, parts.values())), class_names, data_shape, split)
        self.parts, self.rows, self.notes_on_arrays = parts, np.arange(self.total), list(notes)
        self.shape = next(iter(parts.values())).x.shape[1:]
        if (len(self.shape) == 1) != self.is_points:
            raise DataError(f"{name} holds {'images' if self.is_points else 'points'}, the model is of {self.unit}s")

    def take(self, rows):
        self.rows = self.rows[rows]

    def blocks(self, size):
        for start in range(0, self.total, size):
            rows = self.rows[start : start + size]
            x, labels = self.gather(rows, "x"), self.gather(rows, "labels")
            x = x if self.is_points else fitted(x, self.data_shape)
            yield Block(x, labels, self.names_of(rows), known=np.ones(x.shape[:3], bool))

    def gather(self, rows: np.ndarray, field: str) -> np.ndarray:
        """Rows of the parts, taken one after the other, of the field "x" or "labels"."""
        arrays = [getattr(part, field) for part in self.parts.values()]
        gathered, first = aligned_empty((len(rows), *arrays[0].shape[1:]), arrays[0].dtype), 0
        for array in arrays:
            here = (rows >= first) & (rows < first + len(array))
            gathered[here] = array[rows[here] - first]
            first += len(array)
        return gathered

    def names_of(self, rows: np.ndarray) -> list[str]:
        """The number of each example in its part; with the part's name if there are two."""
        if len(self.parts) == 1:
            return [str(row) for row in rows]
        (first, part), (second, _) = self.parts.items()
        num = len(part)
        return [f"{first}/{row}" if row < num else f"{second}/{row - num}" for row in rows]

    @property
    def changes(self):
        if self.is_points:
            return []
        done = Changes(self.data_shape)
        done.add(self.shape)
        return done.describe()

    def notes(self):
        return self.notes_on_arrays


class FileStream(Stream):
    """Image files, which are read block by block. One that cannot be read is skipped, and noted."""

    def __init__(
        self,
        name: str,
        root: pathlib.Path,
        files: Sequence[tuple[pathlib.Path, str | None]],
        data_shape: Sequence[int],
        split: str | None,
        left_out: Sequence[LeftOut] = (),
        unused: Sequence[pathlib.Path] = (),
    ):
        """
        Args:
            root: the folder to which the names of the images are relative.
            files: each with the name of its class, or None.
            left_out, unused: what the folders hold besides.
        """
        class_names = sorted({class_name for _, class_name in files if class_name is not None})
        super().__init__(name, str(root), len(files), class_names, data_shape, split)
        if self.is_points:
            raise DataError(f"{root} holds images, the model is of points")
        self.root, self.files, self.left_out, self.unused = root, list(files), left_out, unused
        self.start()

    @property
    def may_be_transparent(self):
        return True

    def start(self) -> None:
        self.done, self.unreadable, self.highest = Changes(self.data_shape), [], 0
        self.with_more_frames, self.num_transparent = [], 0

    def take(self, rows):
        self.files = [self.files[row] for row in rows]
        self.start()

    def blocks(self, size):
        self.start()
        files = iter(self.files)
        while block := self.read_block(files, size):
            self.highest = max(self.highest, int(block.x.max()))
            yield block
        if len(self.unreadable) == len(self.files):
            raise DataError(f"{self.root} holds no image that can be read; the first is {self.unreadable[0]}")

    def read_block(self, files: Iterator[tuple[pathlib.Path, str | None]], size: int) -> Block | None:
        """The next `size` images that can be read; None if there are no more."""
        images, labels, names = aligned_empty((size, *self.data_shape)), [], []
        known = np.ones(images.shape[:3], bool)
        one_hot = dict(zip(self.class_names, np.eye(len(self.class_names), dtype=np.uint8), strict=True))
        for path, class_name in files:
            try:
                image, has_more_frames, opacity = open_image(path)
                images[len(names)] = self.fitted(image)
                if opacity is not None:
                    self.num_transparent += 1
                    known[len(names)] = fit(opacity, self.data_shape[:2])[..., 0] >= OPAQUE
            except Exception as error:  # a damaged file can raise nearly anything in Pillow
                self.unreadable.append(f"{path} ({first_line(error)})")
                continue
            if has_more_frames:
                self.with_more_frames.append(path)
            labels.append(one_hot.get(class_name, np.zeros(len(self.class_names), np.uint8)))
            names.append(path.relative_to(self.root).as_posix() if path != self.root else path.name)
            if len(names) == size:
                break
        num = len(names)
        return Block(images[:num], np.stack(labels), names, known[:num]) if names else None

    def fitted(self, image: Image.Image) -> np.ndarray:
        """An image in the shape of the model's."""
        pixels = with_channels(fit(image, self.data_shape[:2]), self.data_shape[2])
        self.done.add((image.height, image.width, len(image.getbands())))
        return pixels

    @property
    def changes(self):
        return self.done.describe()

    def notes(self):
        notes = notes_on_reading(self.root, len(self.files), self.unreadable, self.highest)
        for part in (*self.left_out, LeftOut(with_more_frames=self.with_more_frames)):
            notes += part.notes()
        if self.num_transparent:
            notes.append(f"{self.count(self.num_transparent)} with transparent pixels, which are white where shown")
        return notes + [f"the folder {folder} is not used" for folder in self.unused]


class Changes:
    """Counts the shapes of images that had to be changed to fit a model's."""

    def __init__(self, data_shape: Sequence[int]):
        self.data_shape = data_shape
        self.num, self.sizes, self.channels = 0, collections.Counter(), collections.Counter()

    def add(self, shape: Sequence[int]) -> None:
        """Count an image that had this shape, (height, width, channels)."""
        self.num += 1
        self.sizes[tuple(shape[:2])] += 1
        self.channels[shape[2]] += 1

    def describe(self) -> list[str]:
        """Each kind of change, with the number of images if it was not done to all."""
        height, width, channels = self.data_shape
        others = {size: num for size, num in self.sizes.items() if size != (height, width)}
        found = []
        if others:
            cropped = "cropped and " * any(h * width != w * height for h, w in others)
            several = " and other sizes" * (len(others) > 1)
            text = f"{cropped}resized from {times(next(iter(others)))}{several} to {times((height, width))}"
            found.append((text, sum(others.values())))
        found += [(f"made {WORDS[channels]}", num) for old, num in self.channels.items() if old != channels]
        return [text + f" ({num:,} of {self.num:,})" * (num < self.num) for text, num in found]


def choose_split(name: str, splits: Sequence[str], wanted: str | None) -> tuple[list[str], str | None]:
    """The parts to use of those that the data have, "train" and "test" or none, and the name of the split.

    Raises:
        DataError: for a split that was asked for where there is none.
    """
    if not splits:
        if wanted:
            raise DataError(f"--split {wanted}: {name} is not split into training and test data; leave the flag out")
        return [], None
    split = wanted or "test"
    return [part for part in splits if split in (part, "all")], split


def open_files(path: pathlib.Path, name: str, data_shape: Sequence[int], split: str | None) -> FileStream:
    """A folder of images, or a single image.

    Raises:
        DataError: if it is neither, or something is wrong with it.
    """
    if not path.is_dir():
        choose_split(name, [], split)
        try:
            if not path.is_file():
                raise OSError("it is no regular file")  # opening a pipe would wait for ever
            open_image(path)
        except Exception as error:  # it can be any file
            reason = first_line(error)
            raise DataError(
                f"{path} is neither a folder of images, nor an .npz file, nor an image that can be read: {reason}"
            ) from None
        return FileStream(path.stem.strip(".") or "image", path, [(path, None)], data_shape, None)
    folders, unused = split_folders(path)
    chosen, split = choose_split(name, list(folders), split)
    found = [find_images(folders[part]) for part in chosen] or [find_images(path)]
    files = [file for part in found for file in with_class_names(part)]
    return FileStream(name, path, files, data_shape, split, [part.left_out for part in found], unused)


def with_class_names(found: FoundImages) -> list[tuple[pathlib.Path, str | None]]:
    by_number = {**dict(enumerate(found.class_names)), NO_LABEL: None}
    names = [None] * len(found.paths) if found.classes is None else [by_number[number] for number in found.classes]
    return list(zip(found.paths, names, strict=True))
