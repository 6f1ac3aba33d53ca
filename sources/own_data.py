"""The user's own images, from a folder or an .npz file (also in MedMNIST's layout) -> arrays."""

import dataclasses
import pathlib

import numpy as np

from sources.examples import NO_LABEL, Labelled, RawData
from sources.readers import DARK, DataError, class_labels, read_npz, uint8_images

TEST_SHARE = 10  # one example in ten is for testing
VALIDATION_NAMES = {"val", "valid", "validation"}  # beside a folder called train, these are not classes


def load_own(path: pathlib.Path, image_size: tuple[int, int] | None = None) -> RawData:
    """A folder of images, or an .npz with `images` and perhaps `labels`, or an .npz in the layout of MedMNIST.

    Folders `train` and `test`, or arrays `train_images` and `test_images`, are the split. Without them one example in
    ten is for testing, always the same ones: the run's seed does not change them.

    Raises:
        DataError: if it is none of these, or something is wrong with it.
    """
    if path.is_dir():
        raw = load_folder(path, image_size)
    elif path.suffix == ".npz" and path.is_file():
        raw = load_npz(path, image_size)
    else:
        raise DataError(f"{path} is neither a folder of images nor an .npz file")
    _, test_labels = raw.splits["test"]
    if test_labels is not None and np.any(test_labels == NO_LABEL):
        raise DataError(f"{path} has test images without a label: figures need one for each")
    return raw


def load_npz(path: pathlib.Path, image_size: tuple[int, int] | None) -> RawData:
    raw = read_arrays(path)
    if "all" in raw.splits:
        splits = split_off_test(path, *raw.splits["all"])
    else:
        splits = {split: shuffled(images, labels) for split, (images, labels) in raw.splits.items()}
    if image_size:
        from sources.image_folders import resized  # only where it is needed: it imports Pillow

        splits = {split: (resized(images, image_size), labels) for split, (images, labels) in splits.items()}
    return dataclasses.replace(raw, splits=splits)


def read_arrays(path: pathlib.Path) -> RawData:
    """What an .npz file holds, in its order: the split "all", or "train" and "test"."""
    arrays = read_npz(path, ["images", "labels", "class_names"])
    if "images" in arrays:
        images, labels = checked_arrays(path, arrays, "images", "labels")
        names = names_of_classes(path, arrays.get("class_names"), labels)
        return RawData(str(path), {"all": (images, labels)}, names, dark_note(path, "images", images))
    splits = read_splits(path)
    names = names_of_classes(path, arrays.get("class_names"), splits["train"][1])
    notes = (dark_note(path, f"{split}_images", images) for split, (images, _) in splits.items())
    return RawData(str(path), splits, names, notes=sum(notes, ()))


def names_of_classes(path: pathlib.Path, names: np.ndarray | None, labels: np.ndarray | None) -> tuple[str, ...]:
    """The names in an .npz file, or else the numbers of the classes; none for rows of labels without names.

    Raises:
        DataError: for names that do not fit the labels.
    """
    if labels is None:
        return ()
    num = labels.max() + 1 if labels.ndim == 1 else labels.shape[1]
    if names is None:
        return tuple(map(str, range(num))) if labels.ndim == 1 else ()
    if names.ndim != 1 or names.dtype.kind != "U" or len(names) < num or len({*names.tolist()}) < len(names):
        raise DataError(f"{path}: 'class_names' must be different texts, one for each of the {num} classes")
    return tuple(names.tolist())


def dark_note(path: pathlib.Path, name: str, images: np.ndarray) -> tuple[str, ...]:
    """A note on an array of images that are nearly black, if they are."""
    highest = images.max()
    if highest >= DARK:
        return ()
    return (
        f"no pixel of '{name}' in {path} is brighter than {highest} of 255: is {highest} meant to be white? "
        f"Whole numbers are read as 0 (black) to 255 (white), floats as 0 to 1",
    )


def load_folder(path: pathlib.Path, image_size: tuple[int, int] | None) -> RawData:
    from sources.image_folders import read_image_folder

    parts, unused = split_folders(path)
    if parts:
        read = {split: read_image_folder(part, image_size) for split, part in parts.items()}
        if read["train"].class_names != read["test"].class_names:
            raise DataError(f"{parts['train']} and {parts['test']} do not have the same classes")
        splits = {split: shuffled(part.images, part.labels) for split, part in read.items()}
        notes = read["train"].notes + read["test"].notes
        notes += tuple(f"the folder {folder} is not used" for folder in unused)
        names = read["train"].class_names
    else:
        part = read_image_folder(path, image_size)
        splits, notes, names = split_off_test(path, part.images, part.labels), part.notes, part.class_names
    return RawData(str(path), splits, names, notes)


