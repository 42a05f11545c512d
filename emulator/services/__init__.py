"""The endpoints of both services, as the vendors' pages describe them."""
