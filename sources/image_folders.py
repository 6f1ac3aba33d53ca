"""A folder of images, in any format that Pillow reads -> one array, and notes on what was left out."""

import contextlib
import dataclasses
import pathlib
import sys
import warnings
from collections.abc import Sequence

import numpy as np
import tqdm
from PIL import Image, ImageOps

from sources.examples import NO_LABEL
from sources.readers import DARK, DataError, aligned_empty, first_line, times

LARGEST_SIDE = 512  # pixels; larger images are most likely photographs that should be made smaller
UNLABELLED = {"unlabelled", "unlabeled"}  # beside other sub-folders, such a one is not a class
GREY_OF_RGB = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as Pillow has it


@dataclasses.dataclass(frozen=True)
class ImageFolder:
    """Images (n, height, width, channels) uint8, their class numbers (n,) or None, and notes on what was left out."""

    images: np.ndarray
    labels: np.ndarray | None
    class_names: tuple[str, ...]
    notes: tuple[str, ...]


@dataclasses.dataclass
class LeftOut:
    """Paths in a folder that are not used, or only in part."""

    broken_links: list[pathlib.Path] = dataclasses.field(default_factory=list)
    linked_folders: list[pathlib.Path] = dataclasses.field(default_factory=list)
    without_ending: list[pathlib.Path] = dataclasses.field(default_factory=list)
    with_more_frames: list[pathlib.Path] = dataclasses.field(default_factory=list)

    def notes(self) -> list[str]:
        """How many of each kind, with the first as an example."""
        texts = {
            "left out {} broken link{}": self.broken_links,
            "left out {} linked folder{}": self.linked_folders,
            "left out {} image{} with a name without ending, such as .png": self.without_ending,
            "used only the first frame of {} image{}": self.with_more_frames,
        }
        return [
            f"{text.format(f'{len(paths):,}', 's' * (len(paths) > 1))}: {and_others(paths)}"
            for text, paths in texts.items()
            if paths
        ]


@dataclasses.dataclass(frozen=True)
class FoundImages:
    """The files in a folder that look like images, the number of the class of each (NO_LABEL if it has none) or None,
    and what was left out."""

    paths: list[pathlib.Path]
    classes: list[int] | None
    class_names: tuple[str, ...]
    left_out: LeftOut


def and_others(found: Sequence) -> str:
    return f"{found[0]}{' and others' if len(found) > 1 else ''}"


def read_image_folder(folder: pathlib.Path, image_size: tuple[int, int] | None = None) -> ImageFolder:
    """Every image in a folder that Pillow can read; its sub-folders, if it has any, are classes. A sub-folder called
    `unlabelled` beside them holds images without a label.

    Args:
        image_size: (height, width) of the images, which are cropped to that shape and resized.

    Raises:
        DataError: for a folder or a class without images, for images of different sizes (without `image_size`), and for
            grey images among coloured ones.
    """
    found = find_images(folder)
    names, left_out = found.class_names, found.left_out
    images, kept, notes = read_images(folder, found.paths, image_size, left_out)
    labels = np.array(found.classes)[kept] if names else None
    lost = set(range(len(names))) - set(() if labels is None else labels.tolist())
    if lost:
        raise DataError(
            f"{folder / names[min(lost)]} holds no image that can be read, and should be a class of {folder}"
        )
    return ImageFolder(images, labels, names, tuple(notes + left_out.notes()))


def find_images(folder: pathlib.Path) -> FoundImages:
    """The files of every image in a folder; its sub-folders, if it has any, are classes. None is read.

    Raises:
        DataError: for a folder or a class without images, and for images beside sub-folders.
    """
    here, left_out = folder.resolve(), LeftOut()
    classes = [entry for entry in visible(folder) if entry.is_dir()]
    left_out.linked_folders = [entry for entry in classes if here.is_relative_to(entry.resolve())]
    classes = [entry for entry in classes if entry not in left_out.linked_folders]
    unlabelled = [entry for entry in classes if entry.name.lower() in UNLABELLED and len(classes) > 1]
    classes = [entry for entry in classes if entry not in unlabelled]
    paths, numbers = image_files(folder, left_out, recursive=False), []
    if (classes or unlabelled) and paths:
        raise DataError(f"{folder} has images both beside and in its sub-folders, such as {paths[0]}")
    for number, subfolder in [*enumerate(classes), *((NO_LABEL, entry) for entry in unlabelled)]:
        found = image_files(subfolder, left_out, recursive=True)
        if not found:
            message = f"{subfolder} holds no images, and should be a class of {folder}"
            raise DataError("; ".join([message, *left_out.notes()]))
        paths += found
        numbers += [number] * len(found)
    if not paths:
        raise DataError("; ".join([f"{folder} holds no images", *left_out.notes()]))
    return FoundImages(paths, numbers if classes else None, tuple(entry.name for entry in classes), left_out)


