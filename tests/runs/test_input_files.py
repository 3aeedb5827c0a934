"""Names of input files: relative to the folder that contains all, and different for different files."""

from pathlib import Path

import pytest

from ugs_jax.runs.input_files import input_files


@pytest.fixture
def folder(tmp_path):
    names = ("one/x.jpg", "one/X.png", "one/y.mp4", "one/7.jpg", "one/007.jpg", "two/x.jpg", "two/z.tif", "notes.txt")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    for name in ("one/._x.jpg", "one/.z.png", "one/Thumbs.db", "one/list.csv"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def names(*paths):
    return {file.file_name: file.name for file in input_files(paths)}


def test_names_are_relative_to_the_given_folder(folder):
    assert names(folder / "two") == {"x.jpg": "x", "z.tif": "z"}
    assert names(folder / "two" / "x.jpg") == {"x.jpg": "x"}


def test_names_in_two_folders_begin_with_the_folder(folder):
    assert names(folder / "one" / "x.jpg", folder / "two") == {
        "one/x.jpg": "one/x",
        "two/x.jpg": "two/x",
        "two/z.tif": "two/z",
    }


def test_a_file_outside_of_the_folder_has_its_own_name_and_does_not_change_those_of_the_folder(folder):
    assert names(folder / "two", folder / "one" / "y.mp4") == {"x.jpg": "x", "z.tif": "z", "y.mp4": "y"}


def test_names_that_would_be_the_same_keep_their_suffix(folder):
    assert names(folder / "one") == {
        "X.png": "X.png",
        "x.jpg": "x.jpg",
        "y.mp4": "y",
        "7.jpg": "7.jpg",
        "007.jpg": "007.jpg",
    }


def test_a_file_that_is_given_twice_is_taken_once(folder, monkeypatch):
    monkeypatch.chdir(folder / "two")
    assert names(Path(), folder / "two" / "x.jpg", Path("../two/z.tif")) == {"x.jpg": "x", "z.tif": "z"}


def test_links_keep_their_own_names(folder):
    (folder / "links").mkdir()
    (folder / "links" / "a.jpg").symlink_to(folder / "two" / "x.jpg")
    assert names(folder / "links") == {"a.jpg": "a"}


def test_what_is_missing_is_named(folder):
    with pytest.raises(FileNotFoundError, match=r"gone: expected an image or a video, or a folder of them, found"):
        input_files([folder / "two", folder / "gone"])
    (folder / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"empty: expected image files \(\.bmp, .*\) or video files \(.*\.mp4"):
        input_files([folder / "empty"])
