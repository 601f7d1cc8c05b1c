"""Turns off onnxruntime's telemetry.

From version 1.29 on, onnxruntime keeps an identifier of the device in the user's cache and sends events to
its maker, unless this variable is set to a value for yes when it is imported. Importing one of our packages
sets it before anything else.
"""

from __future__ import annotations

import os
import sys
import warnings

_SWITCH = "ORT_DISABLE_TELEMETRY"
_YES = ("1", "true", "yes", "on")
_FIRST_WITH_TELEMETRY = (1, 29)


def switch_off() -> None:
    """Switch telemetry off, for child processes too.

    If onnxruntime was imported before, warn that its telemetry has begun.
    """
    was_off = os.environ.get(_SWITCH, "").strip().lower() in _YES
    os.environ[_SWITCH] = "1"
    loaded = sys.modules.get("onnxruntime")
    if loaded is None or was_off:
        return
    disable = getattr(loaded, "disable_telemetry_events", None)
    if disable is not None:
        disable()  # later events only: what the import has noted is sent all the same
    version = str(getattr(loaded, "__version__", "0.0")).split(".")[:2]
    if tuple(int(part) for part in version if part.isdigit()) >= _FIRST_WITH_TELEMETRY:
        warnings.warn(
            "onnxruntime was imported before qprompt-edge, so its telemetry has begun and may use the "
            f"network; import qprompt_edge or qprompt_runtime first, or set {_SWITCH}=1",
            RuntimeWarning,
            stacklevel=2,
        )
