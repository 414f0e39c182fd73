"""One figure style: small, readable in grey (shade, marker and dash tell the lines apart, not colour alone)."""

import matplotlib.pyplot as plt

INK, FAINT = "#222222", "#b8b8b8"
COLOURS = ("#0b3c6f", "#d1742a", "#5a9bd4", "#6b6b6b", "#8c2d4f", "#a9c47f")
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))
HATCHES = ("", "//", "..", "xx", "\\\\", "++")
STYLE = {
    "figure.dpi": 90,
    "savefig.dpi": 90,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
}


def axes(columns=1, title=None, xlabel=None, ylabel=None, width=4.2, height=2.9, **options):
    """Axes in the course's style: one Axes, or an array of `columns` of them. Sizes in inches a panel."""
    plt.rcParams.update(STYLE)
    _, ax = plt.subplots(
        1, columns, figsize=(width * columns + 0.4, height), layout="constrained", **options
    )
    for one, name in zip(
        [ax] if columns == 1 else ax, [title] if isinstance(title, str) or title is None else title
    ):
        one.set_title(name or "")
    for one in [ax] if columns == 1 else ax:
        one.set_xlabel(xlabel or "")
        one.set_ylabel(ylabel or "")
    return ax


def look(number):
    """Colour, marker and dash of the number-th line."""
    n = len(COLOURS)
    return {
        "color": COLOURS[number % n],
        "marker": MARKERS[number % n],
        "linestyle": DASHES[number % n],
    }


def line(ax, x, y, label=None, number=0, error=None, **options):
    """A line with markers; `error` (same length as y) is drawn as a band of plus and minus that much."""
    style = {**look(number), **options}
    ax.plot(x, y, label=label, **style)
    if error is not None:
        low, high = [a - b for a, b in zip(y, error)], [a + b for a, b in zip(y, error)]
        ax.fill_between(x, low, high, color=style["color"], alpha=0.15, linewidth=0)
    return ax


def bars(ax, names, values, error=None, number=0, fmt="{:.2f}"):
    """Horizontal bars, first name on top, each with its value written beside it."""
    places = range(len(names))
    ax.barh(
        places,
        values,
        xerr=error,
        color=COLOURS[number],
        hatch=HATCHES[number],
        edgecolor="white",
        height=0.65,
        ecolor=INK,
    )
    ax.set_yticks(places, names)
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    reach = max(values) or 1
    for place, value in zip(places, values):
        ax.text(
            value + 0.02 * reach + (error[place] if error else 0),
            place,
            fmt.format(value),
            va="center",
            fontsize=9,
        )
    ax.set_xlim(right=1.18 * reach)
    return ax


def smooth(values, window=10):
    """Running mean over the last `window` values, for loss curves."""
    return [
        sum(values[max(0, i - window + 1) : i + 1]) / min(i + 1, window) for i in range(len(values))
    ]
