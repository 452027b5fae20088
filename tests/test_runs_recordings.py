"""Recordings from elsewhere: Donkey tub v2, records.jsonl, run folders; signs turned round, bad input told clearly."""

from __future__ import annotations

import json

import pytest

from cockpit.runs import RunWriter
from training.recordings import RecordingError, open_recording


def make_tub(folder, deleted=(1,)):
    (folder / "images").mkdir(parents=True)
    for i in range(3):
        (folder / "images" / f"{i}_cam_image_array_.jpg").write_bytes(b"jpeg")
    records = [
        {
            "_index": i,
            "cam/image_array": f"{i}_cam_image_array_.jpg",
            "user/angle": 0.1 * i,
            "user/throttle": 0.5,
            "user/mode": "user",
        }
        for i in range(3)
    ]
    (folder / "catalog_0.catalog").write_text("".join(json.dumps(r) + "\n" for r in records))
    head = [["cam/image_array", "user/angle"], ["image_array", "float"], {}, {"created_at": 1.0}]
    tail = {"paths": ["catalog_0.catalog"], "current_index": 3, "max_len": 1000, "deleted_indexes": list(deleted)}
    (folder / "manifest.json").write_text("".join(json.dumps(line) + "\n" for line in [*head, tail]))


def test_tub_v2_skips_deleted_and_turns_the_sign(tmp_path):
    make_tub(tmp_path / "tub")
    frames = open_recording(tmp_path / "tub")
    assert [f.index for f in frames] == [0, 2]
    assert frames[1].steering == pytest.approx(-0.2) and frames[1].throttle == 0.5
    assert frames[1].jpeg() == b"jpeg"
    assert [f.index for f in open_recording(tmp_path / "tub" / "manifest.json")] == [0, 2]


def test_records_jsonl(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(b"x")
    lines = [{"index": 5, "image": "images/a.jpg", "user_angle": 0.3, "user_throttle": 0.4}, {"image": "images/b.jpg"}]
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    first, second = open_recording(tmp_path)
    assert (first.index, first.steering, first.throttle) == (5, -0.3, 0.4)
    assert second.steering is None
    with pytest.raises(RecordingError, match="no picture at"):
        second.jpeg()


def test_run_folder_needs_frames_and_brings_telemetry(tmp_path):
    with RunWriter(tmp_path / "r") as writer:
        writer.tick({"tick": 4, "steering": 0.2, "throttle": 0.3, "speed_mps": 1.1})
    with pytest.raises(RecordingError, match="--keep-frames"):
        open_recording(tmp_path / "r")
    (tmp_path / "r" / "frames").mkdir()
    (tmp_path / "r" / "frames" / "000004.jpg").write_bytes(b"x")
    (frame,) = open_recording(tmp_path / "r")
    assert (frame.index, frame.steering, frame.speed_mps) == (4, 0.2, 1.1)


@pytest.mark.parametrize(
    "line, message",
    [
        ("{not json", "line 1: not JSON"),
        ("[1, 2]", "line 1: expected an object"),
        ('{"index": 1}', "'image'"),
        ('{"image": "../../etc/passwd"}', "outside"),
    ],
)
def test_bad_records_say_where(tmp_path, line, message):
    (tmp_path / "records.jsonl").write_text(line + "\n")
    with pytest.raises(RecordingError, match=message):
        open_recording(tmp_path)


def test_not_a_recording(tmp_path):
    with pytest.raises(RecordingError, match="no recording at"):
        open_recording(tmp_path / "none")
    with pytest.raises(RecordingError, match="holds no recording"):
        open_recording(tmp_path)
    (tmp_path / "manifest.json").write_text("{}\n")
    with pytest.raises(RecordingError, match="tub v2"):
        open_recording(tmp_path)
