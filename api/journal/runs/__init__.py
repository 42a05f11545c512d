"""What became of each item of a run: the rows, and reports of them."""
