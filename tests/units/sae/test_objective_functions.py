"""What objectives compute block by block is what the plain expressions are, gradients included."""

from typing import Any

import torch

from autointerp.units.sae.objectives.base import row_blocks
from autointerp.units.sae.objectives.gated import _Gate  # pyright: ignore[reportPrivateUsage]
from autointerp.units.sae.objectives.jumprelu import _Jump  # pyright: ignore[reportPrivateUsage]

SHAPE = (70, 3000)


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_blocks_are_all_rows_once() -> None:
    blocks = row_blocks(torch.zeros(SHAPE))
    assert len(blocks) > 1
    assert [row for block in blocks for row in range(SHAPE[0])[block]] == list(range(SHAPE[0]))


def test_a_gate_is_the_plain_expression() -> None:
    inputs = [drawn(0, *SHAPE), drawn(1, SHAPE[1]).abs(), drawn(2, SHAPE[1])]
    weights = drawn(3, *SHAPE), drawn(4, *SHAPE)

    def gradients(plain: bool) -> list[torch.Tensor]:
        gate, scale, shift = (value.clone().requires_grad_() for value in inputs)
        if plain:
            opened = gate.relu()
            f, l1 = (gate > 0) * torch.addcmul(shift, gate, scale).relu(), opened.sum()
            counts = (f > 0).sum(0)
        else:
            found: Any = _Gate.apply(gate, scale, shift)
            f, opened, l1, counts = found
        ((f * weights[0]).sum() + (opened * weights[1]).sum() + 3 * l1).backward()
        return [f, opened, l1, counts.float(), gate.grad, scale.grad, shift.grad]  # type: ignore[list-item]

    for ours, theirs in zip(gradients(False), gradients(True), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)


def test_a_jump_has_the_estimates_of_its_page() -> None:
    width, by_l0 = 0.2, 5.0
    z, theta = drawn(0, *SHAPE).requires_grad_(), (drawn(1, SHAPE[1]).abs() / 4).requires_grad_()
    by_f = drawn(2, *SHAPE)
    found: Any = _Jump.apply(z, theta, width)
    f, l0, fired = found
    ((f * by_f).sum() + by_l0 * l0).backward()
    positive = z.detach().relu()
    active = positive > theta.detach()
    near = (positive - theta.detach()).abs() < width / 2
    expected = -(theta.detach() * (near * by_f).sum(0) + by_l0 / len(z) * near.sum(0)) / width
    torch.testing.assert_close(f.detach(), positive * active)
    torch.testing.assert_close(l0.detach(), active.sum() / len(z))
    assert torch.equal(fired, active.any(0))
    torch.testing.assert_close(z.grad, by_f * active)
    torch.testing.assert_close(theta.grad, expected, rtol=1e-5, atol=1e-4)
