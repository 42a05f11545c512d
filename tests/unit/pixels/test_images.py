"""Tensors, pixels and bytes: exact where nothing is asked, clear errors where something is wrong."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hidream_volcengine.api import choices, tensors
from hidream_volcengine.api.core.errors import InvalidInputError
from hidream_volcengine.api.pixels import picture_files
from hidream_volcengine.api.pixels.geometry import Placement
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def tensor_of(*pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(pixels)).float() / 255.0


@pytest.mark.parametrize("form", ["png"])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (33, 17), (64, 64)])
def test_round_trip_of_8_bit_pixels_is_exact(size: tuple[int, int], form: choices.Format) -> None:
    original = noise(*size)
    [pixels], notes = tensors.images_from_tensor(tensor_of(original))
    assert notes == []
    decoded = tensors.decode(io.BytesIO(tensors.encode(pixels, form)), 10_000)
    assert np.array_equal(decoded, original)
    assert torch.equal(tensors.image_tensor([decoded]), tensor_of(original))


# More rows than are converted at a time, and some left over.
TALL = 150


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_tall_picture_is_converted_as_a_whole_one_would_be(channels: int) -> None:
    values = np.random.default_rng(0).uniform(-0.2, 1.2, (TALL, 7, channels)).astype(np.float32)
    [pixels], _ = tensors.images_from_tensor(torch.from_numpy(values))
    levels = np.rint(np.clip(values, 0.0, 1.0) * 255.0).astype(np.uint8)
    if channels == 4:
        alpha = levels[..., 3:].astype(np.float32) / 255.0
        levels = np.rint(levels[..., :3] * alpha + 255 * (1.0 - alpha)).astype(np.uint8)
    assert np.array_equal(pixels, np.broadcast_to(levels, (TALL, 7, 3)))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1"])
def test_a_tall_result_is_decoded_as_a_whole_one_would_be(mode: str) -> None:
    picture = Image.fromarray(noise(TALL, 7, 4), "RGBA").convert("RGB" if mode == "P" else "RGBA").convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    whole = picture.convert("RGBA")
    [expected], _ = tensors.images_from_tensor(tensor_of(np.asarray(whole)))
    assert np.array_equal(tensors.decode(buffer, TALL * 7), expected)


def test_every_level_becomes_the_float_that_comfyui_has_for_it() -> None:
    levels = np.arange(256 * 3, dtype=np.uint16).astype(np.uint8).reshape(-1, 1, 3)
    assert torch.equal(tensors.image_tensor([levels])[0], torch.from_numpy(levels) / 255.0)
    assert np.array_equal(tensors.values_of(levels), (torch.from_numpy(levels) / 255.0).numpy())


def test_every_level_survives() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=-1)
    [pixels], _ = tensors.images_from_tensor(tensor_of(levels))
    assert np.array_equal(pixels, levels)


@given(st.floats(0, 1, width=32))
@settings(max_examples=50)
def test_rounding_is_to_the_nearest_level(value: float) -> None:
    [pixels], _ = tensors.images_from_tensor(torch.full((1, 1, 1, 3), value))
    assert abs(float(pixels[0, 0, 0]) - value * 255) <= 0.5 + 1e-4


def test_values_beyond_0_to_1_are_clipped() -> None:
    wild = torch.tensor([-1.0, 2.0, float("inf")]).reshape(1, 1, 1, 3)
    [pixels], _ = tensors.images_from_tensor(wild)
    assert pixels.tolist() == [[[0, 255, 255]]]


def test_nan_is_an_error_that_counts() -> None:
    broken = torch.zeros(1, 2, 2, 3)
    broken[0, 0, 0, 0] = float("nan")
    with pytest.raises(InvalidInputError, match="1 NaN"):
        tensors.images_from_tensor(broken)


def test_inference_tensors_are_read_and_left_alone() -> None:
    with torch.inference_mode():
        tensor = torch.full((2, 4, 4, 3), 1.5)
    pixels, _ = tensors.images_from_tensor(tensor)
    assert len(pixels) == 2
    assert float(tensor.max()) == 1.5


def test_alpha_is_put_on_white_and_said() -> None:
    rgba = torch.zeros(1, 1, 2, 4)
    rgba[0, 0, 1, 3] = 1.0
    [pixels], notes = tensors.images_from_tensor(rgba)
    assert pixels.tolist() == [[[255, 255, 255], [0, 0, 0]]]
    assert "white" in notes[0].en
    assert "白色" in notes[0].zh


def test_grey_becomes_rgb() -> None:
    [pixels], _ = tensors.images_from_tensor(torch.full((1, 2, 2, 1), 0.5))
    assert pixels.shape == (2, 2, 3)
    assert set(pixels.flatten()) == {128}


def test_a_single_image_without_batch_is_accepted() -> None:
    assert len(tensors.images_from_tensor(torch.zeros(4, 5, 3))[0]) == 1


@pytest.mark.parametrize("shape", [(4, 4), (1, 4, 4, 2), (0, 4, 4, 3), (1, 0, 4, 3), (1, 4, 4, 5), (1, 1, 4, 4, 3)])
def test_other_shapes_are_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInputError) as problem:
        tensors.images_from_tensor(torch.zeros(shape))
    assert str(tuple(shape)) in str(problem.value)


# ---- an original's own values

WILD = [-1.0, 0.3, 2.0, float("inf"), 1 / 3, 0.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_an_originals_own_values_are_neither_clipped_nor_rounded(dtype: torch.dtype) -> None:
    with torch.inference_mode():
        image = torch.tensor(WILD * 2, dtype=dtype).reshape(2, 1, 2, 3)
    values = tensors.rgb_values(image, 1)
    assert values.dtype == np.float32
    assert torch.equal(torch.from_numpy(values.copy()), image[1].float())
    with pytest.raises(ValueError, match="read-only"):
        values[0, 0, 0] = 0.5
    assert torch.equal(torch.from_numpy(tensors.rgb_values(image[0], 0).copy()), image[0].float())


def test_an_originals_grey_alpha_and_nan_are_as_in_its_pixels() -> None:
    grey = torch.full((1, 2, 2, 1), 1 / 3)
    assert tensors.rgb_values(grey, 0).tolist() == grey[0].repeat(1, 1, 3).tolist()
    opaque, half, none = [0.25, 0.5, 2.0, 1.0], [0.25, 0.5, 2.0, 0.5], [float("inf"), 0.5, 2.0, -1.0]
    rgba = torch.tensor([opaque, half, none]).reshape(1, 1, 3, 4)
    assert tensors.rgb_values(rgba, 0).tolist() == [[[0.25, 0.5, 2.0], [0.625, 0.75, 1.5], [1.0, 1.0, 1.0]]]
    with pytest.raises(InvalidInputError, match="1 NaN"):
        tensors.rgb_values(torch.tensor([float("nan"), 0.0, 0.0]).reshape(1, 1, 1, 3), 0)
    with pytest.raises(InvalidInputError, match="shape"):
        tensors.rgb_values(torch.zeros(1, 4, 4, 2), 0)


def test_values_put_into_a_new_tensor_are_the_same_bits() -> None:
    image = torch.rand(3, 4, 5, 3) * 3 - 1
    placement = Placement(9, 7, 2, 1, 5, 4)

    def paint(index: int, picture: tensors.Values) -> None:
        picture[...] = index
        tensors.cut_out(picture, placement)[...] = tensors.rgb_values(image, index)

    batch = tensors.painted_tensor(3, 9, 7, paint)
    assert batch.shape == (3, 7, 9, 3)
    assert torch.equal(batch[:, 1:5, 2:7], image)
    assert batch[:, 0, 0, 0].tolist() == [0, 1, 2]


# ---- masks


@pytest.mark.parametrize("shape", [(4, 5), (1, 4, 5), (2, 4, 5)])
def test_mask_shapes(shape: tuple[int, ...]) -> None:
    masks = tensors.masks_from_tensor(torch.ones(shape), 2, (5, 4))
    assert [mask.shape for mask in masks] == [(4, 5), (4, 5)]
    assert all((mask == 255).all() for mask in masks)


def test_a_mask_of_another_size_names_both() -> None:
    with pytest.raises(InvalidInputError, match=r"64×64.*5×4"):
        tensors.masks_from_tensor(torch.zeros(64, 64), 1, (5, 4))


def test_load_images_empty_mask_is_explained() -> None:
    """Its 64×64 zeros stand for "no transparency", whatever the picture's size."""
    with pytest.raises(InvalidInputError, match=r"64×64 but the image is 5×4.*LoadImage gives an empty 64×64 mask"):
        tensors.masks_from_tensor(torch.zeros(1, 64, 64), 1, (5, 4))
    for other in (torch.ones(1, 64, 64), torch.zeros(1, 63, 64)):
        with pytest.raises(InvalidInputError) as problem:
            tensors.masks_from_tensor(other, 1, (5, 4))
        assert "LoadImage" not in str(problem.value)


