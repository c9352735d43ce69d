"""The step size that inner solves begin with, learned in training."""

import math
from dataclasses import replace

import pytest
import torch
from linear_gaussian import linear_gaussian
from semi_amortized import infer, semi_amortized

from savi.errors import InputError

NATURAL = {"optimizer": "natural_gradient", "lr": 1.0, "adapt_lr": True, "max_steps": 4}


def alpha(inference) -> float:
    return float(inference.step_size.log_alpha.exp())


def test_it_falls_where_trials_are_turned_down_and_comes_back():
    problem, inference = linear_gaussian(), semi_amortized("diagonal_gaussian", "stop", **NATURAL)
    solution = infer(inference, problem).solution
    found = solution.state.log().quantile(0.75)
    inference.learn_from(solution)
    assert math.log(alpha(inference)) == pytest.approx(min(0.0, 0.1 * float(found)), rel=1e-5)
    with torch.no_grad():
        inference.step_size.log_alpha.fill_(math.log(1e-3))
    low = alpha(inference)
    for _ in range(5):
        inference.learn_from(infer(inference, problem).solution)
    assert alpha(inference) > low


def test_solves_begin_with_it():
    problem, inference = linear_gaussian(), semi_amortized("diagonal_gaussian", "stop", **NATURAL)
    with torch.no_grad():
        inference.step_size.log_alpha.fill_(math.log(1e-6))
    generator = torch.Generator().manual_seed(0)
    found = infer(inference, problem, max_steps=1, generator=generator)
    start = found.start
    expected = start.y - 1e-6 * inference.family.natural_gradient(start.y, start.gradient)
    torch.testing.assert_close(found.value, expected)


def test_it_is_never_more_than_lr():
    problem = linear_gaussian()
    inference = semi_amortized("diagonal_gaussian", "stop", **NATURAL | {"lr": 1e-4})
    for _ in range(3):
        inference.learn_from(infer(inference, problem).solution)
    assert alpha(inference) == pytest.approx(1e-4)


def test_examples_without_an_end_teach_nothing():
    problem = linear_gaussian()
    x = problem.x.clone()
    x[0] = torch.inf
    inference, others = (semi_amortized("diagonal_gaussian", "stop", **NATURAL) for _ in range(2))
    inference.step_size.log_alpha.fill_(-3.0)
    others.load_state_dict(inference.state_dict())
    noise = inference.draw_noise(x.new_empty(len(x), 3))
    solution = inference(problem.model, x, max_steps=4, noise=noise).solution
    inference.learn_from(solution)
    found = float(solution.state[1:].log().quantile(0.75)) + 3.0
    assert found != 0
    assert float(inference.step_size.log_alpha) == pytest.approx(-3.0 + 0.1 * found, rel=1e-5)
    every = replace(solution, state=torch.full_like(solution.state, torch.nan))
    before = alpha(inference)
    inference.learn_from(every)
    inference.learn_from(inference(problem.model, x[:0], max_steps=4).solution)
    assert alpha(inference) == before


def test_it_falls_to_a_floor_and_not_to_0():
    problem, inference = linear_gaussian(), semi_amortized("diagonal_gaussian", "stop", **NATURAL)
    solution = infer(inference, problem).solution
    for _ in range(200):
        inference.learn_from(replace(solution, state=torch.full_like(solution.state, 1e-300)))
    assert alpha(inference) == pytest.approx(2.0**-20)
    low = alpha(inference)
    for _ in range(3):
        inference.learn_from(infer(inference, problem).solution)
    assert alpha(inference) > low


def test_it_is_saved_with_the_weights():
    inference = semi_amortized("diagonal_gaussian", "stop", **NATURAL)
    with torch.no_grad():
        inference.step_size.log_alpha.fill_(-2.0)
    other = semi_amortized("diagonal_gaussian", "stop", **NATURAL)
    other.load_state_dict(inference.state_dict())
    assert alpha(other) == alpha(inference)
    assert not semi_amortized("diagonal_gaussian", "stop").state_dict().keys() & {
        "step_size.log_alpha"
    }


@pytest.mark.parametrize(
    ("inner", "words"),
    [
        ({"optimizer": "gd"}, "inner.optimizer=natural_gradient"),
        ({"max_steps": 0}, "inner.max_steps higher"),
        ({"max_steps": 1, "last_step": "trusted"}, "no step is judged"),
    ],
)
def test_it_is_refused_where_nothing_moves_it(inner, words):
    with pytest.raises(InputError, match=words):
        semi_amortized("diagonal_gaussian", "stop", **NATURAL | inner)
