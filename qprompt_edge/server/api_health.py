"""The interface to what is known of how prompts fare."""

from __future__ import annotations

from importlib.metadata import version

from qprompt_edge.server.calls import Call, Reply
from qprompt_edge.watching.health import Report
from qprompt_edge.watching.prometheus import MEDIA, exposition


def metrics(call: Call) -> Reply:
    """How the prompt of each task fares that has answered since the start."""
    health, tasks = call.state.health, set(call.state.store.tasks())
    for told in health.prompts():
        if told.prompt not in tasks:
            health.forget(told.prompt)
    report = Report("serve", True, None, None, None, health.prompts())
    return Reply(exposition(report, version("qprompt-edge")).encode("utf-8", "replace"), media=MEDIA)