def test_a_mask_of_another_count_names_both() -> None:
    with pytest.raises(InvalidInputError, match=r"3 images.*2 masks"):
        tensors.masks_from_tensor(torch.zeros(2, 4, 5), 3, (5, 4))


def test_a_feathered_rim_is_generated_too() -> None:
    mask = torch.tensor([[0.0, 0.0019, 0.002, 0.5, 1.0]])
    [grey] = tensors.masks_from_tensor(mask, 1, (5, 1))
    assert tensors.binary_mask(grey).tolist() == [[0, 0, 255, 255, 255]]


def test_the_kept_rectangle() -> None:
    placement = Placement(9, 7, 2, 1, 4, 3)
    frame = tensors.frame_mask(placement)
    assert tensors.kept_rectangle(frame) == placement
    assert np.array_equal(tensors.placement_mask(placement).numpy()[0] * 255, frame)
    frame[0, 0] = 0
    assert tensors.kept_rectangle(frame) is None
    assert tensors.kept_rectangle(np.full((3, 3), 255, np.uint8)) is None


def test_a_mask_of_the_right_size_is_returned_unchanged() -> None:
    mask = torch.rand(1, 6, 8)
    assert torch.equal(tensors.mask_at_size(mask, 8, 6), mask)
    assert tensors.mask_at_size(torch.rand(6, 8), 8, 6).shape == (1, 6, 8)
    assert tensors.mask_at_size(mask, 16, 12).shape == (1, 12, 16)


