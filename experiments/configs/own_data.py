"""UGS on your data: YOLOv5u of size n with the level P2 for small objects, 640², mosaics, 100 epochs.

    ugs train --data data.yaml                                       # or a folder in COCO or VisDrone format
    ugs train --data data.yaml --network.weights yolov5n.pt          # start from published weights
    ugs compare --data data.yaml                                     # against CIoU, on the same batches

YOLOv5u is YOLOv5 with heads that have no anchors. Boxes choose cells by their receptive fields (RFLA), which is the
best assigner for tiny objects in experiments/results/assigners.md, and better than anchors on HIT-UAV
(experiments/results/hit_uav_published.md). `own_data_anchors` is YOLOv5 with anchors.

The values are common ones for some hundred to some thousand images and one GPU. Those of the losses and of
`postprocess` are measured on HIT-UAV from published weights, where UM and UR gained nothing;
`--localization.um.weight 0.5 --localization.refinement.weight 0.1` turns them on. P2 stands beside the bottom-up path
(`p2_joins=False`), so that published weights fit all of P3 to P5. With few images and epochs, try `--network.no-p2`,
too.

The first to change are `--loader.image-size`, `--loader.batch-size` and `--epochs`. On a CPU, add `--network.size p
--loader.image-size 320 320 --epochs 20`. Without `--data`, the data.yaml of the working directory is used.
"""

from pathlib import Path

from data_pipeline import LoaderOptions, YoloFolder
from ugs_jax.detectors import Postprocess, ReceptiveField
from ugs_jax.experiment import AdamW, Experiment, Network, Schedule
from ugs_jax.objectives import UGS, Refinement, Uncertainty

experiment = Experiment(
    name="own_data",
    data=YoloFolder(Path("data.yaml")),
    localization=UGS(um=Uncertainty(weight=0.0), refinement=Refinement(weight=0.0)),
    network=Network(size="n", p2=True, p2_joins=False, kind="yolov5u", assigner=ReceptiveField()),
    loader=LoaderOptions(image_size=(640, 640), batch_size=8, max_boxes=500),
    optimizer=AdamW(Schedule(learning_rate=2e-3, warmup_epochs=3.0)),
    postprocess=Postprocess(voting=0.05, spread_penalty=4.0),
    epochs=100,
)
