"""A run's folders. An earlier run of the same name is set aside, so that two are never mixed."""

import contextlib
import dataclasses
import itertools
import pathlib
import re
import shutil
from collections.abc import Mapping
from typing import Any

from storage.checkpoints import CheckpointError, read_header
from storage.files import make_folder

PREVIOUS = ".previous"  # a new run moves an earlier one of its name to <run>.previous
CHECKPOINT = ".weights.h5"


@dataclasses.dataclass(frozen=True)
class Folders:
    """The two folders of a run, both called MODEL/RUN: one for checkpoints, one for figures and pictures."""

    model: str
    checkpoints: pathlib.Path
    outputs: pathlib.Path

    @property
    def name(self) -> str:
        return self.outputs.name

    @property
    def both(self) -> tuple[pathlib.Path, ...]:
        """Both folders; only one if --checkpoint_dir and --output_dir are the same."""
        is_one = self.checkpoints.resolve() == self.outputs.resolve()
        return (self.checkpoints,) if is_one else (self.checkpoints, self.outputs)

    @property
    def newest(self) -> pathlib.Path:
        """The run's newest checkpoint."""
        return self.checkpoints / f"{self.model}{CHECKPOINT}"

    def kept(self, epoch: int) -> pathlib.Path:
        """The kept checkpoint of an epoch."""
        return self.checkpoints / f"epoch_{epoch:03d}{CHECKPOINT}"


def previous(folder: pathlib.Path) -> pathlib.Path:
    return folder.with_name(f"{folder.name}{PREVIOUS}")


def is_newer(path: pathlib.Path, header: Mapping[str, Any]) -> bool:
    """Whether the checkpoint at `path` has done more steps than the one with this header."""
    with contextlib.suppress(CheckpointError):
        return read_header(path)["iterations"] > header["iterations"]
    return False


def set_aside(folders: Folders) -> None:
    """Move an earlier run of the same name to <run>.previous, and delete the run that was there.

    An earlier run that was stopped in its first epoch does not replace <run>.previous: it is deleted instead.
    """
    filled = [folder for folder in folders.both if folder.exists() and any(folder.iterdir())]
    if previous(folders.checkpoints).exists() and is_in_first_epoch(folders.newest):
        remove_unfinished(folders, filled)
        return
    for folder in filled:
        is_replacing = previous(folder).exists()
        remove(previous(folder))
        move(folder, previous(folder), ", in place of the one there" if is_replacing else "")


def remove_unfinished(folders: Folders, filled: list[pathlib.Path]) -> None:
    """Remove the files of a run that was stopped in its first epoch; outputs with results belong to another run."""
    for folder in filled:
        if folder != folders.checkpoints and any(path.name != "tensorboard" for path in visible(folder)):
            move(folder, free_place(folder))
        else:
            remove(folder)
            print(f"an earlier run was stopped in its first epoch: removed {folder}")


def branch_off(folders: Folders, source: pathlib.Path, epoch: int) -> None:
    """Go back to an earlier checkpoint of a run: set its newer state aside, and keep what both branches share."""
    place = free_place(*folders.both)
    for folder in folders.both:
        branch = folder.with_name(f".{folder.name}.branch")  # whole before it takes the run's place
        remove(branch)
        make_folder(branch)
        for path in folder.glob("epoch_*"):
            found = re.match(r"epoch_(\d+)[._]", path.name)
            if path.is_file() and found and int(found[1]) <= epoch:
                shutil.copy2(path, branch / path.name)
        if folder == folders.checkpoints:
            shutil.copy2(source, branch / folders.newest.name)
        if folder.exists():
            move(folder, folder.with_name(place.name))
        branch.rename(folder)
    aside = folders.checkpoints.with_name(place.name)
    print(f"the run goes back to {source.name}, the end of epoch {epoch}: its newer state is in {aside}")


def free_place(*folders: pathlib.Path) -> pathlib.Path:
    """<run>.previous, or else <run>.previous-2, ...: the first name that is free beside all of these folders."""
    numbers = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    names = (f"{previous(folders[0]).name}{number}" for number in numbers)
    return next(
        folders[0].with_name(name) for name in names if not any(folder.with_name(name).exists() for folder in folders)
    )


def visible(folder: pathlib.Path) -> list[pathlib.Path]:
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def remove(path: pathlib.Path) -> None:
    """Remove a folder, or a link or file in its place, if it is there."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def move(folder: pathlib.Path, place: pathlib.Path, note: str = "") -> None:
    folder.rename(place)
    print(f"an earlier run was at {folder}: moved to {place}{note}")


def without_ending(run_name: str) -> str:
    """The name that a run had before it was set aside under this one."""
    return re.sub(rf"{re.escape(PREVIOUS)}(-\d+)?$", "", run_name)


def is_in_first_epoch(checkpoint: pathlib.Path) -> bool:
    try:
        return read_header(checkpoint)["epoch"] == 0
    except CheckpointError:
        return False
