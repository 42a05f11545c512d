"""Everything that talks to ComfyUI, and this server's journal and emulator."""
