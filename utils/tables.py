"""Small tables for a lesson's page: aligned text for the tests, plain HTML for the reader."""

import html


class Table:
    """A header and rows; floats are shown with three digits, everything else as `str` gives it."""

    def __init__(self, header, rows):
        self.header = [str(h) for h in header]
        self.rows = [
            [
                f"{v:.3f}" if isinstance(v, float) else f"{v:,}" if isinstance(v, int) else str(v)
                for v in row
            ]
            for row in rows
        ]
        if any(len(row) != len(self.header) for row in self.rows):
            raise ValueError(
                f"Every row of the table needs {len(self.header)} values: {', '.join(self.header)}."
            )

    def __repr__(self):
        widths = [max(map(len, column)) for column in zip(self.header, *self.rows)]
        return "\n".join(
            "  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip()
            for row in [self.header, *self.rows]
        )

    def _repr_html_(self):
        def row(cells, tag, scope=""):
            return (
                "<tr>"
                + "".join(
                    f'<{tag}{scope} style="text-align:left">{html.escape(c)}</{tag}>' for c in cells
                )
                + "</tr>"
            )

        return (  # a screen reader tells the column's name by the head and its scope
            "<table><thead>"
            + row(self.header, "th", ' scope="col"')
            + "</thead><tbody>"
            + "".join(row(r, "td") for r in self.rows)
            + "</tbody></table>"
        )
