"""One file for each endpoint."""
