"""The one way of a paid call, from the request to the pictures."""
