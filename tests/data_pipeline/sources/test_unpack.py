"""Archives of VisDrone: extracted and refused files, and `ugs data` on a folder with the official layout."""

import zipfile

import numpy as np
import pytest

from data_pipeline import DataError, VisDrone
from data_pipeline.sources.unpack import unpack_visdrone
from tests.data_pipeline.coco_folder import write_image
from ugs_jax.cli import main

ROWS = "1,2,10,8,1,4,0,0\n5,6,0,8,1,4,0,0\n0,0,5,5,0,0,0,0\n"


@pytest.fixture
def archives(tmp_path, monkeypatch):
    """Train in a zip with a folder in it, val in a zip without, test-dev unpacked; each of two images."""
    monkeypatch.setenv("UGS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VISDRONE", raising=False)
    source = tmp_path / "downloads"
    for name in ("VisDrone2019-DET-train", "VisDrone2019-DET-val", "VisDrone2019-DET-test-dev"):
        for i in range(2):
            write_image(source / name / "images" / f"{i}.jpg")
            (source / name / "annotations").mkdir(exist_ok=True)
            (source / name / "annotations" / f"{i}.txt").write_text(ROWS)
        if name != "VisDrone2019-DET-test-dev":
            pack(source / name, f"{name}/" if name.endswith("train") else "")
    return source


def pack(folder, inside, extra=()):
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w") as file:
        for path in sorted(folder.rglob("*.*")):
            file.write(path, f"{inside}{path.relative_to(folder)}")
            path.unlink()
        for name, content in extra:
            file.writestr(name, content)
    for path in [*folder.iterdir(), folder]:
        path.rmdir()


def test_a_folder_laid_out_like_the_official_one_is_prepared(archives, tmp_path, capsys):
    target = tmp_path / "data"
    assert main(["data", "prepare", "visdrone", "--from", str(archives), "--to", str(target)]) == 0
    said = capsys.readouterr().out
    assert "train: 2 images, from " in said
    assert "VisDrone2019-DET-train.zip; the official archive has 6,471" in said
    assert "val: 2 images, 2 objects; 2 " in said  # a row without area in each image
    assert f"export VISDRONE={target}" in said
    for split in ("train", "val", "test"):
        data = VisDrone(target).open(split)
        np.testing.assert_array_equal(data[1].boxes, [[1, 2, 11, 10]])
    assert main(["data", "prepare", "visdrone", "--from", str(archives), "--to", str(target)]) == 0
    assert "train: 2 images, already unpacked" in capsys.readouterr().out


def test_missing_splits_are_reported_and_the_others_checked(archives, tmp_path, capsys, monkeypatch):
    (archives / "VisDrone2019-DET-val.zip").unlink()
    target = tmp_path / "data"
    assert main(["data", "prepare", "visdrone", "--from", str(archives), "--to", str(target)]) == 0
    said = capsys.readouterr().out
    assert "val: VisDrone2019-DET-val is missing; only training needs it" in said
    assert "challenge: VisDrone2019-DET-test-challenge is missing; only its submission needs it" in said
    assert "train: VisDrone2019-DET-train is missing" not in said
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ugs_jax.commands.data_check._targets", lambda *_: "not asked for")
    assert main(["data", "check", str(target)]) == 1  # every image is the same
    said = capsys.readouterr()
    assert "val: VisDrone2019-DET-val is missing" in said.err
    assert "| test  | 2      | 2       |" in said.out
    assert "0.jpg: annotations/0.txt:2" in said.out


@pytest.mark.parametrize("packed", [True, False])
def test_test_challenge_has_images_and_no_annotations(tmp_path, packed):
    name = "VisDrone2019-DET-test-challenge"
    write_image(tmp_path / "in" / name / "images" / "0.jpg")
    if packed:
        pack(tmp_path / "in" / name, f"{name}/")
    (found,) = unpack_visdrone(tmp_path / "in", tmp_path / "out")
    assert (found.split, found.images) == ("challenge", 1)
    assert [path.name for path in (tmp_path / "out" / name).iterdir()] == ["images"]
    data = VisDrone(tmp_path / "out").open("challenge", tmp_path / "cache")
    assert (len(data), data.table.boxes.shape, data.file_names) == (1, (0, 4), ("0.jpg",))


