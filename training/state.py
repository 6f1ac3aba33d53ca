"""The state of a training: what changes from step to step, apart from the run's settings."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass
class TrainingState:
    """Where a training stands, in values that JSON keeps exactly.

    Attributes:
        history: a row of figures for each whole epoch, of which there are `epoch`.
        step: steps done of the current epoch.
        running: the variables of the running means of those steps, by the metric's name.
        train_seconds, train_images: of all steps, without evaluations.
        settings: the settings and the epoch from which they hold, as {"from_epoch": 1, "learning_rate": 0.002, ...}; a
            row for each change. Checkpoints of earlier versions have none.
    """

    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    epoch: int = 0
    step: int = 0
    running: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    train_seconds: float = 0.0
    train_images: int = 0
    settings: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    @classmethod
    def from_header(cls, header: Mapping[str, Any]) -> "TrainingState":
        """The state in a checkpoint's header. What an earlier version did not store has its initial value."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: header[name] for name in names if name in header})

    def to_header(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def note_settings(self, epoch: int, settings: Mapping[str, Any]) -> None:
        """Record the settings that hold from this epoch on, counted from 1, if they have changed."""
        last = {**self.settings[-1]} if self.settings else {}
        last.pop("from_epoch", None)
        if last != dict(settings):
            self.settings.append({"from_epoch": epoch, **settings})

    def end_epoch(self, row: dict[str, float]) -> None:
        """Add the epoch's row of figures; the next epoch is then at its first step."""
        self.history.append(row)
        self.epoch += 1
        self.step = 0
        self.running = {}
