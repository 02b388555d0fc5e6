"""What an operator may decide about the restarts of a plugin.

Owns the settings as data, with their defaults.
Never knows the mechanism.
"""

from __future__ import annotations

from typing import Literal, get_args

import attrs
from attrs.validators import ge, gt, in_

Restart = Literal["permanent", "transient", "temporary"]


@attrs.frozen(kw_only=True)
class SupervisionSettings:
    """How one plugin is restarted (`[plugins.NAME.supervision]`, or the class's `supervision`)."""

    critical: bool = False
    """Whether the program ends, with code 4, when this plugin is given up, or needs one that is."""
    restart: Restart = attrs.field(default="transient", validator=in_(get_args(Restart)))
    """When its `run()` has ended: `"transient"` starts it again if it failed, `"permanent"` if it
    returned, too, `"temporary"` never. The words are those of OTP's supervisors."""
    on_start_failure: Literal["fail", "retry"] = "fail"
    """Whether a first start that fails ends start-up with code 3, or is tried again, however
    often, while the others go on."""
    max_restarts: int = attrs.field(default=5, validator=ge(0))
    """Restarts within `restart_window`; one failure more and the plugin gives up. Five in thirty
    seconds, in the spirit of the intensity and period of OTP's supervisors."""
    restart_window: float = attrs.field(default=30.0, validator=gt(0))
    """Seconds."""
    backoff_initial: float = attrs.field(default=0.5, validator=ge(0))
    """Seconds before the first restart, at most; each further one doubles it (full jitter: the
    wait is drawn evenly between zero and that)."""
    backoff_max: float = attrs.field(default=30.0, validator=ge(0))
    """Seconds that a wait is never above."""
