"""Sparsity against fidelity of several dictionaries (Rajamanoharan et al. 2024a, figure 1)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def frontier_figure(found: list[Any]) -> "Figure":
    """Explained variance, and loss recovered where it was measured, over L0.

    Args:
        found: with `name`, `metrics` (`SaeMetrics`) and `loss` (`LossRecovered` or `None`) each.
    """
    from matplotlib.figure import Figure

    panels: list[tuple[str, Any]] = [
        ("explained variance", lambda each: each.metrics.explained_variance)
    ]
    if any(each.loss is not None for each in found):
        panels.append(("loss recovered", lambda each: each.loss and each.loss.loss_recovered))
    figure = Figure(figsize=(5.5 * len(panels), 4.2), layout="constrained")
    for number, (title, value) in enumerate(panels, 1):
        axes = figure.add_subplot(1, len(panels), number)
        for each in found:
            y = value(each)
            if y is not None:
                axes.plot([each.metrics.l0], [y], "o", label=each.name)
        axes.set(xlabel="L0: active latents per token", ylabel=title, xscale="log")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    return figure
