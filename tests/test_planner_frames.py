"""Two frames as one image: the same numbers as the stock processor of Qwen2-VL."""

import numpy as np
import pytest
import torch

from planner.backends.model_inputs import _has_marks
from planner.frames import GRID_THW, PATCHES, WIDTH_PX, pair_values, pixel_values, resize_frame


def _image(seed, shape=(120, 160, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture(scope="module")
def stock():
    from transformers import Qwen2VLImageProcessor

    return Qwen2VLImageProcessor()


@pytest.mark.parametrize("shape", [(120, 160, 3), (240, 320, 3), (112, 168, 3)])
def test_one_frame_equals_the_stock_processor(stock, shape):
    image = _image(0, shape)
    theirs = stock(images=[image], return_tensors="pt")
    grid = tuple(theirs["image_grid_thw"][0].tolist())
    ours = pair_values([image], grid)
    assert torch.allclose(ours, theirs["pixel_values"], atol=1e-5)
    if shape == (120, 160, 3):
        assert grid == GRID_THW


def test_the_older_frame_comes_first_in_every_patch(stock):
    old, new = _image(1), _image(2)
    pair = pair_values([old, new]).reshape(PATCHES, 3, 2, 14, 14)
    for layer, image in ((0, old), (1, new)):
        alone = stock(images=[image], return_tensors="pt")["pixel_values"].reshape(PATCHES, 3, 2, 14, 14)
        assert torch.allclose(pair[:, :, layer], alone[:, :, layer], atol=1e-5)


def test_a_batch_is_its_pairs_one_after_the_other():
    frames = torch.from_numpy(np.stack([[resize_frame(_image(k + j)) for j in (0, 1)] for k in (0, 5)]))
    batch = pixel_values(frames)
    assert batch.shape == (2 * PATCHES, 1176)
    assert torch.equal(batch[PATCHES:], pair_values([_image(5), _image(6)]))


def test_only_the_last_two_frames_count():
    images = [_image(k) for k in range(3)]
    assert torch.equal(pair_values(images), pair_values(images[1:]))


@pytest.mark.parametrize(
    "bad", [np.zeros((120, 160), np.uint8), np.zeros((120, 160, 3)), np.zeros((9, 9, 4), np.uint8)]
)
def test_anything_but_rgb_is_refused(bad):
    with pytest.raises(ValueError, match="expected RGB uint8"):
        pair_values([bad])


def test_no_frame_is_refused():
    with pytest.raises(ValueError, match="none given"):
        pair_values([])


def test_a_frame_of_the_right_size_is_left_alone():
    image = _image(0, (112, WIDTH_PX, 3))
    assert resize_frame(image) is image


def test_marks_tell_every_patch_its_place_and_spare_the_rest_of_the_picture():
    plain = pair_values([_image(3)])
    marked = pair_values([_image(3)], marks=True)
    changed = (plain != marked).reshape(PATCHES, 3, 2, 14, 14).any(dim=(0, 1, 2))
    assert changed[:2, :2].all() and changed.sum() == 4
    marks = marked.reshape(PATCHES, 3, 2, 14, 14)[..., :2, :2].reshape(PATCHES, -1)
    assert len(torch.unique(marks, dim=0)) == PATCHES
    assert torch.equal(
        marks, pair_values([_image(4)], marks=True).reshape(PATCHES, 3, 2, 14, 14)[..., :2, :2].reshape(PATCHES, -1)
    )


def _marks_of(values):
    return values.reshape(PATCHES, 3, 2, 14, 14)[..., :2, :2].reshape(PATCHES, -1)


def test_only_a_model_that_was_trained_with_marks_gets_them(tmp_path):
    assert not _has_marks(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "qwen2_vl"}')
    assert not _has_marks(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "qwen2_vl", "position_marks": true}')
    assert _has_marks(tmp_path)
