"""The two services: from a request to a task, and from an answer to its state."""
