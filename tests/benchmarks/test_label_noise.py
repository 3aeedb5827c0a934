"""Noise of labels that is known, found again in made frames."""

import json

import numpy as np

from experiments.benchmarks import label_noise


def test_the_noise_of_labels_is_found_again_beside_shifts_and_turns_of_the_camera(tmp_path):
    rng, noise = np.random.default_rng(0), np.array([0.03, 0.04, 0.1, 0.2])
    images, annotations = [], []
    for video in range(40):
        center, size = rng.uniform(100, 500, (12, 2)), rng.uniform(15, 30, (12, 2))
        for frame in range(2):
            images.append({"id": len(images), "file_name": f"{video}_60_90_0_{frame:05}.jpg"})
            turned = center @ np.array([[1, 0.004 * frame], [-0.004 * frame, 1]]) + frame * np.array([30, -12])
            for c, s in zip(turned, size, strict=True):
                seen = s * np.exp(noise[2:] * rng.normal(size=2))
                at = c + np.sqrt(s.prod()) * noise[:2] * rng.normal(size=2)
                box = [*(at - seen / 2), *seen]
                annotations.append({"image_id": images[-1]["id"], "category_id": 1, "bbox": box})
    content = json.dumps({"images": images, "annotations": annotations})
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "train.json").write_text(content)
    (tmp_path / "annotations" / "val.json").write_text(json.dumps({"images": [], "annotations": []}))
    found = label_noise.differences(tmp_path)[1]
    assert len(found) > 400
    # Pairs that end beyond the reach are lost, so centres seem a little less noisy.
    np.testing.assert_allclose(np.sqrt(np.square(found).mean(axis=0) / 2), noise, rtol=0.12)
