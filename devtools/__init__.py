"""The project's own tooling behind `dev.py`. Nothing of it is shipped with the pack."""
