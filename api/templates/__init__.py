"""HiDream's templates for model photo sets: the lists and pictures that the template picker shows."""

from .shelf import TemplatePage, TemplateShelf
