"""HiDream and Volcengine image services as ComfyUI nodes."""

WEB_DIRECTORY = "./web"


def comfy_entrypoint():  # type: ignore[no-untyped-def]
    # Imported here and not above: tools that only look at this folder (pytest, the registry) have no ComfyUI.
    from .nodes import RemoteImageExtension
    from .nodes.comfy.host import register_routes

    register_routes()
    return RemoteImageExtension()
