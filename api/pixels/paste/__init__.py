"""Pasting the original's own pixels back into a generated picture."""
