"""torch's pickles read as data: nothing is imported or called, and no object of another library is made.

A pickle is a program for a small stack machine; GLOBAL may name any function, and REDUCE and NEWOBJ call what
was named. `torch.save` needs few of its instructions, and this module runs those over plain values. A global
is only its name on the stack, and there are three kinds of names:

- what a tensor is made of (`torch._utils._rebuild_tensor_v2`, `torch.HalfStorage`, ...) gives a record of
  where the tensor's numbers lie;
- the optimizer and scheduler classes that Dassl leaves in a checkpoint give an empty dictionary, whose state
  is dropped;
- every other name ends the reading, in an error that says it.

No record is looked into here: whoever reads a tensor's numbers checks its bounds first.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from qprompt_runtime.errors import CheckpointError
from qprompt_runtime.text import printable

_REBUILD_TENSOR = "torch._utils._rebuild_tensor_v2"
_REBUILD_PARAMETER = "torch._utils._rebuild_parameter"
_DICTS = ("collections.OrderedDict", "collections.defaultdict", "collections.Counter")
STORAGES = {
    "torch.HalfStorage": "float16",
    "torch.BFloat16Storage": "bfloat16",
    "torch.FloatStorage": "float32",
    "torch.DoubleStorage": "float64",
    "torch.BoolStorage": "bool",
    "torch.ByteStorage": "uint8",
    "torch.CharStorage": "int8",
    "torch.ShortStorage": "int16",
    "torch.IntStorage": "int32",
    "torch.LongStorage": "int64",
}
PLACEHOLDERS = frozenset(  # what Dassl's optimizers and schedulers are
    {
        "dassl.optim.lr_scheduler.ConstantWarmupScheduler",
        "dassl.optim.lr_scheduler.LinearWarmupScheduler",
        "dassl.optim.radam.RAdam",
        "torch.optim.adam.Adam",
        "torch.optim.adamw.AdamW",
        "torch.optim.lr_scheduler.CosineAnnealingLR",
        "torch.optim.lr_scheduler.MultiStepLR",
        "torch.optim.lr_scheduler.StepLR",
        "torch.optim.rmsprop.RMSprop",
        "torch.optim.sgd.SGD",
    }
)
# `dict` is what a defaultdict makes, as an argument; calling it is refused.
_ARGUMENTS = ("__builtin__.dict", "builtins.dict")
_KNOWN = {_REBUILD_TENSOR, _REBUILD_PARAMETER, *_DICTS, *_ARGUMENTS, *STORAGES, *PLACEHOLDERS}


@dataclass(frozen=True)
class Global:
    """The name of something that a pickle refers to; never the thing itself."""

    name: str


@dataclass(frozen=True)
class StorageRecord:
    """Where numbers lie, as the pickle says.

    Attributes:
        dtype: numpy's name of the type, or `bfloat16`.
        key: Name of the archive's member below `data/`.
        count: How many numbers it claims to hold, 0 or more.
    """

    dtype: str
    key: str
    count: int


@dataclass(frozen=True, eq=False)
class TensorRecord:
    """A view of a storage, as the pickle says: any integers, not checked against anything.

    Attributes:
        storage: Where its numbers lie.
        offset: Place of the first one.
        shape: Extents.
        strides: Steps in numbers, one for each extent.
    """

    storage: StorageRecord
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class _Machine:
    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def keep(self, place: int) -> None:
        """Remember the top of the stack."""
        self.memo[place] = self.stack[-1]

    def pop_mark(self) -> list[Any]:
        """Everything above the last mark."""
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items


def read_pickle(data: bytes) -> Any:
    """What a pickle describes, without making it.

    Args:
        data: The whole pickle; its caller bounds the size. Time and memory grow with the size alone.

    Returns:
        None, bool, int, float, str, bytes, list, tuple and dict, with `TensorRecord`, `StorageRecord` and
        `Global` in them. A list or a dict may contain itself: walk it with care, and neither compare nor
        print it.

    Raises:
        CheckpointError: An instruction or a name is not one of those that weights need, or the bytes are no
            pickle.
    """
    machine = _Machine()
    try:
        for opcode, argument, place in pickletools.genops(data):
            if opcode.name == "STOP":
                if place is None or place + 1 != len(data) or len(machine.stack) != 1:
                    raise CheckpointError("the pickle does not end with its one value; the file is damaged")
                return machine.stack[0]
            step = _STEPS.get(opcode.name)
            if step is None:
                raise CheckpointError(
                    f"the pickle has the instruction {opcode.name}, which weights do not need"
                )
            step(machine, argument)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        reason = printable(str(error))[:100]
        raise CheckpointError(
            f"the pickle is damaged or cut short ({type(error).__name__}: {reason})"
        ) from error
    raise CheckpointError("the pickle is cut short: it has no end")


def _kind(value: Any) -> str:
    return value.name if isinstance(value, Global) else type(value).__name__


def _global(machine: _Machine, name: str) -> None:
    if name not in _KNOWN:
        raise CheckpointError(
            f"the pickle names {printable(name)[:120]!r}, which weights do not need; it was not run. If you "
            "trust the file, write its weights anew on a workstation: torch.save(torch.load(FILE, "
            "weights_only=False)['state_dict'], NEW)"
        )
    machine.stack.append(Global(name))


def _stack_global(machine: _Machine, _: Any) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    if type(name) is not str or type(module) is not str:
        raise CheckpointError(
            "the pickle's instruction STACK_GLOBAL names something by values that are no text"
        )
    _global(machine, f"{module}.{name}")


def _reduce(machine: _Machine, _: Any) -> None:
    """Give what a call of a known name makes, a tensor or a dictionary; refuse every other call."""
    arguments, called = machine.stack.pop(), machine.stack.pop()
    name = called.name if isinstance(called, Global) else None
    if type(arguments) is tuple and name == _REBUILD_TENSOR:
        machine.stack.append(_tensor(arguments))
    elif type(arguments) is tuple and name == _REBUILD_PARAMETER:
        if not arguments or not isinstance(arguments[0], TensorRecord):
            raise CheckpointError("the pickle makes a parameter of something that is no tensor")
        machine.stack.append(arguments[0])
    elif name in _DICTS[1:] or (name == _DICTS[0] and arguments == ()):
        machine.stack.append({})
    else:
        raise CheckpointError(
            f"the pickle calls {_kind(called)} in a way that weights do not need; it was not run"
        )


def _new_object(machine: _Machine, _: Any) -> None:
    _arguments, made = machine.stack.pop(), machine.stack.pop()
    if not isinstance(made, Global) or made.name not in PLACEHOLDERS:
        raise CheckpointError(f"the pickle makes an object of {_kind(made)}, which weights do not need")
    machine.stack.append({})


def _build(machine: _Machine, _: Any) -> None:
    """Drop the state of an optimizer or scheduler, and the attributes (`_metadata`) of a state dict."""
    machine.stack.pop()
    target = machine.stack[-1]
    if type(target) is not dict:
        raise CheckpointError(f"the pickle sets the state of {_kind(target)}, which weights do not need")


def _tensor(arguments: tuple[Any, ...]) -> TensorRecord:
    """storage, offset, shape, strides, and then what only training needs."""
    good = len(arguments) >= 4 and isinstance(arguments[0], StorageRecord) and type(arguments[1]) is int
    for numbers in arguments[2:4]:
        good = good and type(numbers) is tuple and all(type(number) is int for number in numbers)
    if not good or len(arguments[2]) != len(arguments[3]):
        raise CheckpointError(
            "the pickle describes a tensor by other things than storage, offset, shape and strides"
        )
    return TensorRecord(*arguments[:4])


def _persistent(machine: _Machine, _: Any) -> None:
    """`('storage', type, key, location, count)`: the one thing that torch keeps outside of the pickle."""
    parts = machine.stack.pop()
    good = type(parts) is tuple and len(parts) == 5 and parts[0] == "storage"
    good = good and isinstance(parts[1], Global) and type(parts[2]) is str and type(parts[4]) is int
    if not good or parts[4] < 0:
        raise CheckpointError(
            "the pickle refers to something outside of itself that is no storage of numbers"
        )
    if parts[1].name not in STORAGES:
        raise CheckpointError(
            f"the pickle has a storage of {parts[1].name}, expected one of {', '.join(STORAGES)}"
        )
    machine.stack.append(StorageRecord(STORAGES[parts[1].name], parts[2], parts[4]))


def _append(machine: _Machine, items: list[Any]) -> None:
    target = machine.stack[-1]
    if type(target) is not list:
        raise CheckpointError(f"the pickle appends to {_kind(target)}, expected a list")
    target.extend(items)


def _set_items(machine: _Machine, items: list[Any]) -> None:
    """Keys are text, small integers, or (in an optimizer's state) tensors: all of them quick to hash."""
    target = machine.stack[-1]
    if type(target) is not dict or len(items) % 2:
        raise CheckpointError(
            f"the pickle puts {len(items)} keys and values into {_kind(target)}, expected a dict"
        )
    for key, value in zip(items[::2], items[1::2], strict=True):
        small = type(key) is int and abs(key) < 2**31
        if not (small or isinstance(key, str | TensorRecord)):
            raise CheckpointError(
                f"the pickle has a dict key of {_kind(key)}, expected text or a small integer"
            )
        target[key] = value


def _tuple_of(count: int) -> Callable[[_Machine, Any], None]:
    def step(machine: _Machine, _: Any) -> None:
        items = [machine.stack.pop() for _ in range(count)]
        machine.stack.append(tuple(reversed(items)))

    return step


_VALUES = "BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE SHORT_BINUNICODE BINBYTES SHORT_BINBYTES"
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(_VALUES.split(), lambda machine, value: machine.stack.append(value)),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), lambda machine, place: machine.keep(place)),
    **dict.fromkeys(
        ("BINGET", "LONG_BINGET"), lambda machine, place: machine.stack.append(machine.memo[place])
    ),
    **dict.fromkeys(("PROTO", "FRAME"), lambda _machine, _argument: None),
    "MEMOIZE": lambda machine, _: machine.keep(len(machine.memo)),
    "NONE": lambda machine, _: machine.stack.append(None),
    "NEWTRUE": lambda machine, _: machine.stack.append(True),
    "NEWFALSE": lambda machine, _: machine.stack.append(False),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "EMPTY_TUPLE": lambda machine, _: machine.stack.append(()),
    "MARK": lambda machine, _: machine.marks.append(len(machine.stack)),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.pop_mark())),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "APPEND": lambda machine, _: _append(machine, [machine.stack.pop()]),
    "APPENDS": lambda machine, _: _append(machine, machine.pop_mark()),
    "SETITEM": lambda machine, _: _set_items(machine, [machine.stack.pop(), machine.stack.pop()][::-1]),
    "SETITEMS": lambda machine, _: _set_items(machine, machine.pop_mark()),
    "GLOBAL": lambda machine, name: _global(machine, name.replace(" ", ".", 1)),
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "NEWOBJ": _new_object,
    "BUILD": _build,
    "BINPERSID": _persistent,
}
