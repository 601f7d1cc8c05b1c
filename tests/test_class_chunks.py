"""Which classes run together: every class once, one run where all fit, like lengths together where not."""

import numpy as np
import pytest

from qprompt_runtime.class_chunks import FLOATS_PER_PLACE, FLOATS_PER_TOKEN, class_chunks, cut
from qprompt_runtime.manifest import TextLayout
from qprompt_runtime.tokenizer import ClassTokens

CAUSAL = TextLayout(8, 2, 20, True, "lower", 1, 2, 0, "end_token")
NON_CAUSAL = TextLayout(8, 2, 20, False, "lower", 1, 2, 0, "end_token")
UNIT = 8 * 2 * 4  # bytes of one number for each width and block
PER_TOKEN = UNIT * (FLOATS_PER_TOKEN + FLOATS_PER_PLACE)


def tokens(*lengths: int) -> ClassTokens:
    return ClassTokens(np.zeros((len(lengths), max(lengths)), np.int64), np.array(lengths) - 1)


def listed(chunks):
    return [chunk.tolist() for chunk in chunks]


def test_all_that_fit_run_together_in_their_own_order():
    assert listed(class_chunks(tokens(4, 2, 4), CAUSAL, 4, 10**6)) == [[0, 1, 2]]


def test_the_budget_counts_tokens_and_places():
    needed = UNIT * (FLOATS_PER_TOKEN * (4 + 2 + 4) + FLOATS_PER_PLACE * 3 * 4)
    assert listed(class_chunks(tokens(4, 2, 4), CAUSAL, 4, needed)) == [[0, 1, 2]]
    assert len(class_chunks(tokens(4, 2, 4), CAUSAL, 4, needed - 1)) == 3  # half of it holds no two


def test_several_runs_take_half_of_the_budget_each_shorter_names_first():
    assert listed(class_chunks(tokens(3, 1, 3, 1, 1), CAUSAL, 4, 2 * 3 * PER_TOKEN)) == [[1, 3, 4], [0], [2]]


def test_a_class_that_is_too_long_runs_alone():
    assert listed(class_chunks(tokens(2, 9), CAUSAL, 4, 1)) == [[0], [1]]


def test_a_tower_that_sees_its_padding_counts_every_row():
    rows = 3 + 1 + 4  # tokens, start token, context
    both = 2 * rows * PER_TOKEN
    assert listed(class_chunks(tokens(3, 1), NON_CAUSAL, 4, both)) == [[0, 1]]
    assert listed(class_chunks(tokens(3, 1), NON_CAUSAL, 4, both - 1)) == [[0], [1]]


@pytest.mark.parametrize("budget", [1, 3_000, 20_000, 100_000])
def test_every_class_comes_once(budget):
    lengths = np.random.default_rng(0).integers(1, 12, 50)
    chunks = class_chunks(tokens(*lengths.tolist()), CAUSAL, 4, budget)
    assert sorted(np.concatenate(chunks).tolist()) == list(range(50))


def test_cut_keeps_what_the_longest_needs():
    given = ClassTokens(np.arange(12).reshape(3, 4), np.array([1, 3, 0]))
    found = cut(given, np.array([2, 0]), CAUSAL)
    assert found.tokens.tolist() == [[8, 9], [0, 1]]
    assert found.ends.tolist() == [0, 1]
    assert cut(given, np.array([2, 0]), NON_CAUSAL).tokens.shape == (2, 4)
