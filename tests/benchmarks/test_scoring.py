import json

from experiments.benchmarks import scoring


def test_the_last_line_is_json_with_the_seconds_of_every_part(capsys):
    scoring.main(scoring.Settings(images=6, objects=30, detections=50))
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    for part in ("reading", "visdrone", "coco", "ugs_score"):
        assert result[f"{part}_seconds"] > 0
        assert result[f"{part}_processor_seconds"] > 0
    assert 0.05 < result["ap"] < 0.95
    assert result["ugs_score_seconds"] < 20


def test_the_same_seed_makes_the_same_boxes(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        scoring.write_case(tmp_path / name, scoring.Settings(images=2, objects=9, detections=12, seed=3))
    assert (tmp_path / "a" / "results.zip").read_bytes() == (tmp_path / "b" / "results.zip").read_bytes()
    assert len((tmp_path / "a" / "results" / "0000000.txt").read_text().splitlines()) == 12
