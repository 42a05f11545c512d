"""Lets torchvision's CUDA wheel import beside a CPU build of torch, by declaring the operators it expects.

`devtools.environment` installs this file into `.venv` as a `torch.backends` entry point, where it is needed only:
torch then calls it at the end of its own import.
"""

import torch

_libraries: list[torch.library.Library] = []  # a library's declarations live as long as it does


def declare_operators() -> None:
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _libraries.append(library)
