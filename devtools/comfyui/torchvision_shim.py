"""Lets torchvision's CUDA wheel import beside a CPU build of torch, by declaring the operators it expects.

If it is needed, `devtools.environment` installs this file into `.venv` as a `torch.backends` entry point, which torch
calls at the end of its own import.
"""

import torch

_libraries: list[torch.library.Library] = []  # the declarations last as long as these objects


def declare_operators() -> None:
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _libraries.append(library)
