"""What every gradient backend must do: one class that each of them inherits."""

import gc
import warnings
import weakref

import pytest
import torch
from benchmarks.live_bytes import LiveBytes
from inner_problems import (
    Nonlinear,
    Quadratic,
    for_optimizer,
    gradients,
    nonlinear_inputs,
    randn,
    slope,
    spd,
)

import savi
from savi.errors import InputError
from savi.gradients import (
    BACKENDS,
    Checkpointed,
    EncoderGradient,
    FiniteDifference,
    Implicit,
    ImplicitGradientWarning,
    OneStep,
    Reversible,
    StopGradient,
    Truncated,
    Unrolled,
)
from savi.inner import OPTIMIZERS, GradientDescent, LevenbergMarquardt, Momentum

NEWTON = {"optimizer": LevenbergMarquardt(), "max_steps": 60, "rtol": 1e-11}
DESCENT = {"optimizer": Momentum(0.2, 0.5), "max_steps": 300, "rtol": 3e-13}
FEW_STEPS = {"optimizer": GradientDescent(lr=0.2), "max_steps": 4, "rtol": 0.0}
MOMENTUM_STEPS = {"optimizer": Momentum(0.2, 0.9), "max_steps": 4, "rtol": 0.0}


def test_every_registered_backend_passes_the_conformance_tests():
    tested = {type(cls.backend) for cls in BackendConformance.__subclasses__()}
    assert tested == set(BACKENDS.values())


