"""`qprompt-edge serve`: the page on the device."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qprompt_edge.cli.output import emit, reported, say
from qprompt_edge.cli.parameters import (
    INPUT,
    OUTPUT,
    BackboneOption,
    PolicyOption,
    ProviderOption,
    ThreadsOption,
    TrustOption,
    number,
    option,
)
from qprompt_runtime.bundle import DEFAULT_BACKBONE, find_bundle
from qprompt_runtime.errors import OutputError
from qprompt_runtime.policy import OFF, POLICY, TRUST, Policy, in_force

if TYPE_CHECKING:
    from qprompt_edge.server.serve import Place

_PORT, _LAST_PORT = 8423, 65_535
_INTERRUPTED = 130


@reported
def command(
    data: Annotated[
        Path,
        option(
            INPUT,
            "Folder of tasks: in each a sub-folder of photos per class, as adapt reads it; made if it is missing.",
            metavar="FOLDER",
        ),
    ] = Path("tasks"),
    camera: Annotated[
        list[str] | None,
        option(
            INPUT,
            "A source of live frames, as watch takes it; may be given again. By default the cameras that the system has.",
            metavar="SOURCE",
        ),
    ] = None,
    backbone: BackboneOption = DEFAULT_BACKBONE,
    host: Annotated[
        str,
        option(
            OUTPUT,
            "Address to listen on: 0.0.0.0 for every one of this machine; all but the loopback address demand a token.",
            metavar="ADDRESS",
        ),
    ] = "127.0.0.1",
    port: Annotated[int, number(OUTPUT, "Port to listen on; 0 takes a free one.", 0, max=_LAST_PORT)] = _PORT,
    tls: Annotated[
        bool, option(OUTPUT, "Speak https, with a certificate that is made once and kept.", "--tls")
    ] = False,
    token: Annotated[bool, option(OUTPUT, "Demand a token on the loopback address too.", "--token")] = False,
    new_token: Annotated[
        bool, option(OUTPUT, "Make a new token; the old one and all sessions end.", "--new-token")
    ] = False,
    token_file: Annotated[
        Path | None,
        option(OUTPUT, "File that holds the token, for services: it is printed nowhere.", metavar="FILE"),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        option(OUTPUT, "A further name that this machine is called by; may be given again.", metavar="NAME"),
    ] = None,
    policy: PolicyOption = None,
    trust: TrustOption = None,
    provider: ProviderOption = "auto",
    threads: ThreadsOption = 0,
) -> None:
    """Serve a page to take photos, adapt, try and correct, with a REST interface for all of it.

    Prints the address as one JSON line on stdout. Only this machine is answered unless --host says more.
    Needs the extra: pip install 'qprompt-edge[serve]'

    Example: qprompt-edge serve --data ./tasks --host 0.0.0.0
    """
    if new_token and token_file is not None:
        raise typer.BadParameter(
            "--new-token is for tokens that serve makes; change the content of --token-file"
        )
    try:
        from qprompt_edge.server.serve import Settings, serve
    except ModuleNotFoundError as error:
        raise OutputError(f"serve needs {error.name}: pip install 'qprompt-edge[serve]'") from error
    find_bundle(backbone)
    _tighten(policy, trust)
    settings = Settings(
        data=data,
        host=host,
        port=port,
        token=token or new_token or token_file is not None,
        new_token=new_token,
        token_file=token_file,
        allow_host=tuple(allow_host or ()),
        tls=tls,
        cameras=None if camera is None else tuple(camera),
        backbone=backbone,
        provider=provider,
        threads=threads,
    )
    ended = serve(settings, _started)
    raise typer.Exit(_INTERRUPTED if ended == signal.SIGINT else 0)


def _tighten(level: str | None, trust: Path | None) -> None:
    """Ask for a policy in this process and in that of the models: by the variables that say it for both.

    Raises:
        TrustError: What a policy file or the variables say cannot be understood.
    """
    asked = Policy.of(level, trust)
    if asked.level == OFF:
        return
    os.environ[POLICY] = in_force().tightened(asked).level
    if trust is not None:
        stores = [*filter(None, (os.environ.get(TRUST),)), str(trust.absolute())]
        os.environ[TRUST] = os.pathsep.join(stores)


def _started(place: Place) -> None:
    """Say where the server is: words and a QR code for people, then a JSON line for scripts."""
    say(f"serving on {place.url} (Ctrl-C ends it)")
    if place.fingerprint is not None:
        say(f"certificate SHA-256: {place.fingerprint}")
        say("browsers warn of it once: compare the fingerprint there")
    if place.token is not None:
        say(f"open {place.link} (the token is shown this once; --new-token makes another)")
        if sys.stderr.isatty():
            import segno

            segno.make(place.link, micro=False).terminal(out=sys.stderr, compact=True)
    elif place.needs_token:
        say(
            "a token is demanded: the one of --token-file, or that was shown at the first start (--new-token makes another)"
        )
    emit({"url": place.url, "token": place.token})
