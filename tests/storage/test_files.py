import os

import pytest

from storage import files
from storage.files import WriteError, make_folder, remove_partial, replacing


@pytest.fixture
def earlier(tmp_path):
    path = tmp_path / "figures.json"
    path.write_text("earlier")
    return path


def names(folder):
    return [path.name for path in folder.iterdir()]


def test_a_file_is_replaced_once_it_is_whole(earlier):
    with replacing(earlier) as path:
        path.write_text("new")
        assert earlier.read_text() == "earlier"
    assert earlier.read_text() == "new"
    assert names(earlier.parent) == [earlier.name]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_write_that_is_broken_off_leaves_the_earlier_file(earlier, error):
    def write():
        with replacing(earlier) as path:
            path.write_text("ne")
            raise error

    with pytest.raises(error):
        write()
    assert earlier.read_text() == "earlier"
    assert names(earlier.parent) == [earlier.name]


def test_a_write_that_the_system_refuses_is_told_with_its_path(earlier, monkeypatch):
    def disk_full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", disk_full)
    told = r"cannot write .*figures.json: No space left on device\. .*untouched"
    with pytest.raises(WriteError, match=told), replacing(earlier) as path:
        path.write_text("new")
    assert earlier.read_text() == "earlier"
    assert names(earlier.parent) == [earlier.name]


def test_what_a_killed_run_left_half_written_is_removed(earlier):
    folder = earlier.parent
    (folder / f"{files.PARTIAL}{earlier.name}").write_text("half")
    remove_partial(folder)
    assert names(folder) == [earlier.name]


def test_a_file_where_a_folder_should_be_is_told(earlier):
    with pytest.raises(WriteError, match=r"cannot make the folder .*figures.json: a file is in its place"):
        make_folder(earlier)
    with pytest.raises(WriteError, match=r"cannot make the folder .*figures.json/deeper: Not a directory"):
        make_folder(earlier / "deeper")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_told(tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    with pytest.raises(WriteError, match="locked cannot be written to"):
        make_folder(folder)
    with pytest.raises(WriteError, match=r"cannot make the folder .*Permission denied"):
        make_folder(folder / "deeper")
