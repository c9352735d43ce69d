"""An LSTM over a whole sequence without a graph: its states, and cotangents pulled back by hand.

Autograd would keep a node for every operation of every step, and pull cotangents back to the
parameters' side as well: inner steps ask for the code's side alone.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

#: Of all steps, for N sequences: what else than h goes into the gates, and the states after them.
Gates = Float[Tensor, "T N G"]
States = Float[Tensor, "T N H"]


class Trace(NamedTuple):
    """What the derivatives of the steps c' = f c + i u, h' = o tanh(c') are made of.

    Attributes:
        recurrent: U, of gates a + U h in the order i, f, o, u.
        opened: σ of the gates i, f and o.
        moved: u.
        memory: c before each step.
        shown: tanh(c').
        states: h'.
    """

    recurrent: Float[Tensor, "G H"]
    opened: Float[Tensor, "T N K"]
    moved: States
    memory: States
    shown: States
    states: States

    @torch.no_grad()
    def pull_back(self, cotangent: States) -> tuple[Float[Tensor, "N G"], Float[Tensor, "N H"]]:
        """From the states to a, summed over the steps, and to the first h."""
        hidden, sigmoid_backward = self.moved.shape[-1], torch.ops.aten.sigmoid_backward
        tanh_backward = torch.ops.aten.tanh_backward
        gates = torch.empty_like(self.opened[0], memory_format=torch.contiguous_format)
        pulled = gates.new_empty(len(gates), 4 * hidden)
        total, of_h, of_c = torch.zeros_like(pulled), None, None
        for t in range(len(self.states) - 1, -1, -1):
            i, f, o = self.opened[t].chunk(3, dim=-1)
            of_state = cotangent[t] if of_h is None else cotangent[t] + of_h
            through = tanh_backward(of_state * o, self.shown[t])
            of_c = through if of_c is None else through.add_(of_c)
            torch.mul(of_c, self.moved[t], out=gates[:, :hidden])
            torch.mul(of_c, self.memory[t], out=gates[:, hidden : 2 * hidden])
            torch.mul(of_state, self.shown[t], out=gates[:, 2 * hidden :])
            pulled[:, : 3 * hidden] = sigmoid_backward(gates, self.opened[t])
            pulled[:, 3 * hidden :] = tanh_backward(of_c * i, self.moved[t])
            total += pulled
            of_h, of_c = pulled @ self.recurrent, of_c * f
        assert of_h is not None
        return total, of_h


@torch.no_grad()
def trace(gates: Gates, h: Float[Tensor, "N H"], recurrent: Float[Tensor, "G H"]) -> Trace:
    """Take all steps from h, and a c of 0."""
    steps, hidden = len(gates), h.shape[-1]
    opened = h.new_empty(steps, len(h), 3 * hidden)
    moved, memory, shown, states = h.new_zeros(4, steps, len(h), hidden)
    transposed = recurrent.T
    for t in range(steps):
        a = torch.addmm(gates[t], h, transposed)
        torch.sigmoid(a[:, : 3 * hidden], out=opened[t])
        torch.tanh(a[:, 3 * hidden :], out=moved[t])
        i, f, o = opened[t].chunk(3, dim=-1)
        c = torch.addcmul(f * memory[t], i, moved[t])
        torch.tanh(c, out=shown[t])
        h = torch.mul(o, shown[t], out=states[t])
        if t + 1 < steps:
            memory[t + 1] = c
    return Trace(recurrent, opened, moved, memory, shown, states)
