"""HiDream's templates for model photo sets: the list and its pictures."""

from .shelf import TemplatePage, TemplateShelf

__all__ = [
    "TemplatePage",
    "TemplateShelf",
]
