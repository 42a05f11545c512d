"""HTTP requests, and who pays for them; it knows no service."""
