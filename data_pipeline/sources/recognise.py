"""Recognition of a user's data set by its files: YOLO folder, COCO JSON or VisDrone."""

from collections.abc import Iterator
from pathlib import Path

from data_pipeline.dataset import DataSource
from data_pipeline.errors import DataError
from data_pipeline.sources.coco_layouts import find_coco, is_train_json
from data_pipeline.sources.find_files import is_leftover
from data_pipeline.sources.visdrone import FOLDERS, VisDrone
from data_pipeline.sources.yolo_folder import YoloFolder
from data_pipeline.sources.yolo_yaml import read_data_yaml

_YAML = (".yaml", ".yml")
_LOOKED_FOR = (
    "a data.yaml (YOLO), annotation files for training and validation such as annotations/instances_train.json and "
    "annotations/instances_val.json (COCO), or VisDrone2019-DET-train and VisDrone2019-DET-val (VisDrone)"
)


def data_source_at(path: str | Path) -> DataSource:
    """Return the data set at a path, recognised by its files.

    - A data.yaml, or a folder with one: `YoloFolder`.
    - A COCO annotation file for training that has one for validation beside it, or a folder with such files:
      `CocoJson`. The layouts are those of `coco_layouts.find_coco`.
    - A folder with the folders of VisDrone-DET, or one of these folders: `VisDrone`.

    Args:
      path: File or folder.

    Raises:
      DataError: Nothing is recognised, or several data sets are. The message names what was found and the fix.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        found = list(_in_folder(path))
        if not found:
            raise DataError(f"{path}: expected {_LOOKED_FOR}; found {_content(path)}. {_fix(path)}")
    elif path.suffix.lower() in _YAML:
        read_data_yaml(path)  # raises errors now
        return YoloFolder(path)
    elif path.suffix.lower() == ".json" and path.is_file():
        found = [(str(path), source) for source in find_coco([path])]
        if not found:
            raise DataError(
                f"{path}: expected an annotation file for training with another for validation, found "
                f"{'no file of the same name with `val`' if is_train_json(path) else 'no `train` in its name'}. "
                "Fix: name the files train.json and val.json, or write a config with `CocoJson(train_images=…, "
                "train_json=…, val_images=…, val_json=…)`."
            )
    else:
        got = "a file of another kind" if path.exists() else "nothing"
        raise DataError(f"{path}: expected {_LOOKED_FOR}; found {got}. Fix: give the path of the file or its folder.")
    if len(found) > 1:
        raise DataError(
            f"{path}: expected one data set, found {len(found)}: {', '.join(name for name, _ in found)}. "
            "Fix: give the path of one of these files."
        )
    return found[0][1]


def _in_folder(folder: Path) -> Iterator[tuple[str, DataSource]]:
    """Yield every data set of a folder with the name of its file."""
    named = False
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() in _YAML and not is_leftover(file.name) and file.is_file() and _names_splits(file):
            yield str(file), YoloFolder(file)
            named = True
    root = folder.parent if folder.name in FOLDERS.values() else folder
    if any((root / FOLDERS[split] / "images").is_dir() for split in ("train", "val")):
        yield str(root), VisDrone(root)
        named = True
    try:
        for source in find_coco(_json_files(folder)):
            yield str(source.train_json), source
    except DataError:
        if not named:  # beside another data set, train.json may be anything
            raise


def _names_splits(file: Path) -> bool:
    """Return True for the data.yaml of a data set. Other YAML files, such as settings of a training, do not count."""
    try:
        return "train" in read_data_yaml(file).splits
    except DataError:
        return file.stem == "data"  # its fault is told when it is opened


def _json_files(folder: Path) -> list[Path]:
    return sorted(
        file
        for pattern in ("*.json", "*/*.json")
        for file in folder.glob(pattern)
        if not any(is_leftover(part) for part in file.relative_to(folder).parts)
    )


def _content(folder: Path) -> str:
    names = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir() if not is_leftover(entry.name))
    shown = ", ".join(names[:8])
    return f"{shown}, … ({len(names)} entries)" if len(names) > 8 else shown or "an empty folder"


def _fix(folder: Path) -> str:
    if (folder / "labels").is_dir() or (folder / "train" / "labels").is_dir():
        return (
            "It looks like a YOLO folder without its data.yaml. Fix: write one, for example `train: images/train`, "
            "`val: images/val`, `names: [car, person]`."
        )
    if any(folder.glob("VisDrone2019-DET-*.zip")):
        return f"Fix: unpack the archives: ugs data prepare visdrone --from {folder} --to {folder}"
    return "Fix: give the path of the file, or the folder that has these."