# ---- resizing and pasting


def test_no_resize_is_no_change() -> None:
    pixels = noise(5, 6)
    assert tensors.resize(pixels, 6, 5) is pixels


@pytest.mark.parametrize("size", [(50, 40), (37, 29), (99, 79)])
def test_a_reduced_frame_stays_a_frame_and_keeps_nothing_that_was_new(size: tuple[int, int]) -> None:
    placement = Placement(100, 80, 30, 20, 41, 33)
    kept = tensors.kept_rectangle(tensors.binary_mask(tensors.resize_mask(tensors.frame_mask(placement), *size)))
    assert kept is not None
    scale = 100 / size[0]
    # A source pixel counts for the pixel that holds its centre.
    assert kept.x * scale >= placement.x - 0.5
    assert (kept.x + kept.width) * scale <= placement.x + placement.width + 0.5
    assert kept.width >= placement.width / scale - 2


def test_pasting_keeps_the_pixels() -> None:
    placement = Placement(9, 7, 2, 1, 4, 3)
    original = noise(3, 4)
    canvas = tensors.paste_on_white(original, placement)
    assert canvas.shape == (7, 9, 3)
    assert np.array_equal(tensors.cut_out(canvas, placement), original)
    assert (canvas[0] == 255).all()


# ---- bytes


def encoded(form: str, pixels: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_known_formats_are_decoded(form: str) -> None:
    assert tensors.decode(io.BytesIO(encoded(form, noise(20, 30))), 600).shape == (20, 30, 3)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.95])
@pytest.mark.parametrize("tolerant_pillow", [False, True])
def test_cut_pictures_are_found_out(
    form: str, share: float, tolerant_pillow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while another node has switched on Pillow's process-wide tolerance."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", tolerant_pillow)
    data = encoded(form, noise(64, 64))
    with pytest.raises(picture_files.UndecodableImageError):
        tensors.decode(io.BytesIO(data[: int(len(data) * share)]), 10_000)


def test_other_data_is_not_a_picture() -> None:
    for data in (b"", b"<html>busy</html>", b"\0" * 99):
        with pytest.raises(picture_files.UndecodableImageError):
            tensors.decode(io.BytesIO(data), 10_000)


def test_the_expected_size_replaces_pillows_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    data = encoded("PNG", noise(20, 30))
    assert tensors.decode(io.BytesIO(data), 600).shape == (20, 30, 3)
    with pytest.raises(picture_files.UndecodableImageError, match="30×20"):
        tensors.decode(io.BytesIO(data), 599)


def test_alpha_in_a_result_is_put_on_white() -> None:
    data = encoded("PNG", np.zeros((2, 2, 4), np.uint8))
    assert (tensors.decode(io.BytesIO(data), 4) == 255).all()


def test_grey_and_palette_results_become_rgb() -> None:
    grey = noise(4, 4, 1)[..., 0]
    assert np.array_equal(tensors.decode(io.BytesIO(encoded("PNG", grey)), 16), np.stack([grey] * 3, axis=-1))
    buffer = io.BytesIO()
    Image.fromarray(noise(4, 4)).convert("P").save(buffer, "PNG")
    assert tensors.decode(buffer, 16).shape == (4, 4, 3)


def test_sixteen_bit_results_keep_their_high_byte() -> None:
    deep = (noise(4, 4, 1)[..., 0].astype(np.uint16) << 8) + 17
    buffer = io.BytesIO()
    Image.fromarray(deep).save(buffer, "PNG")
    assert np.array_equal(tensors.decode(buffer, 16)[..., 0], (deep >> 8).astype(np.uint8))


def test_masks_are_8_bit_grey_pngs() -> None:
    data = tensors.encode(tensors.frame_mask(Placement(9, 7, 2, 1, 4, 3)))
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.mode == "L"
        assert set(np.unique(np.asarray(picture))) == {0, 255}


def test_base64_has_no_prefix() -> None:
    assert not tensors.to_base64(b"abc").startswith("data:")
