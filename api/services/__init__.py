"""The wire of HiDream and Volcengine: from a request to a task, and from an answer to the task's state."""

from .answers import NotAccepted
from .hidream import HIDREAM_RATES, HiDreamService, Rate, endpoint_named
from .hidream_templates import Template, fetch_templates, fetch_thumbnail
from .model import WireRequest, checked
from .outcome import Meaning, Outcome, refusal
from .volcengine import SUCCESS, VolcengineService, ask_for_result

Service = HiDreamService | VolcengineService
"""How one of the services is asked: submit, query and results of one endpoint, for one account."""
