"""Execution providers: the requested one runs or is refused, and `auto` reports its choice."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from pathlib import Path

import onnxruntime

from qprompt_runtime.cores import startable_threads, usable_cores
from qprompt_runtime.errors import BundleError, ProviderError

_SUFFIX = "ExecutionProvider"
_AUTOMATIC = ("CUDA", "CPU")
"""What `auto` tries, best first.

TensorRT is not among them, because it compiles for minutes at its first start.
"""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_FIRST_THRESHOLD, _LAST_THRESHOLD = 2**17, 2**25
_SPIN_MICROSECONDS = "20"
"""For how long threads look for work: enough between two operators, and much less than onnxruntime would.

Old versions of onnxruntime (1.19) do not know this entry, and look as long as before.
"""
_FOLDING = ["ConstantFolding", "CommonSubexpressionElimination"]
"""onnxruntime's optimizers that keep wide copies of narrow weights."""


def choose_provider(wanted: str) -> str:
    """The provider to use, as onnxruntime names it.

    Args:
        wanted: `auto`, or a short name such as `cpu`, `cuda` or `tensorrt`.

    Raises:
        ProviderError: It is not available here; the message lists those that are.
    """
    offered: dict[str, str] = {
        name.removesuffix(_SUFFIX).lower(): name for name in onnxruntime.get_available_providers()
    }
    if wanted == "auto":
        return next(name + _SUFFIX for name in _AUTOMATIC if name.lower() in offered)
    if wanted.lower() not in offered:
        raise ProviderError(
            f"execution provider {wanted!r} is not available here; available: {', '.join(offered)}, or auto"
        )
    return offered[wanted.lower()]


@contextlib.contextmanager
def _blocks_given_back() -> Iterator[None]:
    """Have glibc give every large block back as soon as it is freed.

    A session copies its weights several times while it is opened. glibc starts with a limit of 128 kB for
    what it gives back at once, but raises it with each block that is freed, and keeps the copies. Afterwards
    the limits are the highest that it may choose itself. Other C libraries have no such limits.
    """
    limit = getattr(ctypes.CDLL(None), "mallopt", lambda _which, _value: 0)
    limit(_M_MMAP_THRESHOLD, _FIRST_THRESHOLD)
    try:
        yield
    finally:
        limit(_M_MMAP_THRESHOLD, _LAST_THRESHOLD)
        limit(_M_TRIM_THRESHOLD, 2 * _LAST_THRESHOLD)


def open_session(
    path: Path,
    provider: str,
    threads: int,
    *,
    prepack: bool,
    narrow: bool = False,
    spin: bool = True,
    callers: int = 1,
) -> onnxruntime.InferenceSession:
    """Open a graph on one provider, so that nothing falls back in silence.

    Args:
        path: The graph; its weights may lie in a file beside it.
        provider: As `choose_provider` returns it.
        threads: Threads within an operator; 0 takes one for each core that this process may use (see
            `cores`), or one alone where the system refuses more.
        prepack: Copy weights into the layout that products like best: faster, but they are then not
            memory-mapped, and a graph that uses each weight in two directions holds two copies.
        narrow: Without `prepack`, keep float16 weights mapped as well: on a processor, each run widens them,
            one at a time. Not for convolutions, which are slow then.
        spin: Have threads without work look for some for a while: they start a little sooner, and take the
            core from whatever else would run on it.
        callers: Threads that will run the graph at the same time; the session starts so many fewer.

    Raises:
        BundleError: onnxruntime cannot read the graph.
        ProviderError: The provider refused to start, or the system so many threads.
    """
    count = max(1, _startable(threads) + 1 - callers)
    narrow = narrow and not prepack and provider.startswith("CPU")
    try:
        try:
            session = _session(path, provider, count, prepack, narrow, spin)
        except RuntimeError:
            if threads or count == 1:
                raise
            # others have taken the threads in the meantime
            session = _session(path, provider, 1, prepack, narrow, spin)
    except Exception as error:  # onnxruntime has no public base class for what it raises about a graph
        line = (str(error).splitlines() or [type(error).__name__])[0]
        if isinstance(error, RuntimeError):
            raise ProviderError(f"{provider} did not start: {line}") from error
        raise BundleError(f"onnxruntime cannot open {path}: {line}") from error
    if provider not in session.get_providers():
        raise ProviderError(
            f"{provider} did not start; onnxruntime offers {', '.join(session.get_providers())} instead. "
            "Check that its libraries are installed, or use --provider cpu"
        )
    return session


def _session(
    path: Path, provider: str, threads: int, prepack: bool, narrow: bool, spin: bool
) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_mem_pattern = False  # a planned block for each shape costs more memory than it saves time
    options.enable_mem_reuse = False  # to plan it is most of opening's time; the arena reuses blocks anyway
    options.add_session_config_entry("session.disable_prepacking", "0" if prepack else "1")
    if narrow:  # with all optimizations, what widens weights is folded once more
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin else "0")
    options.add_session_config_entry("session.intra_op.spin_duration_us", _SPIN_MICROSECONDS)
    whole = str(path.parent.resolve() / path.name)  # some versions refuse weights in a folder that is a link
    with _blocks_given_back():
        return onnxruntime.InferenceSession(
            whole,
            options,
            providers=[provider],
            enable_fallback=0,
            disabled_optimizers=_FOLDING if narrow else None,
        )


def _startable(wanted: int) -> int:
    """Threads within an operator.

    A number is always given: onnxruntime's own choice ignores affinity masks and pins its threads.

    Args:
        wanted: As given; 0 takes one for each core, or one alone where the system refuses more.

    Raises:
        ProviderError: The system refuses so many.
    """
    count = wanted or usable_cores()
    beside = startable_threads(count - 1)  # the caller is one of them
    if beside == count - 1:
        return count
    if not wanted:
        return 1
    raise ProviderError(
        f"the system refuses to start {wanted} threads, it allows {1 + beside} now (a limit on processes, or "
        "a sandbox); take --threads 1"
    )
