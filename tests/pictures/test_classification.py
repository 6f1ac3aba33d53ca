"""Pictures of what q(y|x) says about held-out examples."""

import numpy as np
import pytest

import visualize
from pictures.classification import draw_classification

PROBS = np.array([[0.9, 0.1, 0.0], [0.4, 0.35, 0.25], [0.3, 0.3, 0.4], [0.05, 0.95, 0.0]])


class Folder:
    caption = ""

    def path(self, name):
        return name


@pytest.mark.parametrize(
    ("classes", "shown", "title"),
    [
        ([0, 0, 2, 0], ["1 0.95"], "most wrong"),
        ([1, 1, 2, 1], ["0 0.90", "0 0.40"], "most wrong"),  # the right ones are not among them, however unsure
        ([0, 0, 2, 1], ["0 0.40", "2 0.40", "0 0.90", "1 0.95"], "least sure: none is wrong"),
    ],
)
def test_the_most_wrong_are_wrong_unless_none_is(monkeypatch, classes, shown, title):
    drawn = []
    monkeypatch.setattr(visualize, "save_confusion", lambda *_, **__: None)
    monkeypatch.setattr(visualize, "save_calibration", lambda *_, **__: None)
    monkeypatch.setattr(visualize, "save_labelled_images", lambda path, groups, **texts: drawn.append((groups, texts)))
    x = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 1), np.uint8)
    draw_classification(Folder(), x, PROBS, np.array(classes), np.eye(3), [], "012")
    ((groups, texts),) = drawn
    ((images, labels, names),) = groups.values()
    assert labels == shown
    assert len(images) == len(names) == len(shown)
    assert texts["title"].endswith(title)
