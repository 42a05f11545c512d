"""HiDream's templates for model photo sets: the list and its pictures."""
