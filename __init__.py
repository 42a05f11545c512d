"""What ComfyUI loads: HiDream and Volcengine image services as nodes, and the folder of the browser's modules."""

WEB_DIRECTORY = "./web"


def comfy_entrypoint():  # type: ignore[no-untyped-def]
    # Imported in the function, so that tools without a ComfyUI (pytest, the registry) can import this module.
    from .nodes import RemoteImageExtension
    from .nodes.comfy.host import register_routes

    register_routes()
    return RemoteImageExtension()