def visible(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def image_files(folder: pathlib.Path, left_out: LeftOut, recursive: bool) -> list[pathlib.Path]:
    """Files whose ending is that of an image format, in the order of their names; adds to `left_out`."""
    kinds = readable_kinds()
    endings = {ending for ending, kind in Image.registered_extensions().items() if kind in kinds}
    found = []
    for entry in visible(folder):
        if entry.is_dir():
            if recursive and entry.is_symlink():  # links can lead in circles
                left_out.linked_folders.append(entry)
            elif recursive:
                found += image_files(entry, left_out, recursive)
        elif entry.is_file():
            if entry.suffix.lower() in endings:
                found.append(entry)
            elif not entry.suffix and is_image(entry):
                left_out.without_ending.append(entry)
        elif not entry.exists():
            left_out.broken_links.append(entry)
    return found


def is_image(path: pathlib.Path) -> bool:
    """Whether the file begins like an image."""
    try:
        with warnings.catch_warnings(), Image.open(path, formats=readable_kinds()):
            return True
    except Exception:  # a damaged file can raise nearly anything in Pillow
        return False


def readable_kinds() -> list[str]:
    """Pillow's formats without EPS, whose files are programs that Ghostscript would run."""
    Image.init()
    return [kind for kind in Image.OPEN if kind != "EPS"]


def read_images(
    folder: pathlib.Path, paths: Sequence[pathlib.Path], image_size: tuple[int, int] | None, left_out: LeftOut
) -> tuple[np.ndarray, list[int], list[str]]:
    """Images of one size and number of channels, the positions in `paths` of those that could be read, and notes on
    the others and on dark images; adds to `left_out`."""
    images, kept, unreadable = None, [], []
    bar = tqdm.tqdm(paths, desc="reading images", unit="", leave=False, disable=not sys.stderr.isatty())
    for row, path in enumerate(bar):
        try:
            image, has_more_frames = read_image(path, image_size)
        except Exception as error:  # a damaged file can raise nearly anything in Pillow
            unreadable.append(f"{path} ({first_line(error)})")
            continue
        if images is None:
            first = path
            size = times(image.shape[:2])
            if max(image.shape[:2]) > LARGEST_SIDE and image_size is None:
                raise DataError(f"{path} has {size} pixels: choose a smaller size with --image_size")
            images = aligned_empty((len(paths), *image.shape))
        if image.shape[2] != images.shape[3]:
            words = {1: "grey", 3: "in colour"}
            raise DataError(
                f"{folder} mixes channels: {first} is {words[images.shape[3]]}, {path} is {words[image.shape[2]]}: "
                f"convert them all to one kind"
            )
        if image.shape != images.shape[1:]:
            raise DataError(
                f"{folder} mixes sizes: {first} has {times(images.shape[1:3])} pixels, {path} "
                f"{times(image.shape[:2])}: choose one size for all with --image_size"
            )
        if has_more_frames:
            left_out.with_more_frames.append(path)
        images[len(kept)] = image
        kept.append(row)
    if images is None:
        raise DataError(f"{folder} holds no image that can be read; the first is {unreadable[0]}")
    images = images[: len(kept)]
    return images, kept, notes_on_reading(folder, len(paths), unreadable, images.max())


def notes_on_reading(place: pathlib.Path, num: int, unreadable: Sequence[str], highest: int) -> list[str]:
    """Notes on those of `num` images that could not be read, and on images whose brightest pixel is dark."""
    notes = []
    if unreadable:
        notes.append(f"skipped {len(unreadable)} of {num:,} images, which cannot be read: {and_others(unreadable)}")
    if highest < DARK:
        notes.append(f"no pixel of {place} is brighter than {highest} of 255: are its files of 16 bits but use fewer?")
    return notes


def read_image(path: pathlib.Path, image_size: tuple[int, int] | None) -> tuple[np.ndarray, bool]:
    """The first frame of an image as (height, width, channels) uint8, and whether it has more frames."""
    image, has_more_frames, _ = open_image(path)
    return fit(image, image_size or (image.height, image.width)), has_more_frames


def open_image(path: pathlib.Path) -> tuple[Image.Image, bool, Image.Image | None]:
    """The first frame of an image, whether it has more frames, and its opacity, if any of it is transparent.

    The image is upright and grey or RGB; transparent pixels are shown on white. The opacity is a grey image.
    """
    with warnings.catch_warnings(), Image.open(path, formats=readable_kinds()) as file:
        warnings.simplefilter("ignore")  # a real defect is an exception
        is_grey = file.mode in ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")
        image, has_more_frames, opacity = ImageOps.exif_transpose(file), False, None
        with contextlib.suppress(Exception):  # a damaged second frame does not spoil the first
            has_more_frames = getattr(file, "is_animated", False)
    if image.mode.startswith("I"):
        sixteen_bits = np.asarray(image, np.int64)
        if sixteen_bits.min() < 0 or sixteen_bits.max() > 65535:
            raise ValueError("grey values beyond 16 bits")
        image = Image.fromarray((sixteen_bits // 257).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("grey values that are not whole numbers")
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        opacity = image.getchannel("A") if image.getchannel("A").getextrema()[0] < 255 else None
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if is_grey else "RGB"), has_more_frames, opacity


def fitted(images: np.ndarray, data_shape: Sequence[int]) -> np.ndarray:
    """Images (n, height, width, channels) in the shape of a model's: cropped, resized, made grey or made colour."""
    return with_channels(resized(images, data_shape[:2]), data_shape[2])


def with_channels(images: np.ndarray, channels: int) -> np.ndarray:
    """Images (..., height, width, 1 or 3) as grey or as colour ones."""
    if images.shape[-1] > channels:
        return np.rint(images @ GREY_OF_RGB).astype(np.uint8)[..., np.newaxis]
    return images if images.shape[-1] == channels else np.repeat(images, channels, axis=-1)


def resized(images: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Images (n, height, width, channels) in another size, cropped and resized as by `read_image_folder`."""
    if images.shape[1:3] == tuple(image_size):
        return images
    results = aligned_empty((len(images), *image_size, images.shape[-1]))
    for image, target in zip(images, results, strict=True):
        target[:] = fit(Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image), image_size)
    return results


def fit(image: Image.Image, image_size: tuple[int, int]) -> np.ndarray:
    """A grey or RGB image as (height, width, channels), cropped at both ends to the shape `image_size` and resized."""
    array = np.asarray(ImageOps.fit(image, image_size[::-1], Image.Resampling.LANCZOS))
    return array[..., np.newaxis] if array.ndim == 2 else array
