"""A checkpoint of twelve megabytes that ComfyUI loads and samples like any other: nothing is downloaded.

It is of the SD3 family, whose size ComfyUI reads off the weights: a transformer of one block, 64 wide, with random
weights from a fixed seed. There is no text encoder in it, which that family allows for (prompts are encoded, to
nothing). The autoencoder is a TAESD, which ComfyUI recognizes, too, with weights made by hand: it averages 8×8 pixels
and draws them again, so that a picture is still that picture after it, only softer.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

Weights = dict[str, torch.Tensor]

_WIDTH = 64  # of one block, the family's smallest
_LATENT = 16
_TEXT, _POOLED = 4096, 2048
_FEATURES = 64  # of a TAESD, always
# The stack of layers in a TAESD: how many blocks stand between two changes of size.
_ENCODER = (1, 3, 3, 3)
_DECODER = (3, 3, 3, 1)


def write(checkpoints: Path, name: str) -> Path:
    """Write it as ``checkpoints/name``; about 12 MB."""
    checkpoints.mkdir(parents=True, exist_ok=True)
    path = checkpoints / name
    weights = {
        **{f"model.diffusion_model.{key}": value for key, value in _transformer().items()},
        **{f"first_stage_model.{key}": value for key, value in _autoencoder().items()},
        # With any key of a text encoder ComfyUI returns a CLIP, although the weights that it looks for are missing.
        "text_encoders.clip_l.logit_scale": torch.tensor(4.6055),
    }
    save_file({key: value.contiguous() for key, value in weights.items()}, path)
    return path


def _transformer() -> Weights:
    random = torch.Generator().manual_seed(0)

    def layer(into: int, out: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.randn(out, into, generator=random) / into**0.5, torch.zeros(out)

    layers = {
        "t_embedder.mlp.0": layer(256, _WIDTH),
        "t_embedder.mlp.2": layer(_WIDTH, _WIDTH),
        "y_embedder.mlp.0": layer(_POOLED, _WIDTH),
        "y_embedder.mlp.2": layer(_WIDTH, _WIDTH),
        "context_embedder": layer(_TEXT, _WIDTH),
        # The last block only attends to the text, so it has fewer layers for it.
        "joint_blocks.0.context_block.adaLN_modulation.1": layer(_WIDTH, 2 * _WIDTH),
        "joint_blocks.0.context_block.attn.qkv": layer(_WIDTH, 3 * _WIDTH),
        "joint_blocks.0.x_block.adaLN_modulation.1": layer(_WIDTH, 6 * _WIDTH),
        "joint_blocks.0.x_block.attn.qkv": layer(_WIDTH, 3 * _WIDTH),
        "joint_blocks.0.x_block.attn.proj": layer(_WIDTH, _WIDTH),
        "joint_blocks.0.x_block.mlp.fc1": layer(_WIDTH, 4 * _WIDTH),
        "joint_blocks.0.x_block.mlp.fc2": layer(4 * _WIDTH, _WIDTH),
        "final_layer.adaLN_modulation.1": layer(_WIDTH, 2 * _WIDTH),
        "final_layer.linear": layer(_WIDTH, 4 * _LATENT),
    }
    weights = {}
    for name, (weight, bias) in layers.items():
        weights |= {f"{name}.weight": weight, f"{name}.bias": bias}
    patch = torch.randn(_WIDTH, _LATENT, 2, 2, generator=random) / (4 * _LATENT) ** 0.5
    return {**weights, "x_embedder.proj.weight": patch, "x_embedder.proj.bias": torch.zeros(_WIDTH)}


def _autoencoder() -> Weights:
    weights: Weights = {"vae_scale": torch.tensor(1.0), "vae_shift": torch.tensor(0.0)}

    def convolution(layer: str, into: int, out: int, size: int = 0, bias: bool = True) -> None:
        """Add a layer that passes on three colours, averaged over `size`×`size` pixels; with `size` 0 only zeros."""
        kernel = torch.zeros(out, into, 3, 3)
        edge = slice(1, 1 + size) if size < 3 else slice(0, 3)
        for colour in range(3 if size else 0):
            kernel[colour, colour, edge, edge] = 1 / size**2
        weights[f"{layer}.weight"] = kernel
        if bias:
            weights[f"{layer}.bias"] = torch.zeros(out)

    def block(layer: str) -> None:
        """Add a residual block whose weights are 0: its output is its input."""
        for number in (0, 2, 4):
            convolution(f"{layer}.conv.{number}", _FEATURES, _FEATURES)

    convolution("taesd_encoder.0", 3, _FEATURES, 1)
    number = 1
    for index, blocks in enumerate(_ENCODER):
        if index:
            convolution(f"taesd_encoder.{number}", _FEATURES, _FEATURES, 2, bias=False)
            number += 1
        for _ in range(blocks):
            block(f"taesd_encoder.{number}")
            number += 1
    convolution(f"taesd_encoder.{number}", _FEATURES, _LATENT, 1)

    convolution("taesd_decoder.1", _LATENT, _FEATURES, 1)
    number = 3  # 0 limits the values, 2 cuts off the negative ones
    for index, blocks in enumerate(_DECODER):
        if index:
            number += 1  # twice as large
            convolution(f"taesd_decoder.{number}", _FEATURES, _FEATURES, 3, bias=False)
            number += 1
        for _ in range(blocks):
            block(f"taesd_decoder.{number}")
            number += 1
    convolution(f"taesd_decoder.{number}", _FEATURES, 3, 1)
    return weights