def test_other_files_stay_in_the_archive(tmp_path):
    source = tmp_path / "in"
    write_image(source / "VisDrone2019-DET-val" / "images" / "0.jpg")
    extra = [("annotations/0.txt", ROWS), ("setup.py", "x"), ("images/run.sh", "x"), ("__MACOSX/images/0.jpg", "x")]
    extra += [
        ("images/._0.jpg", "x"),
        ("annotations/._0.txt", "x"),
        ("__MACOSX/VisDrone2019-DET-val/images/._0.jpg", "x"),
    ]
    pack(source / "VisDrone2019-DET-val", "", extra)
    unpack_visdrone(source, tmp_path / "out")
    found = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert found == {f"VisDrone2019-DET-val/{name}" for name in ("images/0.jpg", "annotations/0.txt")}


@pytest.mark.parametrize(
    "name", ["../images/1.jpg", "/images/1.jpg", "a/../../images/1.jpg", "images\\..\\1.jpg", "C:/images/1.jpg"]
)
def test_a_name_that_leads_out_of_the_folder_is_refused(archives, name, tmp_path):
    with zipfile.ZipFile(archives / "VisDrone2019-DET-train.zip", "a") as file:
        file.writestr(name, "x")
    with pytest.raises(DataError, match=r"train\.zip: expected names inside the archive's folder, got .*Fix: "):
        unpack_visdrone(archives, tmp_path / "data")
    assert not any((tmp_path / "data").glob("*train*"))
    assert not any((tmp_path / "data").glob(".*"))


@pytest.mark.parametrize(
    ("compression", "position", "length", "message"),
    [(zipfile.ZIP_STORED, 200, 1, ""), (zipfile.ZIP_DEFLATED, len("annotations/0.txt") + 30, 8, "Error -3 ")],
    ids=["found by the checksum", "met by the decompressor"],
)
def test_a_damaged_archive_is_named_and_leaves_nothing(archives, tmp_path, compression, position, length, message):
    path = archives / "VisDrone2019-DET-train.zip"
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("annotations/0.txt", ROWS * 100)
    content = bytearray(path.read_bytes())
    content[position : position + length] = b"\xff" * length
    path.write_bytes(content)
    expected = rf"train\.zip: expected a whole zip archive, got: {message}.*Fix: download it again"
    with pytest.raises(DataError, match=expected):
        unpack_visdrone(archives, tmp_path / "data")
    assert not any((tmp_path / "data").iterdir())


def test_an_encrypted_archive_is_named(archives, tmp_path):
    path = archives / "VisDrone2019-DET-train.zip"
    content = bytearray(path.read_bytes())
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(header) + flags] |= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"train\.zip: expected a zip archive that is not encrypted, got: .*password"):
        unpack_visdrone(archives, tmp_path / "data")
    assert not any((tmp_path / "data").iterdir())


def test_a_duplicate_file_is_named(archives, tmp_path):
    with zipfile.ZipFile(archives / "VisDrone2019-DET-train.zip", "a") as file:
        file.writestr("other/images/1.jpg", "x")
    with pytest.raises(DataError, match=r"expected every file once, got 'other/images/1\.jpg' a second time\. Fix: "):
        unpack_visdrone(archives, tmp_path / "data")
    assert not any((tmp_path / "data").iterdir())


@pytest.mark.parametrize(("command", "status"), [(["prepare", "visdrone", "--from"], 1), (["check"], 2)])
def test_a_folder_without_the_data_set_is_named(command, status, tmp_path, capsys):
    assert main(["data", *command, str(tmp_path), *(["--to", str(tmp_path)] if "--from" in command else [])]) == status
    assert "VisDrone2019-DET-train" in capsys.readouterr().err
    assert main(["data", *command, str(tmp_path / "none")]) == status
