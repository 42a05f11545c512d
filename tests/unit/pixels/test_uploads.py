"""What goes up is made when it goes, and is what was looked up in the journal."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch
from hidream_volcengine.api import Pictures, Upload, tensors
from hidream_volcengine.api.core.errors import InvalidInputError


def test_pictures_are_those_of_the_tensor() -> None:
    tensor = torch.rand(3, 5, 4, 3)
    pictures = Pictures(tensor)
    expected, _ = tensors.images_from_tensor(tensor)
    assert (len(pictures), pictures.size, pictures.notes) == (3, (4, 5), [])
    assert all(np.array_equal(one, other) for one, other in zip(pictures, expected, strict=True))
    assert [pictures.upload(index).fingerprint for index in range(3)] == [tensors.fingerprint(one) for one in expected]
    with pytest.raises(IndexError):
        pictures[3]
    assert Pictures(tensor[0]).size == (4, 5)
    assert "white" in Pictures(torch.zeros(1, 2, 2, 4)).notes[0].en


def test_another_shape_is_an_error_at_once_and_nan_when_it_is_looked_up() -> None:
    with pytest.raises(InvalidInputError, match="shape"):
        Pictures(torch.zeros(4, 4))
    broken = torch.zeros(2, 2, 2, 3)
    broken[1, 0, 0, 0] = float("nan")
    pictures = Pictures(broken)
    pictures.upload(0)
    with pytest.raises(InvalidInputError, match="1 NaN"):
        pictures.upload(1)


def test_a_change_is_part_of_the_fingerprint_and_of_what_goes_up() -> None:
    tensor = torch.rand(1, 4, 6, 3)
    upload = Pictures(tensor).upload(0, lambda pixels: pixels[:, ::-1])
    [pixels], _ = tensors.images_from_tensor(tensor.flip(2))
    assert upload.fingerprint == tensors.fingerprint(pixels)
    assert np.array_equal(upload.pixels(), pixels)


def test_no_picture_is_held_while_a_call_waits() -> None:
    made: list[weakref.ref[np.ndarray]] = []

    def make() -> np.ndarray:
        pixels = np.zeros((4, 4, 3), np.uint8)
        made.append(weakref.ref(pixels))
        return pixels

    upload = Upload.of(make)
    upload.base64()
    gc.collect()
    assert [reference() for reference in made] == [None, None]


def test_an_image_that_another_node_changed_meanwhile_is_not_bought() -> None:
    tensor = torch.zeros(1, 4, 4, 3)
    upload = Pictures(tensor).upload(0)
    tensor.add_(0.5)
    with pytest.raises(InvalidInputError, match="Another node changed the image") as problem:
        upload.base64()
    assert problem.value.billed == "no"
    tensor.sub_(0.5)
    assert np.array_equal(upload.pixels(), np.zeros((4, 4, 3)))


def test_a_look_at_a_very_large_picture_is_the_picture() -> None:
    large = np.zeros((900, 1200, 3), np.uint8)
    large[:, 600:] = 255
    small = tensors.reduced(large, 16, 12)
    assert small.shape == (12, 16, 3)
    assert small[:, :7].max() < 10
    assert small[:, 9:].min() > 245
    assert tensors.reduced(small, 16, 12).shape == (12, 16, 3)
