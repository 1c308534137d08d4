"""A training run as a picture."""

import json
from pathlib import Path

_NOT_LOSSES = ("step", "learning_rate", "seconds_per_step")


def plot_losses(history: Path, output: Path, title: str) -> None:
    """Draw every loss term of a history.jsonl over the steps, on a logarithmic axis, as a PNG."""
    # Heavy, and only training draws plots.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = [json.loads(line) for line in history.read_text(encoding="utf-8").splitlines()]
    if not lines:
        return
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot(title=title, xlabel="step", ylabel="loss", yscale="log")
    axes.grid(alpha=0.3)
    for name in (key for key in lines[-1] if key not in _NOT_LOSSES):
        points = [(line["step"], line[name]) for line in lines if line.get(name, 0) > 0]
        if points:
            axes.plot(*zip(*points, strict=True), label=f"{name} {points[-1][1]:.4g}", linewidth=1.2)
    axes.legend()
    axes.yaxis.set_major_formatter("{x:g}")  # 20, not 2 times ten to the first
    if axes.get_ylim()[1] < 20 * axes.get_ylim()[0]:  # else they would not fit
        axes.yaxis.set_minor_formatter("{x:g}")
    FigureCanvasAgg(figure).print_png(output)
