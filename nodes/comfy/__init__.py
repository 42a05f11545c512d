"""What talks to ComfyUI, and what waits for its prompts."""