class BackendConformance:
    """``backend`` in float64.

    ``implicit_part`` says whether dλ*/dθ is carried at all, ``solved`` and ``few_steps`` how inner
    problems are solved, ``tolerance`` how exact the derivative is meant to be.
    """

    backend = None
    float32_backend = None
    implicit_part = True
    solved = NEWTON
    few_steps = FEW_STEPS
    tolerance = 1e-10
    #: Of the peak of live bytes, when K grows from 10 to 100.
    memory_growth = (0.95, 1.05)
    saved_grows = False

    def solve(self, objective, init, **options):
        return savi.minimize(objective, init, gradient=self.backend, **options)

    def check(self, result, expected, tolerance=None):
        """Compare, or demand 0 of a backend that carries no derivative."""
        tolerance = tolerance or self.tolerance
        expected = expected if self.implicit_part else torch.zeros_like(expected)
        torch.testing.assert_close(result, expected, rtol=tolerance, atol=tolerance)

    def test_quadratic_value_and_gradient_at_the_solution(self):
        hessian, c = spd(4, 3).requires_grad_(), randn(4, 3, seed=1).requires_grad_()
        init, w = randn(4, 3, seed=2).requires_grad_(), randn(4, 3, seed=3)
        problem = Quadratic(hessian, c)
        solution = self.solve(problem, init, **self.solved)
        assert (solution.status == savi.Status.CONVERGED).all()
        torch.testing.assert_close(solution.value, problem.minimiser, rtol=1e-10, atol=1e-10)
        by_hessian, by_c, by_init = gradients(solution.value, (hessian, c, init), w)
        u = torch.linalg.solve(hessian, w)
        self.check(by_c, u)
        outer = u.unsqueeze(-1) * problem.minimiser.unsqueeze(-2)
        self.check(0.5 * (by_hessian + by_hessian.mT), -0.5 * (outer + outer.mT))
        torch.testing.assert_close(by_init, torch.zeros_like(init), rtol=0, atol=1e-10)

    @pytest.mark.drawn
    def test_gradcheck_at_the_solution(self):
        mixing, c, init = nonlinear_inputs()
        if not self.implicit_part:
            assert not self.solve(Nonlinear(mixing, c), init, **self.solved).value.requires_grad
            return
        torch.autograd.gradcheck(
            lambda a, b, y: self.solve(Nonlinear(a, b), y, **self.solved).value,
            (mixing, c, init),
            atol=1e-7,
            rtol=1e-6,
        )

    def test_taylor_remainder_of_an_outer_loss(self):
        """φ(θ + hd) − φ(θ) − h gᵀd is O(h²): the direct and the implicit part together."""
        mixing, c, init = nonlinear_inputs()
        direction, w = randn(*mixing.shape, seed=7), randn(*init.shape, seed=8)

        def loss(a):
            # With the implicit part refused, the outer loss must be the inner one.
            value = self.solve(Nonlinear(a, c), init, **self.solved).value
            outer = Nonlinear(a, c)(value).sum()
            return outer + (w * value).sum() if self.implicit_part else outer

        start = loss(mixing)
        (g,) = torch.autograd.grad(start, mixing)
        sizes = [0.1 * 2.0**-i for i in range(6)]
        remainders = [
            (loss(mixing + h * direction) - start - h * (g * direction).sum()).abs().item()
            for h in sizes
        ]
        # Wrong is 1; where the second-order term happens to be small, it is more than 2.
        assert slope(sizes[2:], remainders[2:]) > 1.9

    @pytest.mark.parametrize("which", ["solved", "few_steps"])
    def test_examples_are_independent(self, which):
        """Alone and among neighbours: same value, status, steps and gradient."""
        options = getattr(self, which)
        hessian, c, init = spd(4, 3), randn(4, 3, seed=1), randn(4, 3, seed=2)
        hessian[1] *= 1e6  # diverges under a fixed step size
        c[2] = torch.nan
        init[3] = torch.inf
        w = randn(4, 3, seed=3)

        def run(rows):
            inputs = (hessian[rows], c[rows].requires_grad_(), init[rows].requires_grad_())
            inputs[0].requires_grad_()
            solution = self.solve(Quadratic(*inputs[:2]), inputs[2], **options)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return solution, gradients(solution.value, inputs, w[rows])

        together, together_grads = run([0, 1, 2, 3])
        for b in range(4):
            alone, alone_grads = run([b])
            for field in ("value", "status", "steps", "stationarity", "objective"):
                torch.testing.assert_close(
                    getattr(alone, field)[0], getattr(together, field)[b], equal_nan=True
                )
            if b < 2:  # no derivative exists where J is not finite at the start
                for one, all_ in zip(alone_grads, together_grads, strict=True):
                    torch.testing.assert_close(one[0], all_[b])
        assert together.value[0].isfinite().all()
        assert all(g[0].isfinite().all() and g[1].isfinite().all() for g in together_grads)

    def test_tiny_float32_cotangents(self):
        c = randn(3, 4, seed=1, dtype=torch.float32).requires_grad_()
        problem = Quadratic(spd(3, 4).float(), c)
        solution = savi.minimize(
            problem,
            torch.zeros(3, 4),
            gradient=self.float32_backend,
            **{**self.solved, "rtol": 1e-5},
        )
        w = randn(3, 4, seed=3, dtype=torch.float32)
        (g,) = gradients(solution.value, (c,), 1e-30 * w)
        self.check(g * 1e30, torch.linalg.solve(problem.hessian, w), tolerance=1e-3)

    def test_zero_cotangent_gives_zero_gradient(self):
        inputs = nonlinear_inputs()
        solution = self.solve(Nonlinear(*inputs[:2]), inputs[2], **self.solved)
        for g in gradients(solution.value, inputs, torch.zeros_like(solution.value)):
            assert (g == 0).all()

    @pytest.mark.parametrize("power", [1, 2])
    def test_second_derivative_is_right_or_refused(self, power):
        """A linear loss too, where the cotangent is a constant that hides the dependence."""
        theta = torch.tensor([1.3, 2.0], dtype=torch.float64, requires_grad=True)
        init = torch.full((2, 1), 0.4, dtype=torch.float64)
        if not self.implicit_part:
            pytest.skip("nothing to differentiate")

        def loss(t):
            solution = self.solve(
                lambda y: (t[0].exp() * y.square() + t[1] * y.cos()).sum(-1), init, **self.solved
            )
            return (solution.value**power).sum() + t[0].sin()

        if self.backend.second_derivatives == "right":
            torch.autograd.gradgradcheck(loss, (theta,))
            return
        (g,) = torch.autograd.grad(loss(theta), theta, create_graph=True)
        with pytest.raises(RuntimeError, match="no second derivative"):
            torch.autograd.grad(g.sum(), theta)
        (g,) = torch.autograd.grad(loss(theta), theta, create_graph=True)
        with pytest.raises(RuntimeError, match="no second derivative"):
            g.sum().backward()

    def test_repeated_backward_gives_the_same(self):
        inputs = nonlinear_inputs()
        value = self.solve(Nonlinear(*inputs[:2]), inputs[2], **self.solved).value
        if not self.implicit_part:
            assert not value.requires_grad
            return
        first = torch.autograd.grad(value.sum(), inputs[:2], retain_graph=True)
        torch.testing.assert_close(first, torch.autograd.grad(value.sum(), inputs[:2]))

    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
    def test_without_gradients(self, mode):
        inputs = nonlinear_inputs()
        expected = self.solve(Nonlinear(*inputs[:2]), inputs[2], **self.solved).value.detach()
        with mode():
            start, c = inputs[2] * 1.0, inputs[1] * 1.0
            value = self.solve(Nonlinear(inputs[0], c), start, **self.solved).value
            assert not value.requires_grad
            torch.testing.assert_close(value, expected)
            torch.testing.assert_close(value + 1.0, expected + 1.0)

    def test_autocast_leaves_the_solve_in_float32(self):
        mixing, c, init = (t.detach().float() for t in nonlinear_inputs())
        c.requires_grad_()
        solve = {"gradient": self.float32_backend, **self.solved, "rtol": 1e-5}
        plain = savi.minimize(Nonlinear(mixing, c), init, **solve).value
        with torch.autocast("cpu", torch.bfloat16):
            encoded = torch.nn.functional.linear(init, torch.eye(2))
            assert encoded.dtype == torch.bfloat16
            value = savi.minimize(Nonlinear(mixing, c), init, **solve).value
            from_half = savi.minimize(Nonlinear(mixing, c), encoded, **solve).value
        assert from_half.dtype == torch.float32
        torch.testing.assert_close(value, plain, rtol=0, atol=0)
        torch.testing.assert_close(from_half, plain, rtol=1e-4, atol=1e-4)
        (under_autocast,) = gradients(value, (c,), torch.ones_like(value))
        (expected,) = gradients(plain, (c,), torch.ones_like(plain))
        torch.testing.assert_close(under_autocast, expected, rtol=0, atol=0)

    def test_half_precision_start_keeps_its_gradient(self):
        init = torch.ones(2, 3, dtype=torch.bfloat16, requires_grad=True)
        solution = self.solve(
            lambda y: y.square().sum(-1), init, **{**self.few_steps, "max_steps": 1}
        )
        assert solution.value.dtype == torch.float32
        if self.backend.encoder_gradient is EncoderGradient.EXACT:
            solution.value.sum().backward()
            torch.testing.assert_close(
                init.grad.float(), torch.full((2, 3), 0.6), rtol=1e-2, atol=0
            )

    def test_no_steps_returns_the_start(self):
        mixing, c, init = nonlinear_inputs()
        options = {**self.few_steps, "max_steps": 0}
        solution = self.solve(Nonlinear(mixing, c), init, **options)
        torch.testing.assert_close(solution.value, init)
        assert solution.value.data_ptr() != init.data_ptr()
        assert (solution.status == savi.Status.MAX_STEPS).all()
        assert (solution.steps == 0).all()
        assert (solution.stationarity == 1).all()

    @pytest.mark.parametrize(("batch", "size"), [(0, 3), (1, 1), (2, 1)])
    def test_small_shapes(self, batch, size):
        hessian, c = spd(batch, size), randn(batch, size, seed=1).requires_grad_()
        init = randn(batch, size, seed=2)
        solution = self.solve(Quadratic(hessian, c), init, **self.solved)
        assert solution.value.shape == (batch, size)
        w = randn(batch, size, seed=3)
        self.check(gradients(solution.value, (c,), w)[0], torch.linalg.solve(hessian, w))

    def test_objective_that_uses_no_parameter_or_no_variable(self):
        theta = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
        init = randn(2, 3, seed=0)
        constant = self.solve(lambda y: theta.expand(len(y)), init, **self.solved)
        torch.testing.assert_close(constant.value, init)
        assert (constant.status == savi.Status.CONVERGED).all()
        assert gradients(constant.value, (theta,), torch.ones_like(init))[0] == 0
        free = self.solve(lambda y: y.square().sum(-1), init, **self.solved)
        torch.testing.assert_close(free.value, torch.zeros_like(init), rtol=0, atol=1e-9)
        assert gradients(free.value, (theta,), torch.ones_like(init))[0] == 0

    def test_objective_that_depends_on_the_start(self):
        """∇J is the derivative through y alone, although J closes over the same tensor."""
        init = torch.ones(2, 1, dtype=torch.float64, requires_grad=True)

        def solve(create):
            start = init if create else init.detach()
            options = {**self.few_steps, "max_steps": 2}
            return self.solve(
                lambda y: 0.5 * (y - 3.0 * start).square().sum(-1), start, **options
            ).value

        first = 1.0 + 0.2 * 2.0
        momentum = self.few_steps["optimizer"].momentum
        expected = first + 0.2 * (3.0 - first) + momentum * (first - 1.0)
        torch.testing.assert_close(solve(True), torch.full_like(init, expected))
        torch.testing.assert_close(solve(True), solve(False))

    def test_a_solve_alone_accumulates_no_gradient(self):
        inputs = nonlinear_inputs()
        self.solve(Nonlinear(*inputs[:2]), inputs[2], **self.solved)
        assert all(tensor.grad is None for tensor in inputs)

    def test_tensors_saved_for_the_backward(self):
        def saved(steps):
            mixing, c, init = nonlinear_inputs()
            alive = weakref.WeakSet()

            def pack(tensor):
                alive.add(kept := Kept(tensor))
                return kept

            with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.tensor):
                options = {**self.few_steps, "max_steps": steps}
                solution = self.solve(Nonlinear(mixing, c), init, **options)
            assert (solution.steps == steps).all()
            return sum(kept.tensor.nbytes for kept in alive)

        few, many = saved(10), saved(100)
        assert many > 5 * few if self.saved_grows else many == few

    def test_peak_memory(self):
        """Of a problem whose activations outweigh its iterates, as those of a decoder do."""
        mixing = randn(400, 2, seed=0).div(20.0).requires_grad_()
        c, init = randn(8, 2, seed=1), randn(8, 2, seed=2).requires_grad_()

        def peak(steps):
            with LiveBytes() as memory:
                value = self.solve(
                    Nonlinear(mixing, c), init, **{**self.few_steps, "max_steps": steps}
                ).value
                gradients(value, (mixing, init), torch.ones_like(value))
            return memory.peak

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ImplicitGradientWarning)
            few, many = peak(10), peak(100)
        low, high = self.memory_growth
        assert low <= many / few <= high

    def test_repeated_solves_leak_no_tensor(self):
        inputs = nonlinear_inputs()

        def once():
            value = self.solve(Nonlinear(*inputs[:2]), inputs[2], **self.few_steps).value
            gradients(value, inputs, torch.ones_like(value))

        def alive():
            return sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects())

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            once()
            gc.collect()
            gc.disable()  # reference counting alone must free everything: no cycles
            try:
                before = alive()
                for _ in range(5):
                    once()
                assert alive() == before
            finally:
                gc.enable()


