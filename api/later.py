"""The names of the facade that a start of ComfyUI does not load, but for those that bring the database."""

from __future__ import annotations

from . import checks, geometry, hidream, images, padding, pasting, volcengine, whereabouts
from .accounts import Sandbox
from .calls import Batch, PaidCall, Plan, Result, Run, deliver, fetch, may_still_come, notes_of
from .cancel import CallCancelled, CancelToken
from .collecting import Delivery
from .credentials import Profiles
from .diagnosis import Diagnosis
from .geometry import Placement
from .hidream import HiDreamService
from .polling import Progress, TaskRef, Watch
from .profile_edits import ProfileEditor, RefusedEditError, ShownProfile, ShownProfiles
from .settings import Budget, JournalSettings, Limits
from .states import JournalError
from .template_shelf import TemplatePage, TemplateShelf
from .thumbnails import Thumbnails
from .transport import Deadlines, wait_for_submits
from .uploads import Pictures, Upload
from .volcengine import VolcengineService
from .wire import checked
