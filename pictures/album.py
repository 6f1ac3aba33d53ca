"""Where the pictures of a run go, and what stands above each."""

import dataclasses
import os
import pathlib


@dataclasses.dataclass(frozen=True)
class Album:
    """A folder of pictures.

    Args:
        caption: a line above every picture, such as the names of the run and the dataset.
        prefix: the beginning of the files' names, such as `epoch_002_`.
    """

    folder: str | os.PathLike
    caption: str = ""
    prefix: str = ""

    def with_prefix(self, prefix: str) -> "Album":
        return dataclasses.replace(self, prefix=prefix)

    def path(self, name: str) -> pathlib.Path:
        """The path of the picture with this name."""
        return pathlib.Path(self.folder, f"{self.prefix}{name}")
