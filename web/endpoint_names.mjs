// The endpoints' names: `python dev.py generate` writes this file.
export const NAMES = {
  "en": {
    "hidream outpaint": "HiDream Outpaint",
    "hidream image to image": "HiDream Image to Image",
    "hidream upscale": "HiDream Upscale",
    "hidream model photo set": "HiDream Model Photo Set",
    "volcengine outpaint": "Volcengine Outpaint"
  },
  "zh": {
    "hidream outpaint": "HiDream 扩图",
    "hidream image to image": "HiDream 图生图",
    "hidream upscale": "HiDream 图片增强",
    "hidream model photo set": "HiDream 模特套图",
    "volcengine outpaint": "火山引擎扩图"
  }
};
