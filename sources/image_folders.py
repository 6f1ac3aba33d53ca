"""A folder of images, in any format that Pillow reads -> one array."""

import dataclasses
import pathlib
import sys
import warnings
from collections.abc import Sequence

import numpy as np
import tqdm
from PIL import Image, ImageOps

from sources.readers import DataError, aligned_empty, first_line, times

DARK = 64  # a folder without a brighter pixel was probably not meant so
LARGEST_SIDE = 512  # pixels; larger images are most likely photographs that should be brought to a smaller size


@dataclasses.dataclass(frozen=True)
class ImageFolder:
    """Images (n, height, width, channels) uint8, their class numbers (n,) or None, and what was left out."""

    images: np.ndarray
    labels: np.ndarray | None
    class_names: tuple[str, ...]
    notes: tuple[str, ...]


def read_image_folder(folder: pathlib.Path, image_size: tuple[int, int] | None = None) -> ImageFolder:
    """Every image in a folder that Pillow can read; its sub-folders, if it has any, are classes.

    Args:
        image_size: (height, width) to which the images are brought, by cutting off what is too long and resizing.

    Raises:
        DataError: for a folder or a class without images, for images of different sizes (without `image_size`), and for
            grey ones among coloured ones.
    """
    here = folder.resolve()
    classes = [entry for entry in visible(folder) if entry.is_dir() and not here.is_relative_to(entry.resolve())]
    files = [(path, None) for path in image_files(folder, recursive=False)]
    if classes and files:
        raise DataError(f"{folder} has images both beside and in its sub-folders, such as {files[0][0]}")
    for number, subfolder in enumerate(classes):
        found = image_files(subfolder, recursive=True)
        if not found:
            raise DataError(f"{subfolder} holds no images, and should be a class of {folder}")
        files += [(path, number) for path in found]
    if not files:
        raise DataError(f"{folder} holds no images")
    images, kept, notes = read_images(folder, [path for path, _ in files], image_size)
    labels = np.array([files[row][1] for row in kept]) if classes else None
    lost = set(range(len(classes))) - {files[row][1] for row in kept}
    if lost:
        raise DataError(f"{classes[min(lost)]} holds no image that can be read, and should be a class of {folder}")
    return ImageFolder(images, labels, tuple(subfolder.name for subfolder in classes), notes)


def visible(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def image_files(folder: pathlib.Path, recursive: bool) -> list[pathlib.Path]:
    """Files whose ending says that they are images, in the order of their names."""
    kinds = readable_kinds()
    endings = {ending for ending, kind in Image.registered_extensions().items() if kind in kinds}
    found = []
    for entry in visible(folder):
        if entry.is_dir() and recursive and not entry.is_symlink():  # links can lead in circles
            found += image_files(entry, recursive)
        elif entry.is_file() and entry.suffix.lower() in endings:
            found.append(entry)
    return found


def readable_kinds() -> list[str]:
    """Pillow's formats, but the one that is a program, which Ghostscript would run."""
    Image.init()
    return [kind for kind in Image.OPEN if kind != "EPS"]


def read_images(
    folder: pathlib.Path, paths: Sequence[pathlib.Path], image_size: tuple[int, int] | None
) -> tuple[np.ndarray, list[int], tuple[str, ...]]:
    """Images of one size and number of channels, the positions in `paths` of those that could be read, and a note on
    the others."""
    images, kept, unreadable = None, [], []
    bar = tqdm.tqdm(paths, desc="reading images", unit="", leave=False, disable=not sys.stderr.isatty())
    for row, path in enumerate(bar):
        try:
            image = read_image(path, image_size)
        except Exception as error:  # a damaged file can raise nearly anything in Pillow
            unreadable.append(f"{path} ({first_line(error)})")
            continue
        if images is None:
            first = path
            size = times(image.shape[:2])
            if max(image.shape[:2]) > LARGEST_SIDE and image_size is None:
                raise DataError(f"{path} has {size} pixels: say with --image_size what to bring it to")
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
                f"{times(image.shape[:2])}: say with --image_size what to bring them to"
            )
        images[len(kept)] = image
        kept.append(row)
    if images is None:
        raise DataError(f"{folder} holds no image that can be read; the first is {unreadable[0]}")
    images, notes = images[: len(kept)], []
    if unreadable:
        others = " and others" if len(unreadable) > 1 else ""
        notes.append(
            f"skipped {len(unreadable)} of {len(paths):,} images, which cannot be read: {unreadable[0]}{others}"
        )
    if images.max() < DARK:
        notes.append(
            f"no pixel of {folder} is brighter than {images.max()} of 255: have its files 16 bits but use fewer?"
        )
    return images, kept, tuple(notes)


def read_image(path: pathlib.Path, image_size: tuple[int, int] | None) -> np.ndarray:
    """One image as (height, width, channels) uint8: upright, on white where it is transparent, grey or RGB."""
    with warnings.catch_warnings(), Image.open(path, formats=readable_kinds()) as file:
        warnings.simplefilter("ignore")  # what is really wrong is an error
        is_grey = file.mode in ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")
        image = ImageOps.exif_transpose(file)
    if image.mode.startswith("I"):
        sixteen_bits = np.asarray(image, np.int64)
        if sixteen_bits.min() < 0 or sixteen_bits.max() > 65535:
            raise ValueError("grey values beyond 16 bits")
        image = Image.fromarray((sixteen_bits // 257).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("grey values that are not whole numbers")
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("L" if is_grey else "RGB")
    return fit(image, image_size or (image.height, image.width))


def resized(images: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Images (n, height, width, channels) brought to another size as `read_image_folder` does it."""
    if images.shape[1:3] == tuple(image_size):
        return images
    brought = aligned_empty((len(images), *image_size, images.shape[-1]))
    for image, target in zip(images, brought, strict=True):
        target[:] = fit(Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image), image_size)
    return brought


def fit(image: Image.Image, image_size: tuple[int, int]) -> np.ndarray:
    """A grey or RGB image as (height, width, channels), what is too long cut off at both ends, resized."""
    array = np.asarray(ImageOps.fit(image, image_size[::-1], Image.Resampling.LANCZOS))
    return array[..., np.newaxis] if array.ndim == 2 else array
