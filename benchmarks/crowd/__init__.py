"""A throw-away node pack for benchmarks, copied into a ComfyUI's custom_nodes.

BenchCrowd makes a list of pictures whose colour is their number; BenchRollCall reads the numbers and sizes of a list.
"""

import torch


class BenchCrowd:
    CATEGORY = "benchmarks"
    RETURN_TYPES = ("IMAGE",)
    OUTPUT_IS_LIST = (True,)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        number = ("INT", {"default": 1, "max": 65535})
        return {"required": {"count": number, "side": number, "run_number": number}}

    def run(self, count, side, run_number):
        return ([_picture(number, side, run_number) for number in range(count)],)


class BenchRollCall:
    CATEGORY = "benchmarks"
    RETURN_TYPES = ()
    INPUT_IS_LIST = True
    OUTPUT_NODE = True
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"images": ("IMAGE",)}}

    def run(self, images):
        return {"ui": {"numbers": [_number(image) for image in images], "sizes": [list(i.shape) for i in images]}}


def _picture(number, side, run_number):
    colour = torch.tensor([number // 256, number % 256, run_number % 256], dtype=torch.float32) / 255.0
    return colour.expand(1, side, side, 3).clone()


def _number(image):
    # The upper left corner: the emulator's watermark is in the lower right one.
    red, green, _ = (image[0, 4, 4] * 255).round().int().tolist()
    return red * 256 + green


NODE_CLASS_MAPPINGS = {"BenchCrowd": BenchCrowd, "BenchRollCall": BenchRollCall}
