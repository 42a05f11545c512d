"""Pictures: the only package that knows torch, numpy and Pillow."""
