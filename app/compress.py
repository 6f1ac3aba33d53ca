"""--compress and --decompress: images to a small file and back."""

import pathlib
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
from coding.model import LosslessModel, LossyModel
from sources.streams import Stream
from storage.files import make_folder, replacing
from trained.conditions import Conditioner
from trained.model import TrainedModel

ENDING = ".vz"


def compress(run: Run, trained: TrainedModel, stream: Stream) -> None:
    """Write the images of a stream to a file.

    Raises:
        CodingError, FlagError: for a model, images or a file to which that cannot be done.
    """
    settings, path = run.settings, destination(run, f"{stream.name}{ENDING}")
    model = coding_model(run, trained, is_lossy=settings.lossy)
    earlier = read_own(path, model, run) if settings.append else None
    if earlier and earlier.kind != files.LOSSLESS:
        raise FlagError(f"{path} is a lossy file, and nothing can be appended to it")
    conditioner = Conditioner(trained, stream.class_names, settings.seed)
    x, classes = [], []
    for first, block in walk(stream, "reading"):
        given = conditioner.condition(block.x, block.labels, first)
        prepared = np.concatenate([images for images, _, _ in given.batches])
        x.append(as_pixels(prepared, model.pixels.num_levels, stream.name))
        classes += [np.argmax(labels, axis=1) for _, labels, _ in given.batches if trained.is_conditional]
    x, classes, name = (
        np.concatenate(x),
        np.concatenate(classes) if classes else None,
        f"{run.settings.model}/{run.folders.name}",
    )
    if settings.lossy:
        coded = lossy.compress_codes(model, x, classes, levels=settings.levels, model_name=name)
    else:
        with tqdm.tqdm(total=len(x), desc="compressing", unit="image", disable=None) as bar:
            coded = bits_back.compress(model, x, classes, model_name=name, earlier=earlier, progress=bar.update)
    num_bytes = files.write(path, coded)
    print_notes(stream, conditioner)
    if trained.binarize != "none" and not settings.lossy:
        print(f"NOTE: pixels are binarized, {trained.binarize}, seed {settings.seed}: that is what comes back")
    if not trained.is_conditional and stream.class_names:
        print("NOTE: the model knows no classes, so the file has no labels")
    bits = (
        f"{num_bytes / coded.num_images:,.2f} bytes each, {8 * num_bytes / coded.num_images / x[0].size:.4g} bits/dim"
    )
    print(f"{stream.count(coded.num_images)} in {num_bytes:,} bytes ({bits}): {path}")


def decompress(run: Run, trained: TrainedModel) -> None:
    """Write the images of a file to a folder, or to an .npz file.

    Raises:
        CodingError, FlagError: for a file that cannot be decoded, or a folder that is not empty.
    """
    source = pathlib.Path(run.settings.decompress)
    path, coded = destination(run, source.stem), files.read(source)
    if path.suffix != ".npz" and path.is_dir() and any(path.iterdir()):
        raise FlagError(f"{path} is not empty: name another folder with --to, or an .npz file")
    is_lossy = coded.kind == files.LOSSY
    model = coding_model(run, trained, is_lossy=is_lossy)
    refuse_other_model(source, coded, model, run)
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
    write = write_arrays if path.suffix == ".npz" else write_pictures
    write(path, x, classes, trained.class_names)
    print(f"{coded.num_images:,} image{'s' * (coded.num_images != 1)} of {source}: {path}")


def destination(run: Run, name: str) -> pathlib.Path:
    """The path of --to, or else one of this name in a folder of the verb among the run's outputs."""
    if not run.settings.to:
        return run.folders.outputs / ("compress" if run.settings.compress else "decompress") / name
    path = pathlib.Path(run.settings.to)
    return path / name if run.settings.compress and path.is_dir() else path


def coding_model(run: Run, trained: TrainedModel, *, is_lossy: bool) -> LossyModel:
    try:
        return (LossyModel if is_lossy else LosslessModel)(trained.model, trained.class_probs)
    except CodingError as error:
        raise CodingError(f"{run.source} cannot compress: {error}") from None


def read_own(path: pathlib.Path, model: LossyModel, run: Run) -> Coded:
    coded = files.read(path)
    refuse_other_model(path, coded, model, run)
    return coded


def refuse_other_model(path: pathlib.Path, coded: Coded, model: LossyModel, run: Run) -> None:
    if coded.digest != model.digest or coded.shape != model.data_shape:
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
    """PNG files, in a folder for each class if there are classes."""
    width = len(str(max(len(x) - 1, 0)))
    for number, image in enumerate(x):
        folder = path if classes is None else path / class_names[classes[number]].replace("/", "_")
        make_folder(folder)
        with replacing(folder / f"{number:0{width}}.png") as partial:
            Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(partial)
