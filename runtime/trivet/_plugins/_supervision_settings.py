"""Supervision settings: the operator's and the author's choices about restarts.

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
    """Settings for the restarts of one plugin.

    The operator gives them in `[plugins.NAME.supervision]`, the author in the class attribute
    `supervision`.
    """

    critical: bool = False
    """Whether the program ends, with exit code 4, when this plugin, or one that it needs, is given
    up."""
    restart: Restart = attrs.field(default="transient", validator=in_(get_args(Restart)))
    """The ends of `run()` that a restart follows: `"transient"` restarts after a failure,
    `"permanent"` also after a return, `"temporary"` never. The words are those of OTP's
    supervisors."""
    on_start_failure: Literal["fail", "retry"] = "fail"
    """The consequence of a first start that fails: `"fail"` ends the program with exit code 3;
    `"retry"` tries again without limit, while the other plugins run."""
    max_restarts: int = attrs.field(default=5, validator=ge(0))
    """Restarts within `restart_window`; after one failure more the plugin is given up. Five in
    thirty seconds, after the restart intensity of OTP's supervisors."""
    restart_window: float = attrs.field(default=30.0, validator=gt(0))
    """Seconds for which a restart counts."""
    backoff_initial: float = attrs.field(default=0.5, validator=ge(0))
    """Seconds before the first restart, at most (full jitter: the wait is drawn evenly between
    zero and that); each further restart doubles them."""
    backoff_max: float = attrs.field(default=30.0, validator=ge(0))
    """Seconds that no wait exceeds."""
