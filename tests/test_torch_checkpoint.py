"""Checkpoints of torch: literal ones first, then hostile ones (`test_coop_maple.py` has real ones)."""

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch_files import (
    CALL,
    END,
    NEW,
    SCHEDULER,
    STATE,
    archive,
    checkpoint,
    coop_arrays,
    inert,
    name,
    number,
    ordered,
    row,
    storage,
    table,
    tensor,
    text,
    whole,
)

from qprompt_edge.convert import torch_checkpoint
from qprompt_edge.convert.torch_checkpoint import State, read_checkpoint
from qprompt_edge.convert.torch_pickle import read_pickle
from qprompt_runtime.errors import CheckpointError

SIX = np.arange(6, dtype="<f4")


@pytest.fixture
def read(tmp_path):
    """`read(content)`: the state in a file of these bytes."""

    def call(content: bytes) -> State:
        path = tmp_path / "model.pth.tar-50"
        path.write_bytes(content)
        return read_checkpoint(path)

    return call


# ---------------------------------------------------------------------- what is read


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8"])
@pytest.mark.parametrize("dassl", [True, False])
def test_literal_checkpoint(read, dtype, dassl):
    arrays = coop_arrays((4, 8), dtype)
    state = read(checkpoint(arrays, dassl=dassl))
    assert state.names == {"ctx", "token_prefix"}
    assert state.load("ctx").dtype == np.float32
    np.testing.assert_array_equal(state.load("ctx"), arrays["ctx"].astype(np.float32))


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "module"])
def test_a_state_dict_under_the_names_that_trainers_give_it(read, key):
    content = archive(
        table({"epoch": number(1), key: ordered({"ctx": whole(SIX, "0")})}), {"0": SIX.tobytes()}
    )
    assert read(content).load("ctx").tolist() == SIX.tolist()


def test_bfloat16_is_the_upper_half_of_float32(read):
    values = np.array([1.5, -2, 0.15625, 3e38], "<f4")
    place = storage("BFloat16Storage", "0", 4)
    halves = (values.view("<u4") >> 16).astype("<u2")
    state = read(archive(ordered({"ctx": tensor(place, 0, (2, 2), (2, 1))}), {"0": halves.tobytes()}))
    expected = (halves.astype("<u4") << 16).view("<f4").reshape(2, 2)
    np.testing.assert_array_equal(state.load("ctx"), expected)
    assert expected[0].tolist() == [1.5, -2]


def test_views_of_one_storage(read):
    place = storage("FloatStorage", "0", 6)
    views = {
        "turned": tensor(place, 0, (3, 2), (1, 3)),
        "tail": tensor(place, 2, (2, 2), (2, 1)),
        "row": tensor(place, 5, (1, 1), (2**62, 0)),
    }
    state = read(archive(ordered(views), {"0": SIX.tobytes()}, order=None))
    assert state.load("turned").tolist() == SIX.reshape(2, 3).T.tolist()
    assert state.load("tail").tolist() == [[2, 3], [4, 5]]
    assert state.load("row").tolist() == [[5]]


def test_parameters_are_tensors(read):
    wrapped = name("torch._utils", "_rebuild_parameter") + row(whole(SIX, "0"), b"\x88", b"}") + CALL
    assert read(archive(table({"ctx": wrapped}), {"0": SIX.tobytes()})).load("ctx").tolist() == SIX.tolist()


def test_schedulers_and_optimizers_are_dropped_unread():
    content = read_pickle(b"\x80\x02" + SCHEDULER + END)
    assert content == {"warmup_epoch": 1, "successor": {}}


# ---------------------------------------------------------------------- what is refused: code


def shell(target: Path) -> bytes:
    return row(text(f"touch {target}"))


@pytest.mark.parametrize(
    ("module", "member"),
    [
        ("os", "system"), ("posix", "system"), ("subprocess", "Popen"), ("builtins", "eval"), ("builtins", "exec"),
        ("builtins", "getattr"), ("__builtin__", "getattr"), ("builtins", "__import__"), ("builtins", "type"),
        ("functools", "partial"), ("operator", "methodcaller"), ("torch", "load"), ("torch.serialization", "load"),
        ("torch.hub", "load"), ("torch._utils", "_rebuild_tensor_v3"), ("numpy", "load"), ("pickle", "loads"),
        ("torch.optim.lr_scheduler", "LambdaLR"), ("torch.optim.sgd", "SGD.step"), ("torch", "storage HalfStorage"),
    ],
)  # fmt: skip
def test_every_other_name_is_refused_and_nothing_runs(read, tmp_path, module, member):
    canary = tmp_path / "canary"
    forms = (
        name(module, member),  # as a value alone
        name(module, member) + shell(canary) + CALL,
        text(module) + text(member) + b"\x93" + shell(canary) + CALL,
        name(module, member) + shell(canary) + NEW,
    )
    for form in forms:
        for content in (table({"ctx": form}), inert("torch.optim.sgd", "SGD", table({"step": form}))):
            with pytest.raises(CheckpointError, match="which weights do not need; it was not run") as error:
                read(archive(content))
            assert f"{module}.{member}" in str(error.value)
            assert "\n" not in str(error.value)
    assert not canary.exists()


