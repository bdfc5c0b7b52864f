"""All weights of a network in one tensor: an optimizer step is then one kernel instead of hundreds."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterable


class FlatParameters:
    """Makes each parameter a view into `whole`, which the optimizer steps.

    `shared` is its gradient with `notes` numbers behind it, `notes`: one tensor for ranks to add up.

    To be made when the network is on its device: moving it would tear the views off. The parameters keep
    their names, shapes and own gradients, so that `state_dict` and autograd see nothing of it.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], notes: int = 0) -> None:
        self.parts = [parameter for parameter in parameters if parameter.requires_grad]
        sizes = [part.numel() for part in self.parts]
        self._starts = dict(zip(self.parts, accumulate(sizes, initial=0), strict=False))
        self.whole = nn.Parameter(torch.cat([part.detach().flatten() for part in self.parts]))
        self.shared = self.whole.new_zeros(self.whole.numel() + notes, requires_grad=False)
        self.whole.grad, self.notes = torch.split(self.shared, [self.whole.numel(), notes])
        self._zeros = torch.split(torch.zeros_like(self.whole), sizes)
        with torch.no_grad():
            for part, values in zip(self.parts, torch.split(self.whole.detach(), sizes), strict=True):
                part.data = values.view_as(part)

    @property
    def gradient(self) -> Tensor:
        """The gradient of `whole`, which keeps its place in memory."""
        gradient = self.whole.grad
        if gradient is None:
            raise RuntimeError("the gradient of the flat parameters was dropped")
        return gradient

    def start_of(self, parameter: nn.Parameter) -> int:
        """Where it begins in `whole`."""
        return self._starts[parameter]

    def gather_gradients(self) -> None:
        """Add the parameters' own gradients to that of `whole`, where a compiled step's are already."""
        found = [part for part in self.parts if part.grad is not None]
        if 2 * len(found) > len(self.parts):
            gradients = [
                zeros if part.grad is None else part.grad.flatten()
                for part, zeros in zip(self.parts, self._zeros, strict=True)
            ]
            self.gradient.add_(torch.cat(gradients))
        else:
            for part in found:
                own, start = part.grad, self._starts[part]
                if own is not None:
                    self.gradient[start : start + part.numel()] += own.flatten()
        for part in found:
            part.grad = None

    def drop_gradients(self) -> None:
        """Before the next backward pass."""
        self.gradient.zero_()
