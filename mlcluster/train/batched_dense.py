"""Several small nets trained in lockstep as one batched model.

A step of a small net is mostly Python and kernel launches: with width 32 and 64 rows the arithmetic is a tenth of it.
Stacked weights (K members by inputs by outputs) pay for that once a step instead of once a member. Members keep their
own row order, dropout stream, learning rate, weight decay, batch size, depth and width: narrower ones are padded with
zeros, which stay zero under ReLU, AdamW and weight decay; shorter batches with rows of weight zero; and shallower ones
go from their last hidden layer straight to the output. So each member trains as it would alone, to rounding; over many
epochs of a wide net AdamW magnifies a rounding, here as between one machine and the next.

Backward is written out: autograd would take as long again as the arithmetic, and would not train some members only.
Shape suffixes: K members, B rows of a batch, D inputs, S steps, P parameters of a padded net.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

if TYPE_CHECKING:  # which builds batches of its learners
    from mlcluster.train.dense import DenseLearner

_STEPS_AT_ONCE = 64
"""Steps whose row indices are laid out together: enough to hide the cost of it, and little memory."""
_ROWS_AT_ONCE = 4096
"""Rows that are scored together, so that activations stay in the cache."""


class DenseBatch:
    """Learners of one family and one table, trained together; each is its own again after `release`."""

    def __init__(self, learners: Sequence[DenseLearner]) -> None:
        self._learners = tuple(learners)
        # Deepest first: at each layer, the members that have it come first.
        by_depth = sorted(range(len(learners)), key=lambda index: -len(learners[index].layers))
        self._places = [by_depth.index(index) for index in range(len(learners))]
        self._nets = _StackedNets([learners[index] for index in by_depth])

    def advance(self) -> None:
        """Trains each member by one epoch."""
        self._nets.train_epoch()

    def scores(self, features: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float64]]:
        """What `Learner.scores` gives for each member, to float32 rounding."""
        outputs = self._nets.outputs(torch.from_numpy(np.require(features, requirements=["C", "W"])))
        return [
            learner.answers(outputs[place].astype(np.float64))
            for learner, place in zip(self._learners, self._places, strict=True)
        ]

    def release(self) -> None:
        """Hands each learner its weights, moments and units back."""
        self._nets.unstack()


@dataclass(frozen=True, slots=True)
class _Layer:
    """One layer of the padded nets, as views of flat parameters: weight (K, inputs, outputs), bias (K, 1, outputs)."""

    weight: torch.Tensor
    bias: torch.Tensor


@dataclass(frozen=True, slots=True)
class _Block:
    """Members and their training state for some steps in a row: parameters, both moments and gradients (K, P)."""

    members: list[int]
    parameters: torch.Tensor
    averages: torch.Tensor
    squares: torch.Tensor
    gradients: torch.Tensor


class _StackedNets:
    """The members' weights, one above the other, deepest member first."""

    def __init__(self, learners: Sequence[DenseLearner]) -> None:
        self._learners = learners
        self._features, self._targets = learners[0].features, learners[0].targets
        self._is_regression = self._targets.dtype != torch.int64
        self._depths = [len(learner.layers) - 1 for learner in learners]
        inputs, outputs = learners[0].layers[0].in_features, learners[0].layers[-1].out_features
        width = max(learner.layers[0].out_features for learner in learners)
        self._fans = [inputs, *[width] * self._depths[0], outputs]
        num_parameters = sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(self._fans))
        self._all = _Block(list(range(len(learners))), *torch.zeros(4, len(learners), num_parameters))
        self._num_steps = [0] * len(learners)
        groups = [learner.optimizer.param_groups[0] for learner in learners]
        self._rate = torch.tensor([group["lr"] for group in groups], dtype=torch.float64).view(-1, 1)
        decay = torch.tensor([group["weight_decay"] for group in groups], dtype=torch.float64).view(-1, 1)
        self._shrink = (1 - self._rate * decay).float()
        (self._beta1, self._beta2), self._epsilon = groups[0]["betas"], groups[0]["eps"]
        self._stack()

    def _stack(self) -> None:
        for member, learner in enumerate(self._learners):
            for parameter, flats in self._pairs(member):
                state = learner.optimizer.state.get(parameter)
                flats[0].copy_(parameter.detach())
                if state:
                    flats[1].copy_(state["exp_avg"])
                    flats[2].copy_(state["exp_avg_sq"])
                    self._num_steps[member] = int(state["step"])

    def unstack(self) -> None:
        """Copies all that training has changed back into the learners."""
        for member, learner in enumerate(self._learners):
            for parameter, flats in self._pairs(member):
                with torch.no_grad():
                    parameter.copy_(flats[0])
                learner.optimizer.state[parameter] = {
                    "step": torch.tensor(float(self._num_steps[member])),
                    "exp_avg": flats[1].clone(memory_format=torch.contiguous_format),
                    "exp_avg_sq": flats[2].clone(memory_format=torch.contiguous_format),
                }

    def _pairs(self, member: int) -> Iterator[tuple[torch.Tensor, list[torch.Tensor]]]:
        """Each parameter of a learner, with its place among the stacked parameters and moments."""
        stacked = [self._views(flat) for flat in (self._all.parameters, self._all.averages, self._all.squares)]
        layers = self._learners[member].layers
        for index, layer in enumerate(layers):
            slot = -1 if index == len(layers) - 1 else index
            fan_out, fan_in = layer.weight.shape
            yield layer.weight, [views[slot].weight[member, :fan_in, :fan_out].T for views in stacked]
            yield layer.bias, [views[slot].bias[member, 0, :fan_out] for views in stacked]

    def _views(self, flat: torch.Tensor) -> list[_Layer]:
        layers, start = [], 0
        for fan_in, fan_out in pairwise(self._fans):
            middle, end = start + fan_in * fan_out, start + (fan_in + 1) * fan_out
            weight = flat[:, start:middle].view(-1, fan_in, fan_out)
            layers.append(_Layer(weight, flat[:, middle:end].view(-1, 1, fan_out)))
            start = end
        return layers

    @torch.no_grad()
    def train_epoch(self) -> None:
        """One epoch of each member. Who has fewer steps in it leaves early, so there are phases of ever fewer."""
        orders = [learner.begin_epoch() for learner in self._learners]
        num_steps = [-(-len(self._targets) // learner.batch_size) for learner in self._learners]
        for start, stop in pairwise(sorted({0, *num_steps})):
            block = self._block([member for member, steps in enumerate(num_steps) if steps > start])
            for first in range(start, stop, _STEPS_AT_ONCE):
                self._train_steps(block, orders, range(first, min(stop, first + _STEPS_AT_ONCE)))
            self._put_back(block)
        for learner in self._learners:
            learner.units += 1

    def _block(self, members: list[int]) -> _Block:
        if len(members) == len(self._learners):
            return self._all
        whole = self._all
        flats = (whole.parameters[members], whole.averages[members], whole.squares[members])
        return _Block(members, *flats, torch.zeros_like(flats[0]))

    def _put_back(self, block: _Block) -> None:
        if block is not self._all:
            self._all.parameters[block.members] = block.parameters
            self._all.averages[block.members] = block.averages
            self._all.squares[block.members] = block.squares

    def _train_steps(self, block: _Block, orders: Sequence[torch.Tensor], steps: range) -> None:
        rows_SKB, sizes_SK = self._rows(block, orders, steps)
        before = torch.tensor([self._num_steps[member] for member in block.members], dtype=torch.float64)
        counts_SK1 = (before + torch.arange(1, len(steps) + 1).view(-1, 1)).unsqueeze(-1)
        rates_SK1 = (self._rate[block.members] / (1 - self._beta1**counts_SK1)).float()
        corrections_SK1 = (1 - self._beta2**counts_SK1).sqrt().float()
        depths = [self._depths[member] for member in block.members]
        nets = _Pass(self._views(block.parameters), self._views(block.gradients), depths)
        dropout = _Dropout([self._learners[member] for member in block.members])
        shrink = self._shrink[block.members]
        for step in range(len(steps)):
            dropout.sizes = sizes_SK[step].tolist()
            rows_KB = rows_SKB[step, :, : max(dropout.sizes)]
            inputs_KBD = self._features.index_select(0, rows_KB.reshape(-1)).view(*rows_KB.shape, -1)
            outputs = nets.outputs(inputs_KBD, dropout)
            nets.backward(self._loss_gradient(outputs, self._targets[rows_KB], sizes_SK[step]), dropout)
            self._step(block, shrink, rates_SK1[step], corrections_SK1[step])
        for member in block.members:
            self._num_steps[member] += len(steps)

    def _rows(self, block: _Block, orders: Sequence[torch.Tensor], steps: range) -> tuple[torch.Tensor, torch.Tensor]:
        """Row indices (S, K, B), padded with zeros, and how many of them count (S, K)."""
        batch_sizes = [min(self._learners[member].batch_size, len(self._targets)) for member in block.members]
        rows_SKB = torch.zeros(len(steps), len(batch_sizes), max(batch_sizes), dtype=torch.int64)
        for place, (member, size) in enumerate(zip(block.members, batch_sizes, strict=True)):
            taken = orders[member][steps.start * size : steps.stop * size]
            whole = len(taken) // size
            rows_SKB[:whole, place, :size] = taken[: whole * size].view(whole, size)
            rows_SKB[whole:, place, : len(taken) - whole * size] = taken[whole * size :]
        firsts_SK = torch.arange(steps.start, steps.stop).view(-1, 1) * torch.tensor(batch_sizes)
        return rows_SKB, torch.minimum(len(self._targets) - firsts_SK, torch.tensor(batch_sizes))

    def _loss_gradient(self, outputs: torch.Tensor, targets_KB: torch.Tensor, sizes_K: torch.Tensor) -> torch.Tensor:
        """Of each member's mean loss over its own rows, by its outputs; zero at padded rows."""
        size_K1 = sizes_K.view(-1, 1)
        weights = ((torch.arange(outputs.shape[1]) < size_K1) / size_K1).unsqueeze(-1)
        if self._is_regression:
            return (outputs - targets_KB.unsqueeze(-1)).mul_(2 * weights)
        shares = torch.softmax(outputs, dim=-1)
        shares.scatter_add_(-1, targets_KB.unsqueeze(-1), torch.full_like(shares[..., :1], -1.0))
        return shares.mul_(weights)

    def _step(self, block: _Block, shrink: torch.Tensor, rate: torch.Tensor, correction: torch.Tensor) -> None:
        """AdamW (Loshchilov and Hutter 2019, algorithm 2) on all members, in the order of torch's own."""
        block.parameters.mul_(shrink)
        block.averages.lerp_(block.gradients, 1 - self._beta1)
        block.squares.mul_(self._beta2).addcmul_(block.gradients, block.gradients, value=1 - self._beta2)
        scale = block.squares.sqrt().div_(correction).add_(self._epsilon)
        block.parameters.addcmul_(block.averages / scale, rate, value=-1)

    @torch.no_grad()
    def outputs(self, features: torch.Tensor) -> npt.NDArray[np.float32]:
        """(K, n, outputs) for features (n, D), without dropout."""
        nets = _Pass(self._views(self._all.parameters), [], self._depths)
        num_members = len(self._learners)
        parts = [nets.outputs(part.expand(num_members, -1, -1)) for part in torch.split(features, _ROWS_AT_ONCE)]
        return torch.cat(parts, dim=1).numpy()


class _Pass:
    """Forward and backward of stacked nets; `layers` and `gradients` are of the padded net, its output layer last."""

    def __init__(self, layers: list[_Layer], gradients: list[_Layer], depths: list[int]) -> None:
        self._hidden, self._last = layers[: depths[0]], layers[-1]
        self._gradients = gradients
        self._counts = [sum(depth > level for depth in depths) for level in range(depths[0])]
        """Members that have each hidden layer; they are the first ones."""
        self._activations: list[torch.Tensor] = []

    def outputs(self, inputs_KBD: torch.Tensor, dropout: _Dropout | None = None) -> torch.Tensor:
        """Raw scores (K, B, outputs)."""
        values = inputs_KBD
        self._activations = [inputs_KBD]
        for count, layer in zip(self._counts, self._hidden, strict=True):
            values = torch.baddbmm(layer.bias[:count], values[:count], layer.weight[:count]).relu_()
            if dropout is not None:
                dropout.apply(values)
            self._activations.append(values)
        return torch.baddbmm(self._last.bias, self._top(), self._last.weight)

    def _top(self) -> torch.Tensor:
        """The last hidden activations of each member, (K, B, width); the inputs of a linear model."""
        if not self._counts or self._counts[-1] == self._counts[0]:
            return self._activations[-1]
        ends = [*self._counts[1:], 0]
        parts = [values[end:] for values, end in zip(self._activations[1:], ends, strict=True) if end < len(values)]
        return torch.cat(parts[::-1])

    def backward(self, gradient: torch.Tensor, dropout: _Dropout) -> None:
        """Fills the gradients, given that of the loss by the outputs (K, B, outputs)."""
        self._differentiate(self._gradients[-1], self._top(), gradient)
        by_top = torch.bmm(gradient, self._last.weight.mT)
        above = by_top[:0]
        for level in reversed(range(len(self._hidden))):
            count, values = self._counts[level], self._activations[level + 1]
            by_values = above if len(above) == count else torch.cat([above, by_top[len(above) : count]])
            # An activation is zero where ReLU or dropout made it so; the gradient is, too.
            gradient = torch.ops.aten.threshold_backward(by_values, values, 0.0)
            dropout.rescale(gradient)
            self._differentiate(self._gradients[level], self._activations[level][:count], gradient)
            if level:
                above = torch.bmm(gradient, self._hidden[level].weight[:count].mT)

    @staticmethod
    def _differentiate(into: _Layer, inputs: torch.Tensor, gradient: torch.Tensor) -> None:
        count = len(gradient)
        into.weight[:count] = torch.bmm(inputs.mT, gradient)
        into.bias[:count] = gradient.sum(dim=1, keepdim=True)


class _Dropout:
    """Each member's own dropout, drawn from its own generator in the order in which it draws alone."""

    def __init__(self, learners: Sequence[DenseLearner]) -> None:
        self._generators = [learner.generator for learner in learners]
        self._widths = [learner.layers[0].out_features for learner in learners]
        self._keep = torch.tensor([learner.keep_share for learner in learners]).view(-1, 1, 1)
        self._is_on = bool((self._keep < 1).any())
        self.sizes: list[int] = []
        """Rows of each member in this step."""

    def apply(self, values: torch.Tensor) -> None:
        """Sets hidden values (K, B, width) of the first members to zero or scales them up, in place."""
        if not self._is_on:
            return
        draws = torch.zeros_like(values)
        members = zip(draws, self._generators, self._widths, self.sizes, self._keep, strict=False)
        for drawn, generator, width, size, keep in members:
            if keep < 1:
                drawn[:size, :width].uniform_(generator=generator)
        values.mul_(draws < self._keep[: len(values)])
        self.rescale(values)

    def rescale(self, values: torch.Tensor) -> None:
        """By what makes up for those that are dropped."""
        if self._is_on:
            values.div_(self._keep[: len(values)])
