"""The original's own pixels back into a generated picture."""
