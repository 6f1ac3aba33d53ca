"""Folders of images of every format, size and mode, with what users' folders have in them besides."""

import numpy as np
import pytest
from PIL import Image

from sources.image_folders import read_image, read_image_folder, resized
from sources.readers import DataError


def save(path, mode="RGB", size=(6, 4), value=100, **options):
    """An image of one grey value, width and height in `size`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).convert(mode).save(path, **options)


@pytest.fixture
def class_folder(tmp_path):
    """Two classes with three images each, of three formats, and files that are no images."""
    for number, name in enumerate(("cats", "dogs")):
        for i, ending in enumerate(("png", "bmp", "TIFF")):
            save(tmp_path / "pets" / name / f"{i}.{ending}", value=100 * number + i)
    (tmp_path / "pets" / "cats" / "notes.txt").write_text("not an image")
    (tmp_path / "pets" / ".hidden").mkdir()
    return tmp_path / "pets"


def test_sub_folders_are_classes(class_folder):
    found = read_image_folder(class_folder)
    assert found.images.shape == (6, 4, 6, 3)
    assert found.class_names == ("cats", "dogs")
    assert found.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert found.images[:, 0, 0, 0].tolist() == [0, 1, 2, 100, 101, 102]
    assert found.notes == ()


def test_a_folder_without_sub_folders_has_no_classes(class_folder):
    found = read_image_folder(class_folder / "dogs")
    assert found.labels is None
    assert found.class_names == ()
    assert len(found.images) == 3


@pytest.mark.parametrize(
    ("mode", "ending", "channels"),
    [("L", "png", 1), ("1", "png", 1), ("LA", "png", 1), ("RGB", "jpg", 3), ("RGBA", "png", 3), ("P", "gif", 3),
     ("CMYK", "tiff", 3), ("I;16", "png", 1), ("L", "webp", 3)],
)  # fmt: skip
def test_grey_stays_grey_and_colour_stays_colour(tmp_path, mode, ending, channels):
    path = tmp_path / f"a.{ending}"
    if mode == "I;16":
        Image.fromarray(np.full((4, 6), 255 * 257, np.uint16)).save(path)
    else:
        save(path, mode, value=255)
    image, _ = read_image(path, None)
    assert image.shape == (4, 6, channels)
    assert image.min() >= 253


def test_what_is_transparent_is_white(tmp_path):
    Image.new("RGBA", (3, 3), (0, 0, 0, 0)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", None)[0].min() == 255
    Image.new("LA", (3, 3), (0, 0)).save(tmp_path / "b.png")
    assert read_image(tmp_path / "b.png", None)[0].min() == 255


def test_photographs_stand_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # taken with the camera turned by 90 degrees
    Image.new("RGB", (6, 4)).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg", None)[0].shape == (6, 4, 3)


def test_image_size_keeps_proportions_and_cuts_what_is_too_long(tmp_path):
    """A wide picture with red at both ends and green in the middle: brought to a square, only the green is left."""
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, :20, 0] = pixels[:, 40:, 0] = pixels[:, 20:40, 1] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image, _ = read_image(tmp_path / "a.png", (10, 10))
    assert image.shape == (10, 10, 3)
    assert image[:, 1:-1].reshape(-1, 3).min(axis=0).tolist() == pytest.approx([0, 255, 0], abs=2)
    assert image[:, 1:-1, 0].max() <= 2
    assert read_image(tmp_path / "a.png", (5, 30))[0].shape == (5, 30, 3)


def test_arrays_are_resized_as_files_are(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (3, 9, 7, 3), dtype=np.uint8)
    Image.fromarray(images[1]).save(tmp_path / "a.png")
    result = resized(images, (5, 6))
    assert np.array_equal(result[1], read_image(tmp_path / "a.png", (5, 6))[0])
    assert resized(images[..., :1], (5, 6)).shape == (3, 5, 6, 1)


def test_images_that_cannot_be_read_are_named_and_skipped(class_folder):
    (class_folder / "cats" / "1.bmp").write_bytes(b"BM this is no image")
    found = read_image_folder(class_folder)
    assert found.labels.tolist() == [0, 0, 1, 1, 1]
    assert found.images[:, 0, 0, 0].tolist() == [0, 2, 100, 101, 102]
    (note,) = found.notes
    assert "skipped 1 of 6 images" in note
    assert str(class_folder / "cats" / "1.bmp") in note
    (class_folder / "dogs" / "0.png").write_bytes((class_folder / "dogs" / "0.png").read_bytes()[:45])
    found = read_image_folder(class_folder)
    assert found.labels.tolist() == [0, 0, 1, 1]
    assert "skipped 2 of 6 images" in found.notes[0]
    assert found.notes[0].endswith("and others")


def test_programs_are_not_taken_for_images(class_folder):
    """Pillow would have Ghostscript run them."""
    save(class_folder / "cats" / "1.eps")
    assert len(read_image_folder(class_folder).images) == 6
    (class_folder / "cats" / "1.eps").rename(class_folder / "cats" / "1.png")
    assert "skipped 1 of 7 images" in read_image_folder(class_folder).notes[0]
    assert "cannot identify image file" in read_image_folder(class_folder).notes[0]


def ruin(folder):
    for path in [path for path in folder.rglob("*.*") if path.is_file()]:
        path.write_bytes(b"ruined")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: save(f / "dogs" / "9.png", "L"), "mixes channels: .*0.png is in colour, .*9.png is grey"),
        (lambda f: save(f / "dogs" / "9.png", size=(5, 5)), "mixes sizes: .*0.png has 4x6 pixels, .*9.png 5x5.*size"),
        (lambda f: save(f / "stray.png"), "images both beside and in its sub-folders, such as .*stray.png"),
        (lambda f: (f / "birds").mkdir(), "birds holds no images"),
        (lambda f: ruin(f / "dogs"), "dogs holds no image that can be read, and should be a class"),
        (ruin, "holds no image that can be read; the first is .*0.png"),
        (lambda f: save(f / "cats" / "0.png", size=(600, 600)), "600x600 pixels: choose a smaller size with"),
    ],
)
def test_a_bad_folder_is_named_with_what_is_wrong(class_folder, change, message):
    change(class_folder)
    with pytest.raises(DataError, match=message) as error:
        read_image_folder(class_folder)
    assert str(class_folder) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_name_of_several_lines_is_told_in_one(tmp_path):
    save(tmp_path / "two\nlines" / "a.png", size=(600, 600))
    with pytest.raises(DataError, match=r"two lines/a\.png has 600x600 pixels") as error:
        read_image_folder(tmp_path)
    assert "\n" not in str(error.value)


def test_links_that_lead_in_circles_are_not_followed(class_folder):
    (class_folder / "cats" / "again").symlink_to(class_folder / "cats")
    (class_folder / "all").symlink_to(class_folder)
    assert len(read_image_folder(class_folder).images) == 6


def test_what_a_folder_leaves_out_is_noted(class_folder, tmp_path):
    frames = [Image.new("RGB", (6, 4), (i, i, i)) for i in (30, 60, 90)]
    for name in ("anim.gif", "stack.tiff"):
        frames[0].save(class_folder / "dogs" / name, save_all=True, append_images=frames[1:])
    (class_folder / "cats" / "broken.png").symlink_to(tmp_path / "nowhere.png")
    (class_folder / "gone").symlink_to(tmp_path / "no_folder")
    save(tmp_path / "elsewhere" / "a.png")
    (class_folder / "cats" / "linked").symlink_to(tmp_path / "elsewhere")
    (class_folder / "all").symlink_to(class_folder)
    (class_folder / "cats" / "0.png").rename(class_folder / "cats" / "0")
    (class_folder / "cats" / "README").write_text("not an image")
    found = read_image_folder(class_folder)
    assert found.images[found.labels == 1, 0, 0, 0].tolist() == [100, 101, 102, 30, 30]
    assert found.labels.tolist().count(0) == 2
    assert found.notes == (
        f"left out 2 broken links: {class_folder}/gone and others",
        f"left out 2 linked folders: {class_folder}/all and others",
        f"left out 1 image with a name without ending, such as .png: {class_folder}/cats/0",
        f"used only the first frame of 2 images: {class_folder}/dogs/anim.gif and others",
    )


def test_a_folder_of_images_without_endings_says_why_it_has_none(tmp_path):
    save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a")
    with pytest.raises(DataError, match=r"holds no images; left out 1 image with a name without ending, .*/a$"):
        read_image_folder(tmp_path)


def test_an_image_whose_second_frame_is_damaged_is_used(tmp_path):
    frames = [Image.effect_noise((20, 20), 50 + i) for i in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    content = (tmp_path / "a.gif").read_bytes()
    (tmp_path / "a.gif").write_bytes(content[: len(content) // 2])
    assert len(read_image_folder(tmp_path).images) == 1


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no images"):
        read_image_folder(tmp_path)


def test_image_size_reconciles_different_sizes(class_folder):
    save(class_folder / "dogs" / "9.png", size=(50, 30))
    assert read_image_folder(class_folder, (8, 8)).images.shape == (7, 8, 8, 3)
