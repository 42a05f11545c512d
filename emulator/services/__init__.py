"""The endpoints of both services, as their pages have them."""
