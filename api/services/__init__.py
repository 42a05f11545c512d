"""The wire of HiDream and Volcengine: from a request to a task, and from an answer to the task's state."""

from .answers import NotAccepted
from .hidream import HiDreamService
from .hidream_templates import Template, fetch_templates, fetch_thumbnail
from .outcome import Meaning, Outcome, refusal
from .volcengine import SUCCESS, VolcengineService, ask_for_result

Service = HiDreamService | VolcengineService
"""How one of the services is asked: submit, query and results of one endpoint, for one account."""
