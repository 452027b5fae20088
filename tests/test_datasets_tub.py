"""Donkey tubs made into datasets: signs, gaps, sessions, times, bad pictures; killed and gone on with; a real one."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

import pacenote
from training.datasets import tub, write
from training.datasets.check import check_dataset
from training.datasets.layout import DatasetError
from training.datasets.read import Dataset
from training.datasets.tub import import_tub
from training.recordings import RecordingError

REAL = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "real_tub"


def make_tub(folder: Path, n=12, deleted=(), sessions=None, step_ms=50, torn=(), late=None) -> Path:
    """A tub v2 of n records; steering 0.1 x index to the right; `late`: (index, ms) of a pause before a record."""
    (folder / "images").mkdir(parents=True)
    records, time_ms = [], 1_700_000_000_000
    for i in range(n):
        picture = np.full((24, 32, 3), 10 * i + 20, np.uint8)
        name = f"{i}_cam_image_array_.jpg"
        (folder / "images" / name).write_bytes(b"torn" if i in torn else cv2.imencode(".jpg", picture)[1].tobytes())
        time_ms += step_ms + (late[1] if late and late[0] == i else 0)
        record = {"_index": i, "cam/image_array": name, "user/angle": round(0.05 * i, 2), "user/throttle": 0.3}
        record |= {"_timestamp_ms": time_ms, "_session_id": (sessions or "a" * n)[i], "user/mode": "user"}
        records.append(record)
    (folder / "catalog_0.catalog").write_text("".join(json.dumps(r) + "\n" for r in records))
    head = [["cam/image_array", "user/angle"], ["image_array", "float"], {}, {"created_at": 1.0}]
    tail = {"paths": ["catalog_0.catalog"], "current_index": n, "max_len": 1000, "deleted_indexes": list(deleted)}
    (folder / "manifest.json").write_text("".join(json.dumps(line) + "\n" for line in [*head, tail]))
    return folder


def lengths(folder):
    return [len(e) for e in Dataset(folder)]


def test_a_tub_becomes_a_dataset(tmp_path):
    result = import_tub(make_tub(tmp_path / "tub"), tmp_path / "d", task="drive the round")
    assert (result["episodes"], result["frames"], result["fps"]) == (1, 12, 20)
    assert check_dataset(tmp_path / "d").errors == []
    (episode,) = Dataset(tmp_path / "d")
    assert set(episode.tasks) == {"drive the round"}
    assert np.allclose(episode.actions, [(-0.05 * i, 0.3) for i in range(12)], atol=1e-6)  # a tub's positive is right
    assert np.allclose(episode.state[:, 0], [0.0, *(-0.05 * i for i in range(11))], atol=1e-6)  # the frame before
    assert episode.column("source.index").tolist() == list(range(12))
    assert np.allclose(episode.frames().mean((1, 2, 3)), [10 * i + 20 for i in range(12)], atol=4)


@pytest.mark.parametrize(
    ("tub_settings", "wanted"),
    [
        ({"deleted": (4, 5)}, [4, 6]),
        ({"sessions": "aaaaabbbbbbb"}, [5, 7]),
        ({"late": (8, 5000)}, [8, 4]),
        ({"torn": (6,)}, [6, 5]),
        ({"deleted": (1,)}, [10]),  # a single record is no episode
    ],
    ids=["deleted", "session", "pause", "torn picture", "single record"],
)
def test_episodes_end_at_gaps(tmp_path, tub_settings, wanted):
    result = import_tub(make_tub(tmp_path / "tub", **tub_settings), tmp_path / "d")
    assert lengths(tmp_path / "d") == wanted and check_dataset(tmp_path / "d").ok
    assert any("could not be read" in note for note in result["notes"]) == ("torn" in tub_settings)


def test_rate_comes_from_the_times_or_is_said(tmp_path):
    source = make_tub(tmp_path / "tub", step_ms=100)
    assert import_tub(source, tmp_path / "a")["fps"] == 10
    assert import_tub(source, tmp_path / "b", rate_hz=25)["fps"] == 25
    with pytest.raises(RecordingError, match="0 frames per second"):
        import_tub(source, tmp_path / "c", rate_hz=0)


def test_a_killed_import_goes_on(tmp_path, monkeypatch):
    source = make_tub(tmp_path / "tub", deleted=(4, 8))
    import_tub(source, tmp_path / "straight")
    into_place, calls = write._into_place, iter(range(100))

    def dying(a, b):
        if next(calls) == 9:  # in the second episode's commit
            raise KeyboardInterrupt
        into_place(a, b)

    with monkeypatch.context() as patch:
        patch.setattr(write, "_into_place", dying)
        with pytest.raises(KeyboardInterrupt):
            import_tub(source, tmp_path / "d")
    assert check_dataset(tmp_path / "d").ok and lengths(tmp_path / "d") == [4]
    import_tub(source, tmp_path / "d", resume=True)
    assert lengths(tmp_path / "d") == lengths(tmp_path / "straight") == [4, 3, 3]
    import_tub(source, tmp_path / "d", resume=True)  # nothing left to do
    assert lengths(tmp_path / "d") == [4, 3, 3]


def test_what_is_no_tub_is_refused(tmp_path):
    with pytest.raises(RecordingError, match="no recording"):
        import_tub(tmp_path / "nowhere", tmp_path / "d")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    with pytest.raises(RecordingError, match="a run folder, not a tub"):
        import_tub(tmp_path / "run", tmp_path / "d")
    with pytest.raises(RecordingError, match="no stretch of 2 records"):
        import_tub(make_tub(tmp_path / "tub", n=3, torn=(1,)), tmp_path / "d")


def test_another_tub_cannot_be_gone_on_with(tmp_path):
    import_tub(make_tub(tmp_path / "a", n=12), tmp_path / "d")
    with pytest.raises(DatasetError, match="was not made from"):
        import_tub(make_tub(tmp_path / "b", n=5), tmp_path / "d", resume=True)


def test_from_the_command_line(tmp_path):
    source = make_tub(tmp_path / "tub")
    done = CliRunner().invoke(
        pacenote.app, ["collect", "--import-tub", str(source), "--out", str(tmp_path / "d"), "--task", "go"]
    )
    assert done.exit_code == 0 and "1 episodes, 12 frames at 20 Hz" in done.output, done.output
    done = CliRunner().invoke(pacenote.app, ["collect", "--check", str(tmp_path / "d")])
    assert done.exit_code == 0 and "good: 1 episodes" in done.output


@pytest.mark.skipif(not REAL.is_dir(), reason="no real tub beside the checkout")
def test_a_real_recording(tmp_path):
    result = import_tub(REAL, tmp_path / "d")
    assert result["frames"] == 500 and check_dataset(tmp_path / "d").errors == []
    first = json.loads((REAL / "records.jsonl").read_text().splitlines()[0])
    (episode,) = Dataset(tmp_path / "d")
    assert episode.actions[0, 0] == pytest.approx(-first["user_angle"], abs=1e-6)
    picture = cv2.cvtColor(cv2.imread(str(REAL / first["image"])), cv2.COLOR_BGR2RGB)
    assert np.abs(next(episode.images()).astype(int) - picture).mean() < 5
    assert tub.DEFAULT_RATE_HZ == result["fps"]