def split_folders(path: pathlib.Path) -> tuple[dict[str, pathlib.Path], list[pathlib.Path]]:
    """The folders `train` and `test` in a folder and the others beside them; two empty results if it has no split.

    Raises:
        DataError: if only the folder `test` is missing.
    """
    folders = {entry.name.lower(): entry for entry in path.iterdir() if entry.is_dir()}
    parts = {split: folders.pop(split) for split in ("train", "test") if split in folders}
    if list(parts) == ["train"] and folders.keys() <= VALIDATION_NAMES:
        raise DataError(f"{path} has a folder train, but none called test: add it, or name {parts['train']} instead")
    return (parts, list(folders.values())) if len(parts) == 2 else ({}, [])


def split_off_test(
    path: pathlib.Path, images: np.ndarray, labels: np.ndarray | None, seed: int = 0
) -> dict[str, Labelled]:
    """One example in ten of each class for testing, the others in a random order for training.

    `images` are rearranged in place, so that memory holds them only once.

    Raises:
        DataError: if there are fewer than two.
    """
    if len(images) < 2:
        raise DataError(f"{path} holds {len(images)} image: that is too few to hold any out for testing")
    order = np.random.default_rng(seed).permutation(len(images))
    if labels is None or labels.ndim > 1:
        candidates = order
    else:  # the only example of a class, and those without label, stay in training
        by_class = order[np.argsort(labels[order], kind="stable")]
        by_class = by_class[labels[by_class] != NO_LABEL]
        candidates = by_class[np.bincount(labels[by_class])[labels[by_class]] > 1] if by_class.size else by_class
        if not candidates.size and np.any(labels == NO_LABEL):
            raise DataError(
                f"{path} has no class with two labelled images: one of them is needed for testing, or "
                "test images of their own"
            )
        candidates = candidates if candidates.size else order
    is_test = np.isin(order, candidates[::TEST_SHARE])
    order = np.concatenate([order[~is_test], order[is_test]])
    images, labels = rearranged(images, labels, order)
    num = int((~is_test).sum())
    parts = {"train": slice(num), "test": slice(num, None)}
    return {split: (images[part], None if labels is None else labels[part]) for split, part in parts.items()}


def shuffled(images: np.ndarray, labels: np.ndarray | None, seed: int = 0) -> Labelled:
    """Images and labels in one random order, the images in place. (Files may be sorted; a hold-out takes the end.)"""
    return rearranged(images, labels, np.random.default_rng(seed).permutation(len(images)))


def rearranged(images: np.ndarray, labels: np.ndarray | None, order: np.ndarray) -> Labelled:
    """Images and labels in this order, the images in place."""
    permute_rows(images, order)
    return images, None if labels is None else labels[order]


def permute_rows(array: np.ndarray, order: np.ndarray) -> None:
    """array[:] = array[order], in place: along each cycle of the permutation, one row at a time."""
    done = np.zeros(len(order), bool)
    for start in range(len(order)):
        if done[start]:
            continue
        first, row = array[start].copy(), start
        while order[row] != start:
            array[row] = array[order[row]]
            done[row] = True
            row = order[row]
        array[row] = first
        done[row] = True


def read_splits(path: pathlib.Path) -> dict[str, Labelled]:
    """ "train" and "test" of an .npz in the layout of MedMNIST.

    Raises:
        DataError: if it lacks one of them.
    """
    arrays = read_npz(path, ["train_images", "train_labels", "test_images", "test_labels"])
    splits = {}
    for split in ("train", "test"):
        if f"{split}_images" not in arrays:
            raise DataError(f"{path} has neither an array 'images' nor one called '{split}_images'")
        splits[split] = checked_arrays(path, arrays, f"{split}_images", f"{split}_labels")
    return splits


def checked_arrays(path: pathlib.Path, arrays: dict[str, np.ndarray], images_name: str, labels_name: str) -> Labelled:
    images = uint8_images(path, images_name, arrays[images_name])
    if labels_name not in arrays:
        return images, None
    labels = class_labels(path, labels_name, arrays[labels_name], len(images))
    return images, None if np.all(labels == NO_LABEL) else labels
