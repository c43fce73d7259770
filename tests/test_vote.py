"""The majority vote against a loop over images."""

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from lookalike.inference.vote import majority_vote


def by_loop(probabilities: NDArray[np.float64]) -> list[tuple[int, float]]:
    models, images, classes = probabilities.shape
    answers = []
    for image in range(images):
        named = Counter(
            max(range(classes), key=lambda c: (probabilities[model, image, c], -c))
            for model in range(models)
        )
        most = max(named.values())
        tied = sorted(label for label, count in named.items() if count == most)
        totals = {
            label: sum(probabilities[m, image, label] for m in range(models)) for label in tied
        }
        winner = max(tied, key=lambda label: (totals[label], -label))
        answers.append((winner, most / models))
    return answers


@pytest.mark.parametrize("models", [1, 2, 3, 4, 7])
def test_vote_equals_a_loop(models: int) -> None:
    rng = np.random.default_rng(models)
    probabilities = rng.dirichlet(np.ones(4), (models, 200))
    vote = majority_vote(probabilities)
    expected = by_loop(probabilities)
    assert vote.labels.tolist() == [label for label, _ in expected]
    np.testing.assert_allclose(vote.agreement, [share for _, share in expected])


def test_ties_go_to_the_higher_sum_and_not_to_an_unnamed_class() -> None:
    probabilities = np.array(
        [
            [[0.50, 0.05, 0.45], [0.6, 0.4, 0.0]],
            [[0.01, 0.54, 0.45], [0.4, 0.6, 0.0]],
        ]
    )  # first image: class 2 has the largest sum, and no vote
    vote = majority_vote(probabilities)
    assert vote.labels.tolist() == [
        1,
        0,
    ]  # the second image is a tie in everything: the first class
    assert vote.agreement.tolist() == [0.5, 0.5]


def test_no_images() -> None:
    assert majority_vote(np.zeros((3, 0, 5))).labels.shape == (0,)
