"""HTTP requests, and who pays for them; it knows no service."""

from .account import HiDreamAccount, Sandbox, VolcengineAccount
from .auth import BearerAuth, ExchangedTokenAuth, SignatureAuth
from .connection import NO_PROXY, Request, base_of, climbs, is_loopback, origin, without_query
from .diagnosis import Cause, Diagnosis, diagnosis_of, obstacle_of, unreachable
from .download import DownloadError, RefusedUrlError, TooLargeError, downloaded
from .free import ask
from .received import Answer, WholeNumber, WireAnswer, Word
from .submit import NoAnswerError, NotSentError, Phases, post_once, wait_for_submits
