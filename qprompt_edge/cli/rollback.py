"""`qprompt-edge rollback`: what ran before the last install."""

from __future__ import annotations

from qprompt_edge.cli.output import emit, reported, say
from qprompt_edge.cli.parameters import (
    JsonOption,
    PlaceArgument,
    PlaceOption,
    PolicyOption,
    TaskOption,
    TrustOption,
    one_folder,
)
from qprompt_edge.shipping.install import rollback
from qprompt_runtime.policy import Policy


@reported
def command(
    place: PlaceArgument = None,
    to: PlaceOption = None,
    as_json: JsonOption = False,
    policy: PolicyOption = None,
    trust: TrustOption = None,
    task: TaskOption = None,
) -> None:
    """Put back the prompt that ran before.

    Only a file that was installed here is put back, if its signature is still good. The highest sequence
    number that was seen stays: install takes only newer ones.

    Example: qprompt-edge rollback /var/lib/belt
    """
    done = rollback(one_folder(place, to), policy=Policy.of(policy, trust, task))
    number = "" if done.claims is None else f", task {done.claims.task}, sequence {done.claims.sequence}"
    say(f"rolled back {done.path}{number}")
    if as_json:
        said = None if done.claims is None else done.claims.to_json()
        emit({"path": str(done.path), "sha256": done.digest, "signed": said, "before": done.before})
