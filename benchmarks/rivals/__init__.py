"""A throw-away node pack for benchmarks, copied into a ComfyUI's custom_nodes: it calls the service as others do.

Both nodes upscale with HiDream's paths and bodies at ``url``. ``BenchPartner`` uses the client of ComfyUI's own partner
nodes; ``BenchPlain`` does as community packs do: it blocks, polls every five seconds, and takes only the first picture
of a batch.
"""

import base64
import io
import time

import numpy as np
import requests
import torch
from PIL import Image

_SUBMIT = "/api-pub/gw/v3/image/image_upscaler/async"
_WAITING = (0, 2)


def _status(answer):
    subs = (answer.get("result") or {}).get("sub_task_results") or [{}]
    return subs[0].get("task_status", 0)


class _Bench:
    CATEGORY = "benchmarks"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        text = ("STRING", {"default": ""})
        return {"required": {"image": ("IMAGE",), "url": text, "token": text, "run_number": ("INT", {"default": 0})}}


class BenchPlain(_Bench):
    def run(self, image, url, token, run_number):
        pixels = (image[0].numpy() * 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        headers = {"Authorization": f"Bearer {token}"}
        body = {"image": base64.b64encode(buffer.getvalue()).decode(), "upsale_ratio": 2, "version": "v1"}
        submitted = requests.post(url + _SUBMIT, json=body, headers=headers, timeout=120).json()
        task_id = submitted["result"]["task_id"]
        while True:
            time.sleep(5)
            polled = requests.get(f"{url}{_SUBMIT}/results", params={"task_id": task_id}, headers=headers, timeout=30)
            if _status(polled.json()) not in _WAITING:
                break
        picture = requests.get(polled.json()["result"]["sub_task_results"][0]["image"], timeout=60).content
        decoded = np.array(Image.open(io.BytesIO(picture)).convert("RGB")).astype(np.float32) / 255.0
        return (torch.from_numpy(decoded)[None],)


class BenchPartner(_Bench):
    # ComfyUI's client reads from the node class at which node it shows progress.
    class hidden:
        unique_id = "0"
        auth_token_comfy_org = None
        api_key_comfy_org = None

    async def run(self, image, url, token, run_number):
        from comfy_api_nodes.util import (
            ApiEndpoint,
            download_url_to_image_tensor,
            poll_op_raw,
            sync_op_raw,
            tensor_to_base64_string,
        )

        headers = {"Authorization": f"Bearer {token}"}
        body = {"image": tensor_to_base64_string(image[:1]), "upsale_ratio": 2, "version": "v1"}
        submitted = await sync_op_raw(type(self), ApiEndpoint(url + _SUBMIT, "POST", headers=headers), data=body)
        query = {"task_id": submitted["result"]["task_id"]}
        polled = await poll_op_raw(
            type(self),
            ApiEndpoint(f"{url}{_SUBMIT}/results", query_params=query, headers=headers),
            status_extractor=_status,
            completed_statuses=[1],
            failed_statuses=[3, 4],
            queued_statuses=[0],
        )
        return (await download_url_to_image_tensor(polled["result"]["sub_task_results"][0]["image"]),)


NODE_CLASS_MAPPINGS = {"BenchPlain": BenchPlain, "BenchPartner": BenchPartner}
