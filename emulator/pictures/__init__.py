"""The pictures that the emulator makes."""
