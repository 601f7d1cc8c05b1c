"""`qprompt-edge status`: what runs in a folder."""

from __future__ import annotations

from qprompt_edge.cli.output import emit, fail, reported, section, show
from qprompt_edge.cli.parameters import (
    JsonOption,
    PlaceArgument,
    PlaceOption,
    PolicyOption,
    TaskOption,
    TrustOption,
    one_folder,
)
from qprompt_edge.shipping.status import Status, status
from qprompt_runtime.policy import Policy
from qprompt_runtime.text import first_few, printable
from qprompt_runtime.trust_checks import shown_time


@reported
def command(
    place: PlaceArgument = None,
    to: PlaceOption = None,
    as_json: JsonOption = False,
    policy: PolicyOption = None,
    trust: TrustOption = None,
    task: TaskOption = None,
) -> None:
    """Show which prompt runs from a folder, who signed it, and what it could be rolled back to.

    Exits with 3 if the policy forbids what runs, with 1 if nothing is installed or it cannot be loaded.

    Example: qprompt-edge status /var/lib/belt --json
    """
    folder = one_folder(place, to)
    found = status(folder, Policy.of(policy, trust, task))
    if as_json:
        emit(found.to_json())
    elif found.digest is not None:
        _show(found)
    if found.digest is None:
        fail(f"nothing is installed in {printable(folder)}", as_json=False)
    if found.error is not None:
        fail(str(found.error), as_json=False, code=found.error.exit_code)


def _show(found: Status) -> None:
    claims, prompt = found.claims, found.prompt
    show(f"{found.path}: {'runs' if prompt is not None else 'cannot be loaded'}, policy {found.policy}")
    if prompt is not None:
        names = [name.label for name in prompt.classes]
        section("What it is", {"classes": first_few(names, 20), "backbone": prompt.backbone_name})
    signed = {
        "task": "" if claims is None else claims.task,
        "sequence": "" if claims is None else str(claims.sequence),
        "issued": "" if claims is None else shown_time(claims.issued),
        "expires": ""
        if claims is None
        else "never"
        if claims.expires is None
        else shown_time(claims.expires),
        "signature": "not signed" if claims is None else "",
        "sha256": found.digest or "",
        "highest sequence": str(found.highest),
        "rollback to": found.before or "nothing",
    }
    section("What is installed", signed)
