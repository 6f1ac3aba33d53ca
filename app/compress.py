"""--compress and --decompress: images to a small file and back."""

import os
import pathlib
import re
import shutil
from collections.abc import Sequence

import numpy as np
import tqdm
from PIL import Image

from app.on_data import print_notes, walk
from app.rules import FlagError
from app.run import Run
from coding import bits_back, files, lossy
from coding.exact import CodingError
from coding.files import Coded
from coding.model import LosslessModel, LossyModel, digest_of
from sources.streams import Stream
from storage.files import PARTIAL, make_folder, naming_errors, replacing
from trained.conditions import Conditioner
from trained.model import TrainedModel

ENDING = ".vz"


def compress(run: Run, trained: TrainedModel, stream: Stream) -> None:
    """Write the images of a stream to a file.

    Raises:
        CodingError, FlagError: for a model, images or a file to which that cannot be done.
    """
    settings, path = run.settings, destination(run, stream.name, ENDING)
    earlier = earlier_file(run, trained, path)
    make_folder(path.parent)
    model = coding_model(run, trained, is_lossy=settings.lossy)
    conditioner = Conditioner(trained, stream.class_names, settings.seed)
    x, classes, was_grey = [], [], False
    for first, block in walk(stream, "reading"):
        given = conditioner.condition(block.x, block.labels, first)
        prepared = np.concatenate([images for images, _, _ in given.batches])
        was_grey |= bool(((block.x > 0) & (block.x < 255)).any())
        x.append(as_pixels(prepared, model.pixels.num_levels, stream.name))
        classes += [np.argmax(labels, axis=1) for _, labels, _ in given.batches if trained.is_conditional]
    x, classes, name = np.concatenate(x), np.concatenate(classes) if classes else None, model_name(run)
    print_notes(stream, conditioner)
    if trained.binarize != "none" and was_grey:
        print(f"NOTE: pixels are binarized, {trained.binarize}, seed {settings.seed}")
    if not trained.is_conditional and stream.class_names:
        print("NOTE: the model knows no classes, so the file has no labels")
    if settings.lossy:
        print("NOTE: the codes alone are kept: the images come back redrawn")
        coded = lossy.compress_codes(model, x, classes, levels=settings.levels, model_name=name)
    else:
        with tqdm.tqdm(total=len(x), desc="compressing", unit="image", disable=None) as bar:
            coded = bits_back.compress(model, x, classes, model_name=name, earlier=earlier, progress=bar.update)
    num_bytes = files.write(path, coded)
    each = num_bytes / coded.num_images
    size = f"{num_bytes:,} bytes ({each:,.2f} bytes each, {8 * each / x[0].size:.4g} bits/dim)"
    print(f"{stream.count(coded.num_images)} in {size}: {path}")


