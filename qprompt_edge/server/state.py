"""What all requests share: the tasks, the pictures, the jobs, the models' process, and who may come in."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Event

from qprompt_edge.server.access import Access
from qprompt_edge.server.engine import Engine
from qprompt_edge.server.jobs import Jobs
from qprompt_edge.server.live import Lives
from qprompt_edge.server.store import Store
from qprompt_edge.server.thumbnail_cache import Thumbnails
from qprompt_edge.watching.health import Health


@dataclass(frozen=True)
class State:
    """What the server works with.

    Attributes:
        store: The tasks.
        thumbnails: Small pictures.
        jobs: Long work.
        engine: The process that holds the models.
        access: Tokens and sessions.
        cookie: The session cookie's name.
        secure: Whether the server speaks TLS.
        backbone: The backbone of new prompts.
        health: How the tasks' prompts fare.
        lives: Cameras that somebody looks at.
        cameras: Sources of frames that may be looked at.
        streams: Streams of events that are open.
        ending: Set when the server ends: streams close then.
    """

    store: Store
    thumbnails: Thumbnails
    jobs: Jobs
    engine: Engine
    access: Access
    cookie: str
    secure: bool
    backbone: str
    health: Health
    lives: Lives
    cameras: tuple[str, ...]
    streams: set[object] = field(default_factory=set)
    ending: Event = field(default_factory=Event)
