"""Category ids for class names."""

from collections.abc import Sequence

_UNUSED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
_NAMES = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,parking meter,"
    "bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee,"
    "skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,"
    "cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,"
    "potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,"
    "refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush"
)
COCO_CATEGORY_IDS = dict(zip(_NAMES.split(","), (k for k in range(1, 91) if k not in _UNUSED), strict=True))
"""Category ids of COCO's 80 classes by name. Ten ids from 1 to 90 are not used."""


def usual_category_ids(classes: Sequence[str]) -> tuple[int, ...]:
    """Return the category ids of classes whose ids in a data set are unknown.

    COCO's 80 classes, which published checkpoints have, get COCO's ids. Other classes get their index + 1.

    Example:
      >>> usual_category_ids(["car", "bus"])
      (1, 2)
      >>> usual_category_ids(list(COCO_CATEGORY_IDS))[-3:]
      (88, 89, 90)
    """
    if list(classes) == list(COCO_CATEGORY_IDS):
        return tuple(COCO_CATEGORY_IDS.values())
    return tuple(range(1, len(classes) + 1))