def test_the_canary_dies_where_pickles_run(tmp_path):
    pickle.loads(b"\x80\x02" + name("os", "system") + shell(tmp_path / "canary") + CALL + END)
    assert (tmp_path / "canary").exists()


SGD = name("torch.optim.sgd", "SGD")
FORGERIES = {
    "call of a placeholder's class": (SGD + row(number(1)) + CALL, "calls torch.optim.sgd.SGD"),
    "call of dict": (name("builtins", "dict") + b")" + CALL, "calls builtins.dict"),
    "call of a result": (name("collections", "OrderedDict") + b")" + CALL + b")" + CALL, "calls dict"),
    "call of text": (text("os.system") + row(text("true")) + CALL, "calls str"),
    "OrderedDict of something": (
        name("collections", "OrderedDict") + row(b"]") + CALL,
        "calls collections.Ord",
    ),
    "nested call": (SGD + row(SGD + b")" + CALL) + NEW, "calls torch.optim.sgd.SGD"),
    "object of a storage": (name("torch", "HalfStorage") + b")" + NEW, "an object of torch.HalfStorage"),
    "state of a class": (SGD + table({"step": b"N"}) + STATE, "sets the state of torch.optim.sgd.SGD"),
    "state of a tensor": (whole(SIX, "0") + b"}" + STATE, "sets the state of TensorRecord"),
    "old instance": (b"(ios\nsystem\n", "instruction INST"),
    "old object": (b"(" + name("torch", "HalfStorage") + b"o", "instruction OBJ"),
    "extension": (b"\x82\x01", "instruction EXT1"),
    "persistent text": (b"Pos.system\n", "instruction PERSID"),
    "persistent dict": (b"}Q", "no storage of numbers"),
    "storage of an optimizer": (
        row(text("storage"), SGD, text("0"), text("cpu"), number(1)) + b"Q",
        "a storage of torch.optim.sgd.SGD",
    ),
    "storage of a negative count": (storage("FloatStorage", "0", -1), "no storage of numbers"),
    "tensor of text": (name("torch._utils", "_rebuild_tensor_v2") + row(text("x")) + CALL, "by other things"),
    "tensor of two strides for one": (
        tensor(storage("FloatStorage", "0", 6), 0, (6,), (1, 1)),
        "by other things",
    ),
    "tensor with a shape of text": (
        name("torch._utils", "_rebuild_tensor_v2")
        + row(storage("FloatStorage", "0", 6), number(0), row(text("6")), row(number(1)))
        + CALL,
        "by other things",
    ),
    "parameter of text": (
        name("torch._utils", "_rebuild_parameter") + row(text("x")) + CALL,
        "a parameter of something",
    ),
    "key that is slow to hash": (b"}" + row(b")", b")") + b"Ns", "a dict key of tuple"),
    "key that collides": (b"}" + number(2**61 - 1) + b"Ns", "a dict key of int"),
    "append to text": (text("x") + b"Na", "appends to str"),
    "items of text": (text("x") + b"NNs", "into str"),
    "module that is no text": (b"N" + text("x") + b"\x93", "values that are no text"),
    "nothing to take": (b"a", "damaged or cut short"),
    "nothing remembered": (b"h\x07", "damaged or cut short"),
    "two values": (b"NN", "its one value"),
    "end in the middle": (b"N.N", "its one value"),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_forged_pickles(forgery):
    content, message = FORGERIES[forgery]
    with pytest.raises(CheckpointError, match=message):
        read_pickle(b"\x80\x02" + content + END)


# ---------------------------------------------------------------------- what is refused: archives and tensors


def one(view: bytes, content: bytes = SIX.tobytes(), **options) -> bytes:
    return archive(ordered({"ctx": view}), {"0": content}, **options)


PLACE = storage("FloatStorage", "0", 6)
TENSORS = {
    "beyond the end": (one(tensor(PLACE, 1, (2, 3), (3, 1))), "ctx reaches beyond its storage of 6"),
    "before the start": (one(tensor(PLACE, -1, (2,), (1,))), "reaches beyond"),
    "backwards": (one(tensor(PLACE, 5, (6,), (-1,))), "reaches beyond"),
    "far strides": (one(tensor(PLACE, 0, (2, 3), (2**62, 1))), "reaches beyond"),
    "repeated numbers": (one(tensor(PLACE, 0, (7, 1), (0, 1))), "reaches beyond"),
    "huge shape": (one(tensor(PLACE, 0, (2**13, 2**13), (0, 0))), "up to 16777216 numbers"),
    "absurd shape": (one(tensor(PLACE, 0, (2**900, 2**900), (0, 0))), "up to 16777216 numbers"),
    "empty": (one(tensor(PLACE, 0, (0, 3), (3, 1))), "each 1 or more"),
    "no dimension": (one(tensor(PLACE, 0, (), ())), "1 to 4 dimensions"),
    "five dimensions": (one(tensor(PLACE, 0, (1,) * 5, (1,) * 5)), "1 to 4 dimensions"),
    "storage too short": (one(whole(SIX, "0"), bytes(23)), "has 23 bytes, expected 4 for each of its 6"),
    "storage too long": (one(whole(SIX, "0"), bytes(25)), "has 25 bytes"),
    "boasting storage": (
        one(tensor(storage("FloatStorage", "0", 2**60), 2**59, (2,), (1,))),
        "has 24 bytes, expected 4 for each of its 1152921504606846976",
    ),
    "no storage": (one(whole(SIX, "1")), r"model/data/1 is missing"),
    "storage elsewhere": (one(whole(SIX, "../data.pkl")), r"model/data/\.\./data\.pkl is missing"),
    "integers": (one(whole(SIX.astype("<i8"), "0"), SIX.astype("<i8").tobytes()), "of type int64"),
    "not a number": (one(whole(SIX, "0"), np.full(6, np.nan, "<f4").tobytes()), "infinite or not a number"),
    "beyond float32": (
        one(whole(SIX.astype("<f8"), "0"), np.full(6, 1e300).tobytes()),
        "infinite or not a number",
    ),
    "zip bomb": (one(whole(SIX, "0"), method=zipfile.ZIP_DEFLATED), "is compressed"),
    "big-endian": (one(whole(SIX, "0"), order=b"big"), "are big-endian; save it anew"),
    "TorchScript": (one(whole(SIX, "0"), others={"model/constants.pkl": b""}), "is a TorchScript program"),
    "two pickles": (one(whole(SIX, "0"), others={"other/data.pkl": b""}), "holds 2 pickles"),
    "no pickle": (b"PK\x05\x06" + bytes(18), "holds 0 pickles"),
    "no state dict": (archive(text("weights")), "holds a str"),
    "no tensors": (archive(table({"state_dict": b"N", "epoch": number(1)})), "no tensor by a name"),
    "no archive": (b"PK\x03\x04 and then nothing", "cannot be read as a zip archive"),
}


@pytest.mark.parametrize("fault", TENSORS)
def test_forged_archives(read, fault):
    content, message = TENSORS[fault]
    with pytest.raises(CheckpointError, match=message) as error:
        read(content).load("ctx")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("limit", "value", "message"),
    [
        ("MAX_PICKLE_BYTES", 50, r"data\.pkl has \d+ bytes, expected up to 50"),
        ("MAX_STORAGE_BYTES", 23, "has 24 bytes, expected up to 23"),
        ("MAX_DIRECTORY_BYTES", 120, "list of members is over 120 bytes long"),
    ],
)
def test_limits(read, monkeypatch, limit, value, message):
    content = one(whole(SIX, "0"), others={f"model/{k}": b"" for k in range(20)})
    assert read(content).load("ctx").tolist() == SIX.tolist()
    monkeypatch.setattr(torch_checkpoint, limit, value)
    with pytest.raises(CheckpointError, match=message):
        read(content).load("ctx")


def test_truncated_at_every_length(read):
    content = checkpoint({"ctx": SIX})
    for length in range(len(content)):
        with pytest.raises(CheckpointError):
            read(content[:length])


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_change_gives_a_tensor_or_our_error(read, data):
    content = bytearray(checkpoint({"ctx": SIX}))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    message = ""
    try:
        state = read(bytes(content))
        for key in state.names:
            assert state.load(key).dtype == np.float32
    except CheckpointError as error:
        message = str(error)
    assert "\n" not in message


@settings(max_examples=500)
@given(
    st.lists(
        st.sampled_from(
            (
                *(b"(", b"t", b"}", b"]", b"N", b"u", b"e", b"0", b"2", b"q\0", b"h\0", b"R", b"b", b"\x81"),
                *(b"Q", SGD, text("x"), number(3), PLACE, whole(SIX, "0")),
            )
        )
        | st.binary(max_size=4),
        max_size=12,
    )
)
@example([b"I", b"9" * 5000, b"\n"])
def test_any_instructions_give_data_or_our_error(parts):
    message = ""
    try:
        read_pickle(b"".join(parts) + END)
    except CheckpointError as error:
        message = str(error)
    assert "\n" not in message
