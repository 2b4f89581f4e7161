"""The least value of a linear function on every kind of set: attained inside, never undercut, equal to brute force."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from perturbation_examples import KINDS, SHAPE, SYNONYMS, inside, make, numbers

from lirpa_verify.perturbations.ball import ball
from lirpa_verify.perturbations.base import EmptySet
from lirpa_verify.perturbations.box import Box, exact, linf
from lirpa_verify.perturbations.polytope import ConstrainedBox
from lirpa_verify.perturbations.region import Region
from lirpa_verify.perturbations.sparse import Sparse, l0
from lirpa_verify.perturbations.words import Words, words
from lirpa_verify.perturbations.zonotope import Zonotope

ROWS = 7


def value(weight, points):
    """<weight, x> of points (batch, rows, *input): (batch, rows)."""
    return (weight * points).flatten(2).sum(2)


@pytest.mark.parametrize("kind", KINDS)
def test_minimum_is_attained_inside(kind):
    set_, weight = make(kind), numbers(2, ROWS, *SHAPE[1:], seed=10)
    points = set_.minimiser(weight)
    assert inside(set_, points).all()
    torch.testing.assert_close(set_.minimum(weight), value(weight, points), atol=1e-7, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_lie_inside_and_never_below_the_minimum(kind):
    set_, weight = make(kind), numbers(2, ROWS, *SHAPE[1:], seed=11)
    samples = set_.sample(300, torch.Generator().manual_seed(0)).transpose(0, 1)  # (batch, samples, *input)
    assert inside(set_, samples).all()
    assert (samples != samples[:, :1]).any()  # they do differ
    least = torch.einsum("brij,bnij->brn", weight, samples).amin(2)
    assert (least >= set_.minimum(weight) - 1e-9).all()


@pytest.mark.parametrize("kind", KINDS)
def test_box_is_the_smallest(kind):
    set_ = make(kind)
    eye = torch.eye(6, dtype=torch.float64).reshape(1, 6, *SHAPE[1:]).expand(2, -1, -1, -1)
    box = set_.box()
    torch.testing.assert_close(box.lower.flatten(1), set_.minimum(eye), atol=1e-7, rtol=0)
    torch.testing.assert_close(box.upper.flatten(1), -set_.minimum(-eye), atol=1e-7, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_minimum_has_the_right_gradient(kind):
    set_, weight = make(kind), numbers(2, ROWS, *SHAPE[1:], seed=12).requires_grad_()
    names = [
        f.name
        for f in dataclasses.fields(set_)
        if torch.is_tensor(t := getattr(set_, f.name)) and t.is_floating_point()
    ]
    fields = [getattr(set_, name).clone().requires_grad_() for name in names]

    def minimum(weight, *given):
        return dataclasses.replace(set_, **dict(zip(names, given, strict=True))).minimum(weight)

    assert torch.autograd.gradcheck(minimum, (weight, *fields), atol=1e-5)


def test_zero_weights_have_finite_gradients():
    for kind in KINDS:
        weight = torch.zeros(2, 1, *SHAPE[1:], dtype=torch.float64, requires_grad=True)
        make(kind).minimum(weight).sum().backward()
        assert torch.isfinite(weight.grad).all(), kind


@pytest.mark.parametrize("kind", ["box", "l0", "zonotope", "l1"])
def test_against_all_extreme_points(kind):
    """These sets are polytopes (or unions of them) whose extreme points can be listed."""
    set_, weight = make(kind), numbers(2, ROWS, *SHAPE[1:], seed=13)
    for b in range(2):
        points = torch.stack(list(extreme_points(set_, b)))
        brute = (weight[b].flatten(1) @ points.flatten(1).T).amin(1)
        torch.testing.assert_close(set_.minimum(weight)[b], brute, atol=1e-9, rtol=0)


def extreme_points(set_, b):
    if isinstance(set_, Box):
        for bits in itertools.product([False, True], repeat=6):
            yield torch.where(torch.tensor(bits).reshape(SHAPE[1:]), set_.upper[b], set_.lower[b])
    elif isinstance(set_, Sparse):
        for size in range(set_.count + 1):
            for places in itertools.combinations(range(6), size):
                for ends in itertools.product([set_.low[b], set_.high[b]], repeat=size):
                    x = set_.centre[b].flatten().clone()
                    for place, end in zip(places, ends, strict=True):
                        x[place] = end.flatten()[place]
                    yield x.reshape(SHAPE[1:])
    elif isinstance(set_, Zonotope):
        for signs in itertools.product([-1.0, 1.0], repeat=4):
            yield set_.centre[b] + torch.einsum("k,kij->ij", numbers(1) * 0 + torch.tensor(signs), set_.generators[b])
    else:  # the L1 ball
        for place, sign in itertools.product(range(6), [-1, 1]):
            x = set_.centre[b].flatten().clone()
            x[place] += sign * set_.radius[b]
            yield x.reshape(SHAPE[1:])


def test_hoelder_at_known_values():
    x, w = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([[[3.0, 4.0]]], dtype=torch.float64)
    assert float(ball(x, 2.0, 2).minimum(w)) == pytest.approx(-10)
    assert float(ball(x, 2.0, 1).minimum(w)) == pytest.approx(-8)
    assert float(linf(x, 2.0).minimum(w)) == pytest.approx(-14)
    assert float(ball(x, 1.0, 3).minimum(w)) == pytest.approx(-((3**1.5 + 4**1.5) ** (2 / 3)))


@pytest.mark.parametrize("p", [1.0001, 1.01, 1.05, 20.0, 1e6])
@pytest.mark.parametrize("scale", [1e-6, 0.01, 1e4])
def test_powers_neither_vanish_nor_overflow(p, scale):
    """With all weights equal the extreme is n^(1 - 1/p) weights away; float32 has no 0.01^101."""
    set_ = ball(torch.zeros(1, 4), 1.0, p)
    weight = torch.full((1, 1, 4), scale, requires_grad=True)
    least = set_.minimum(weight)
    assert least.item() == pytest.approx(-scale * 4 ** (1 - 1 / p), rel=1e-4)
    least.sum().backward()
    torch.testing.assert_close(weight.grad, torch.full((1, 1, 4), -(4 ** (-1 / p))), rtol=1e-3, atol=0)
    points = set_.sample(200, torch.Generator().manual_seed(0))
    assert (points.abs().amax(2) <= 1 + 1e-6).all()  # such a ball lies in the unit box
    assert ((set_.minimiser(weight) * weight).sum() <= least + 1e-3 * scale).all()


# -- word substitution ---------------------------------------------------------------------------------------------


def dynamic_program(there, best, budget):
    """Xu et al. (arXiv:2002.12920), section 3.2: g[i][j] is the least sum over i positions with j words replaced."""
    least = [[0.0] + [float("inf")] * budget]
    for stay, change in zip(there, best, strict=True):
        previous, row = least[-1], []
        for j in range(budget + 1):
            row.append(min(previous[j] + stay, previous[j - 1] + change if j else float("inf")))
        least.append(row)
    return min(least[-1])


@pytest.mark.parametrize("budget", [0, 1, 2, 5, 9])
def test_words_are_the_dynamic_program(budget):
    generator = torch.Generator().manual_seed(budget)
    embedding = numbers(20, 4, seed=budget)
    synonyms = {w: torch.randint(20, (w % 4,), generator=generator).tolist() for w in range(20)}
    tokens = torch.randint(20, (3, 7), generator=generator)
    set_ = words(tokens, embedding, synonyms, budget)
    weight = numbers(3, 5, 7, 4, seed=20)
    for b, r in itertools.product(range(3), range(5)):
        there = [float(weight[b, r, t] @ embedding[tokens[b, t]]) for t in range(7)]
        best = [
            min((float(weight[b, r, t] @ embedding[s]) for s in synonyms[int(tokens[b, t])]), default=float("inf"))
            for t in range(7)
        ]
        expected = dynamic_program(there, best, budget)
        assert float(set_.minimum(weight)[b, r]) == pytest.approx(expected, abs=1e-12)


def test_words_against_every_sentence():
    set_, weight = make("words"), numbers(2, ROWS, 3, 2, seed=14)
    assert isinstance(set_, Words)
    for b in range(2):
        options = [
            [set_.centre[b, t], *(c for c, p in zip(set_.candidates[b, t], set_.present[b, t], strict=True) if p)]
            for t in range(3)
        ]
        sentences = [
            torch.stack([options[t][k] for t, k in enumerate(pick)])
            for pick in itertools.product(*(range(len(o)) for o in options))
            if sum(k > 0 for k in pick) <= set_.budget
        ]
        assert len(sentences) == (1 + 2 + 3 + 1 + 2 * 3 + 2 * 1 + 3 * 1 if b == 0 else 1 + 3 + 3 + 9)
        brute = torch.stack([(weight[b] * s).flatten(1).sum(1) for s in sentences]).amin(0)
        torch.testing.assert_close(set_.minimum(weight)[b], brute)


def test_words_carry_gradients_to_the_embedding():
    embedding = numbers(8, 2, seed=6).requires_grad_()
    weight = numbers(2, ROWS, 3, 2, seed=15)

    def minimum(embedding):
        return words(torch.tensor([[0, 3, 1], [7, 3, 3]]), embedding, SYNONYMS, 2).minimum(weight)

    assert torch.autograd.gradcheck(minimum, (embedding,), atol=1e-6)


def test_words_without_synonyms_do_not_vary():
    set_ = words(torch.tensor([[0, 1]]), numbers(2, 3), {}, 4)
    assert torch.equal(set_.box().lower, set_.box().upper)
    assert torch.equal(set_.sample(3), set_.centre.expand(3, 1, 2, 3))


def test_members_are_only_looked_for_where_there_is_a_choice():
    """Six words of sixty have a synonym: 64 sentences, not the 50 million choices of six places."""
    tokens = torch.zeros(1, 60, dtype=torch.int64)
    tokens[0, ::10] = 1
    set_ = words(tokens, numbers(3, 1), {1: [2]}, 6)
    assert set_.members(64).shape == (64, 60, 1) and set_.members(63) is None


# -- constraints ---------------------------------------------------------------------------------------------------


def test_constraints_in_the_plane_against_vertices():
    """The unit square cut by x + y <= 1.5 and x - y <= 0.5 has vertices that one can write down."""
    zero = torch.zeros(1, 2, dtype=torch.float64)
    matrix = torch.tensor([[[1.0, 1.0], [1.0, -1.0]]], dtype=torch.float64)
    set_ = ConstrainedBox(zero, zero + 1, matrix, torch.tensor([[1.5, 0.5]], dtype=torch.float64))
    vertices = torch.tensor([[0, 0], [0.5, 0], [1, 0.5], [0.5, 1], [0, 1]], dtype=torch.float64)
    weight = numbers(1, 50, 2, seed=16)
    torch.testing.assert_close(set_.minimum(weight)[0], (weight[0] @ vertices.T).amin(1), atol=1e-9, rtol=0)


@pytest.mark.parametrize("scale", [1e-12, 1e15, 1e25])
def test_constraints_under_small_and_large_weights(scale):
    """Tolerances of the linear program are absolute; its weights need not be of order 1."""
    set_, weight = make("constrained"), numbers(2, ROWS, *SHAPE[1:], seed=18)
    torch.testing.assert_close(set_.minimum(scale * weight), scale * set_.minimum(weight), rtol=1e-7, atol=0)


def test_constraints_that_contradict_are_refused():
    zero = torch.zeros(1, 2, dtype=torch.float64)
    set_ = ConstrainedBox(zero, zero + 1, zero.unsqueeze(1) + 1, torch.tensor([[-1.0]], dtype=torch.float64))
    with pytest.raises(EmptySet, match="no point"):
        set_.box()


# -- several inputs ------------------------------------------------------------------------------------------------


def test_a_region_is_a_product():
    first, second = make("l2"), make("words").example(0)  # the second one is shared by both examples
    region, weight = Region((first, second)), numbers(2, ROWS, 12, seed=17)
    expected = first.minimum(weight[:, :, :6].reshape(2, ROWS, 3, 2))
    expected = expected + torch.stack(
        [second.minimum(weight[b : b + 1, :, 6:].reshape(1, ROWS, 3, 2))[0] for b in range(2)]
    )
    torch.testing.assert_close(region.minimum(weight), expected)
    torch.testing.assert_close((weight * region.minimiser(weight)).sum(2), expected)
    assert region.sample(5).shape == (5, 2, 12)
    assert not region.is_box and Region((exact(numbers(2, 3)), make("box"))).is_box


# -- errors --------------------------------------------------------------------------------------------------------


def test_bad_sets_are_refused():
    x = numbers(2, 3)
    with pytest.raises(EmptySet):
        Box(x + 1, x)
    with pytest.raises(ValueError, match="shapes"):
        Box(x, x[:1])
    with pytest.raises(ValueError, match="order"):
        ball(x, 1.0, 0.5)
    with pytest.raises(ValueError, match="negative"):
        ball(x, -1.0)
    with pytest.raises(ValueError, match="cannot change"):
        l0(x, -1, 0, 1)
    with pytest.raises(ValueError, match="largest"):
        l0(x, 1, 1, 0)
    with pytest.raises(ValueError, match="generators"):
        Zonotope(x, x)
    with pytest.raises(ValueError, match="budget"):
        words(torch.zeros(1, 2, dtype=torch.int64), x, {}, -1)
    with pytest.raises(ValueError, match="vocabulary"):
        words(torch.zeros(1, 2, dtype=torch.int64), x, {0: [7]}, 1)
    for word in (-1, 2):
        with pytest.raises(ValueError, match="outside the vocabulary of 2 words"):
            words(torch.tensor([[0, word]]), x, {0: [1]}, 1)
    with pytest.raises(ValueError, match="examples"):
        Region((exact(x), exact(numbers(3, 2))))


def test_numbers_that_are_not_finite_are_refused():
    x, missing = numbers(2, 3), torch.full((2, 3), torch.nan, dtype=torch.float64)
    for make_set in (
        lambda: linf(missing, 0.1),
        lambda: linf(x, torch.inf),
        lambda: Box(x, x + torch.inf),
        lambda: ball(x, float("nan")),
        lambda: ball(missing, 1.0),
        lambda: l0(x, 1, float("nan"), 1.0),
        lambda: Zonotope(x, missing.unsqueeze(1)),
        lambda: ConstrainedBox(x, x + 1, x.unsqueeze(1), torch.full((2, 1), torch.inf)),
    ):
        with pytest.raises(ValueError, match="not finite"):
            make_set()


def test_radii_and_ranges_that_make_no_sense_are_refused():
    x = numbers(2, 3)
    with pytest.raises(ValueError, match="negative radius"):
        linf(x, -0.1, 0, 1)
    with pytest.raises(ValueError, match="above the largest"):
        linf(x, 0.1, 1, 0)
    with pytest.raises(ValueError, match=r"shape \(5,\) does not broadcast"):
        linf(x, torch.rand(5))
    with pytest.raises(ValueError, match="does not broadcast"):
        ball(x, torch.rand(3))
    with pytest.raises(ValueError, match="floating point"):
        linf(torch.tensor([[1, 2]]), 0.5)  # the radius would be 0