class Kept:
    """A tensor that a graph keeps for its backward, alive as long as the graph."""

    def __init__(self, tensor):
        self.tensor = tensor


class TestUnrolled(BackendConformance):
    backend = Unrolled()
    float32_backend = Unrolled()
    memory_growth = (6.0, 10.0)
    saved_grows = True


class TestCheckpointed(BackendConformance):
    backend = Checkpointed()
    float32_backend = Checkpointed()
    memory_growth = (2.0, 10.0**0.5)


class TestCheckpointedEveryStep(BackendConformance):
    backend = Checkpointed("step")
    float32_backend = Checkpointed("step")
    memory_growth = (0.95, 1.3)  # the iterates


class TestReversible(BackendConformance):
    backend = Reversible()
    float32_backend = Reversible()
    solved = DESCENT
    few_steps = MOMENTUM_STEPS


class TestFiniteDifference(BackendConformance):
    backend = FiniteDifference()
    float32_backend = FiniteDifference()
    solved = DESCENT
    tolerance = 1e-7
    memory_growth = (0.95, 1.3)  # the iterates


class TestTruncated(BackendConformance):
    """A few Newton steps at the solution are as good as all."""

    backend = Truncated(4)
    float32_backend = Truncated(4)


class TestTruncatedNowhere(BackendConformance):
    backend = Truncated(1000)
    float32_backend = Truncated(1000)
    memory_growth = (6.0, 10.0)
    saved_grows = True


