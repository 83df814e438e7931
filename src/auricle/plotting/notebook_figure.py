"""A figure that notebooks show; imported only where something is drawn."""

from __future__ import annotations

import io

from matplotlib.figure import Figure

from auricle.plotting.figures import every_script

NOTEBOOK_DPI = 80


class NotebookFigure(Figure):
    """A figure that needs no pyplot to be shown by IPython.

    pyplot would tell IPython how, but keeps every figure it has made.
    """

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        with every_script():
            self.savefig(content, format="png", dpi=NOTEBOOK_DPI)
        return content.getvalue()
