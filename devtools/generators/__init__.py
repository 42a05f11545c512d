"""What `dev.py generate` writes from api/catalog/: one module for each kind of file."""