class TestOneNewtonStep(BackendConformance):
    backend = OneStep()
    float32_backend = OneStep()


class TestImplicitCholesky(BackendConformance):
    backend = Implicit()
    float32_backend = Implicit()
    memory_growth = (0.7, 1.05)  # a point that is not quite the solution is looked at from another


class TestImplicitConjugateGradients(BackendConformance):
    backend = Implicit(solver="cg", rtol=1e-13, max_steps=20)
    float32_backend = Implicit(solver="cg")
    memory_growth = (0.7, 1.05)


class TestStopGradient(BackendConformance):
    backend = StopGradient()
    float32_backend = StopGradient()
    implicit_part = False


def test_unknown_backend_lists_the_known_ones():
    known = "checkpointed, finite_difference, ift, one_step, reversible, stop, truncated, unrolled"
    with pytest.raises(InputError, match=f"choose one of {known}"):
        BACKENDS["nope"]


@pytest.mark.parametrize(
    "optimizer",
    [cls(momentum=0.5) if cls is GradientDescent else cls() for cls in OPTIMIZERS.values()],
    ids=list(OPTIMIZERS),
)
@pytest.mark.parametrize("backend", [cls() for cls in BACKENDS.values()], ids=list(BACKENDS))
def test_backends_work_with_the_optimisers_that_they_declare(backend, optimizer):
    mixing, c, init = nonlinear_inputs()
    problem = for_optimizer(Nonlinear(mixing, c), optimizer)
    options = {"optimizer": optimizer, "gradient": backend, "max_steps": 2}
    if backend.differentiates(type(optimizer)):
        assert savi.minimize(problem, init, **options).value.shape == init.shape
        return
    known = [kind.__name__ for kind in OPTIMIZERS.values() if backend.differentiates(kind)]
    assert known
    with pytest.raises(InputError, match=rf"so give optimizer={known[0]}\(\)"):
        savi.minimize(problem, init, **options)
