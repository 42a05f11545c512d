"""The commands of `dev.py`, and what releases need. Nothing of it is shipped with the pack."""