def decompress(run: Run, trained: TrainedModel) -> None:
    """Write the images of a file to a folder, or to an .npz file.

    Raises:
        CodingError, FlagError: for a file that cannot be decoded, or something in the place of the images.
    """
    source = pathlib.Path(run.settings.decompress)
    path, coded = destination(run, source.stem, ""), files.read(source)
    if run.settings.to and path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise FlagError(f"{path} is there already: name another folder or .npz file with --to")
    refuse_other_model(source, coded, run, trained)
    make_folder(path.parent)
    is_lossy = coded.kind == files.LOSSY
    model = coding_model(run, trained, is_lossy=is_lossy)
    try:
        if is_lossy:
            z, classes = lossy.decompress_codes(model, coded)
            x = np.round(255.0 * trained.decode(z, classes, run.settings.seed)).astype(np.uint8)
        else:
            with tqdm.tqdm(total=coded.num_images, desc="decompressing", unit="image", disable=None) as bar:
                x, classes = bits_back.decompress(model, coded, progress=bar.update)
            x = x * np.uint8(255 // (model.pixels.num_levels - 1))
    except CodingError as error:
        raise CodingError(f"{source} is damaged, so no image is written: {error}") from None
    write = write_arrays if path.suffix.lower() == ".npz" else write_pictures
    write(path, x, classes, trained.class_names)
    print(f"{coded.num_images:,} image{'s' * (coded.num_images != 1)} of {source}: {path}")


def destination(run: Run, name: str, ending: str) -> pathlib.Path:
    """The path of --to, or else one of this name in a folder of the verb among the run's outputs."""
    settings = run.settings
    if not settings.to:
        return run.folders.outputs / ("compress" if settings.compress else "decompress") / f"{name}{ending}"
    path = pathlib.Path(settings.to)
    is_folder = path.is_dir() or settings.to.endswith(("/", os.sep))
    return path / f"{name}{ending}" if settings.compress and is_folder else path


def earlier_file(run: Run, trained: TrainedModel, path: pathlib.Path) -> Coded | None:
    """The file that the images are appended to, if they are.

    Raises:
        FlagError: if they are not, and a file is in the way.
    """
    if not run.settings.append:
        if run.settings.to and path.exists():
            raise FlagError(f"{path} is there already: name another file with --to, or add to this one with --append")
        return None
    earlier = files.read(path)
    refuse_other_model(path, earlier, run, trained)
    if earlier.kind != files.LOSSLESS:
        raise FlagError(f"{path} is a lossy file, and nothing can be appended to it")
    return earlier


def model_name(run: Run) -> str:
    return f"{run.settings.model}/{run.folders.name}"


def coding_model(run: Run, trained: TrainedModel, *, is_lossy: bool) -> LossyModel:
    try:
        return (LossyModel if is_lossy else LosslessModel)(trained.model, trained.class_probs)
    except CodingError as error:
        raise CodingError(f"{run.source} cannot compress: {error}") from None


def refuse_other_model(path: pathlib.Path, coded: Coded, run: Run, trained: TrainedModel) -> None:
    if coded.digest != digest_of(trained.model, trained.class_probs) or coded.shape != trained.data_shape:
        raise CodingError(f"{path} was written with another model, {coded.model_name}, than {run.source}")


def as_pixels(x: np.ndarray, num_levels: int, name: str) -> np.ndarray:
    """Images as the model takes them, floats from 0 to 1, as levels from 0: uint8.

    Raises:
        CodingError: for grey pixels where the model has binary ones.
    """
    pixels = np.round(x * (num_levels - 1)).astype(np.uint8)
    if num_levels == 2 and (pixels != x).any():
        raise CodingError(
            f"{name} has grey pixels, and this model's likelihood gives probabilities of binary ones: compress with "
            "--lossy, or train with --likelihood logistic or --binarize dynamic"
        )
    return pixels


def write_arrays(path: pathlib.Path, x: np.ndarray, classes: np.ndarray | None, class_names: Sequence[str]) -> None:
    labels = {} if classes is None else {"labels": classes, "class_names": np.array(class_names)}
    with replacing(path) as partial:
        np.savez(partial, images=x, **labels)


def write_pictures(path: pathlib.Path, x: np.ndarray, classes: np.ndarray | None, class_names: Sequence[str]) -> None:
    """A folder of PNG files, with a folder for each class if there are classes. It appears when it is complete."""
    width, folders = len(str(max(len(x) - 1, 0))), folder_names(class_names)
    partial = path.with_name(f"{PARTIAL}{os.getpid()}.{path.name}")
    try:
        with naming_errors(path):
            for number, image in enumerate(tqdm.tqdm(x, desc="writing", unit="image", disable=None)):
                folder = partial if classes is None else partial / folders[classes[number]]
                folder.mkdir(parents=True, exist_ok=True)
                picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
                picture.save(folder / f"{number:0{width}}.png")
            partial.mkdir(parents=True, exist_ok=True)  # where there is no image
            if path.exists():
                shutil.rmtree(path)  # an empty one, or that of an earlier run of the same command
            os.replace(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def folder_names(class_names: Sequence[str]) -> list[str]:
    """The names of the classes where they are plain names of folders and differ; else numbers before what is plain."""
    plain = [re.sub(r"[^\w .,'()+-]", "_", name).strip(" .")[:80] for name in class_names]
    if all(name and name == given for name, given in zip(plain, class_names, strict=True)):
        return plain
    return [f"{number}_{name}" for number, name in enumerate(plain)]
