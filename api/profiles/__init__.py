"""From the name of a profile in a graph to an account."""
