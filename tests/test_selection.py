"""Which photo to label next: each part of its worth, alone."""

import numpy as np

from qprompt_edge.watching.selection import best_first

AXES = np.eye(6, dtype=np.float32)
NONE = np.zeros((0, 6), np.float32)


def order(margins, chances=None, features=None, known=NONE, counts=(0, 0)) -> list[int]:
    many = len(margins)
    chances = np.full((many, 2), 0.5, np.float32) if chances is None else np.array(chances, np.float32)
    features = AXES[:many] if features is None else np.array(features, np.float32)
    return best_first(np.array(margins, np.float32), chances, features, known, np.array(counts)).tolist()


def test_the_least_sure_come_first() -> None:
    assert order([0.4, 0.1, 0.3, 0.2]) == [1, 3, 2, 0]


def test_what_is_known_comes_last() -> None:
    assert order([0.1, 0.1, 0.1], known=AXES[[0]])[-1] == 0


def test_twins_are_not_asked_for_one_after_the_other() -> None:
    near = AXES[0] + 0.1 * AXES[5]
    features = [AXES[0], near / np.linalg.norm(near), AXES[1], AXES[2]]
    assert order([0.1, 0.11, 0.3, 0.3], features=features) == [0, 2, 3, 1]


def test_rare_classes_come_first_until_they_have_their_share() -> None:
    chances = [[1, 0], [1, 0], [0, 1], [0, 1], [0, 1]]
    found = order([0.2] * 5, chances, counts=(9, 2))
    assert set(found[:3]) == {2, 3, 4}
    assert set(order([0.2] * 5, chances, counts=(0, 0))[:2]) & {0, 1}, "both classes are on the first page"


def test_all_are_ranked_once_even_if_the_prompt_is_sure_of_all_or_they_are_all_known() -> None:
    assert sorted(order([1.0, 1.0, 1.0], known=AXES)) == [0, 1, 2]
    assert order([]) == []
