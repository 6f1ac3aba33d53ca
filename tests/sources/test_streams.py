"""Data for a trained model: read block by block, brought to its shape, named."""

import os

import numpy as np
import pytest
from PIL import Image

from data import load_dataset, load_others, open_stream
from sources.readers import DataError

SHAPE = (4, 4, 1)


def save(path, size=(4, 4), value=100, mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).convert(mode).save(path)


@pytest.fixture
def folder(tmp_path):
    """Two classes of three images each; the value of an image is its number."""
    for number in range(6):
        save(tmp_path / "pets" / ("cats", "dogs")[number // 3] / f"{number}.png", value=100 + number)
    return tmp_path / "pets"


@pytest.fixture
def arrays(tmp_path):
    """50 images in an .npz, each of the value of its number, of two classes."""
    images = np.arange(50, dtype=np.uint8)[:, None, None] + np.zeros((1, 4, 4), np.uint8) + 60
    np.savez(tmp_path / "a.npz", images=images, labels=np.arange(50) // 25)
    return tmp_path / "a.npz"


def read(stream, size=4):
    """All blocks of a stream, joined, and their sizes."""
    blocks = list(stream.blocks(size))
    joined = (np.concatenate([getattr(block, field) for block in blocks]) for field in ("x", "labels"))
    return *joined, [name for block in blocks for name in block.names], [len(block.x) for block in blocks]


def test_a_folder_is_read_in_blocks_with_classes_and_paths(folder):
    stream = open_stream(folder, "data", SHAPE)
    assert (stream.name, stream.total, stream.split, stream.class_names) == ("pets", 6, None, ("cats", "dogs"))
    x, labels, names, sizes = read(stream)
    assert sizes == [4, 2]
    assert x.shape == (6, *SHAPE)
    assert x.dtype == np.uint8
    assert x[:, 0, 0, 0].tolist() == [100, 101, 102, 103, 104, 105]
    assert labels.tolist() == [[1, 0]] * 3 + [[0, 1]] * 3
    assert names == ["cats/0.png", "cats/1.png", "cats/2.png", "dogs/3.png", "dogs/4.png", "dogs/5.png"]
    assert stream.changes == stream.notes() == []
    assert stream.describe() == f"pets from {folder}: 6 images, 2 classes"


def test_pixels_are_read_only_when_their_block_is(folder, monkeypatch):
    from sources import streams

    opened, open_image = [], streams.open_image
    monkeypatch.setattr(streams, "open_image", lambda path: opened.append(path.name) or open_image(path))
    blocks = open_stream(folder, "data", SHAPE).blocks(2)
    assert opened == []
    next(blocks)
    assert opened == ["0.png", "1.png"]


def test_transparent_pixels_are_not_known_also_after_resizing(tmp_path):
    image = Image.new("LA", (8, 8), (90, 255))
    image.paste((200, 0), (0, 0, 4, 8))  # the left half
    (tmp_path / "a").mkdir()
    image.save(tmp_path / "a" / "0.png")
    image.convert("L").save(tmp_path / "a" / "1.png")
    for size in (8, 4):
        (block,) = open_stream(tmp_path / "a", "data", (size, size, 1)).blocks(5)
        assert block.known.shape == (2, size, size)
        assert not block.known[0, :, : size // 2].any()
        assert block.known[0, :, size // 2 + 1 :].all()
        assert block.known[1].all()
        assert np.abs(block.x[0, :, size // 2 + 1 :].astype(int) - 90).max() <= 4, "next to none of the white in them"


def test_what_cannot_be_read_is_skipped_and_blocks_stay_full(folder):
    (folder / "cats" / "0.png").write_bytes(b"nothing")
    stream = open_stream(folder, "data", SHAPE)
    for _ in range(2):  # the counts are of one pass
        _, labels, names, sizes = read(stream, 2)
        assert sizes == [2, 2, 1], "the noise of an image depends on its place in the block"
        assert labels.argmax(axis=1).tolist() == [0, 0, 1, 1, 1]
        assert names[0] == "cats/1.png"
        (note,) = stream.notes()
        assert note.startswith(f"skipped 1 of 6 images, which cannot be read: {folder}/cats/0.png (cannot identify")


def test_a_part_without_classes_beside_one_with_them_has_empty_labels(tmp_path):
    save(tmp_path / "mixed/train/cats/0.png")
    save(tmp_path / "mixed/test/1.png")
    _, labels, names, _ = read(open_stream(tmp_path / "mixed", "data", SHAPE, split="all"))
    assert names == ["train/cats/0.png", "test/1.png"]
    assert labels.tolist() == [[1], [0]]


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DataError, match="no regular file"):
        open_stream(tmp_path / "pipe.png", "data", SHAPE)


def test_a_folder_with_nothing_readable_is_refused(folder):
    for path in folder.glob("*/*"):
        path.write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"pets holds no image that can be read; the first is .*0.png"):
        list(open_stream(folder, "data", SHAPE).blocks(2))


def test_images_of_all_sizes_and_colours_are_made_to_fit_and_it_is_said(tmp_path):
    save(tmp_path / "mixed" / "a.png", size=(4, 4))
    save(tmp_path / "mixed" / "b.png", size=(8, 8), mode="RGB", value=77)
    save(tmp_path / "mixed" / "c.png", size=(12, 6))
    stream = open_stream(tmp_path / "mixed", "data", SHAPE)
    x, _, names, _ = read(stream)
    assert x[:, 0, 0, 0].tolist() == [100, 77, 100]
    assert names == ["a.png", "b.png", "c.png"]
    assert stream.changes == ["cropped and resized from 8x8 and other sizes to 4x4 (2 of 3)", "made grey (1 of 3)"]
    stream = open_stream(tmp_path / "mixed" / "b.png", "data", (8, 8, 3))
    assert read(stream)[0].shape == (1, 8, 8, 3)
    assert stream.changes == []


def test_a_single_image_is_a_stream_of_one(folder):
    stream = open_stream(folder / "dogs" / "4.png", "data", (2, 2, 3))
    x, labels, names, _ = read(stream)
    assert x.shape == (1, 2, 2, 3)
    assert labels.shape == (1, 0)
    assert (stream.name, names, stream.total) == ("4", ["4.png"], 1)
    assert stream.changes == ["resized from 4x4 to 2x2", "made colour"]


def test_an_archive_keeps_its_order_and_has_no_split(arrays):
    stream = open_stream(arrays, "data", SHAPE)
    x, labels, names, sizes = read(stream, 20)
    assert x[:, 0, 0, 0].tolist() == list(range(60, 110))
    assert labels.sum(axis=0).tolist() == [25, 25]
    assert (names[:2], names[-1], sizes, stream.class_names) == (["0", "1"], "49", [20, 20, 10], ("0", "1"))
    with pytest.raises(DataError, match="--split test: a is not split into training and test data; leave the flag out"):
        open_stream(arrays, "data", SHAPE, split="test")


def test_an_archive_of_one_image_will_do(tmp_path):
    np.savez(tmp_path / "one.npz", images=np.ones((1, 4, 4)))
    x, labels, *_ = read(open_stream(tmp_path / "one.npz", "data", SHAPE))
    assert x.shape == (1, *SHAPE)
    assert labels.shape == (1, 0)


def test_the_test_data_are_used_unless_a_split_is_asked_for(folder):
    test = load_dataset("mnist_sample").test
    stream = open_stream("mnist_sample", "data", (28, 28, 1))
    x, labels, names, _ = read(stream, 300)
    assert stream.split == "test"
    assert np.array_equal(x, test.x)
    assert np.array_equal(labels, test.labels)
    assert names[-1] == "999"
    for split, num in (("train", 4000), ("all", 5000)):
        stream = open_stream("mnist_sample", "data", (28, 28, 1), split=split)
        x, _, names, _ = read(stream, 900)
        assert len(x) == stream.total == num
    assert np.array_equal(x[4000:], test.x)
    assert names[3999:4001] == ["train/3999", "test/0"]


def test_folders_train_and_test_are_a_split(tmp_path, folder):
    for split in ("train", "test"):
        (tmp_path / "both").mkdir(exist_ok=True)
        (tmp_path / "both" / split).symlink_to(folder)
    (tmp_path / "both" / "more").mkdir()
    stream = open_stream(tmp_path / "both", "data", SHAPE)
    _, _, names, _ = read(stream)
    assert (stream.split, names[0], len(names)) == ("test", "test/cats/0.png", 6)
    assert stream.notes() == [f"the folder {tmp_path}/both/more is not used"]
    names = read(open_stream(tmp_path / "both", "data", SHAPE, split="all"))[2]
    assert [name.split("/")[0] for name in names] == ["train"] * 6 + ["test"] * 6


def test_a_choice_is_that_of_the_evaluation(folder):
    """So that --score and --evaluate give the same figures with --max_examples."""
    chosen = load_dataset("mnist_sample").test.random_choice(7, seed=3)
    x, labels, *_ = read(open_stream("mnist_sample", "data", (28, 28, 1)).choose(7, seed=3), 5)
    assert np.array_equal(x, chosen.x)
    assert np.array_equal(labels, chosen.labels)
    stream = open_stream(folder, "data", SHAPE)
    few = stream.choose(3, seed=0)
    everything, some = read(stream), read(few)
    assert (few.total, stream.total) == (3, 6)
    rows = [everything[2].index(name) for name in some[2]]
    assert np.array_equal(some[0], everything[0][rows])
    assert stream.choose(6, seed=0) is stream


def test_named_data_are_made_to_fit_as_for_the_separation(idx_folder):
    stream = open_stream("mnist", str(idx_folder), (6, 6, 3))
    assert np.array_equal(read(stream, 25)[0], load_others("mnist", str(idx_folder), (6, 6, 3)).test.x)
    assert stream.changes == ["resized from 12x12 to 6x6", "made colour"]


def test_points_go_with_points_only(folder):
    stream = open_stream("moons", "data", (2,))
    x, labels, *_ = read(stream, 900)
    assert x.shape == (2000, 2)
    assert labels.shape == (2000, 2)
    assert stream.describe() == "moons from scikit-learn: 2,000 points for test, 2 classes"
    assert stream.changes == []
    with pytest.raises(DataError, match="moons holds points, the model is of images"):
        open_stream("moons", "data", SHAPE)
    for images in (folder, "mnist_sample"):
        with pytest.raises(DataError, match="holds images, the model is of points"):
            open_stream(images, "data", (2,))


def test_what_is_no_data_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"notes.txt is neither a folder of images, nor an .npz file, nor an image"):
        open_stream(tmp_path / "notes.txt", "data", SHAPE)
    with pytest.raises(DataError, match="empty holds no images"):
        open_stream(tmp_path / "empty", "data", SHAPE)
    with pytest.raises(DataError, match="there is no file or folder"):
        open_stream(tmp_path / "nowhere", "data", SHAPE)
    with pytest.raises(DataError, match="--split all: empty is not split"):
        open_stream(tmp_path / "empty", "data", SHAPE, split="all")
    (tmp_path / "a.npz").write_text("nothing")
    with pytest.raises(DataError, match=r"a.npz cannot be read as an .npz archive"):
        open_stream(tmp_path / "a.npz", "data", SHAPE)
