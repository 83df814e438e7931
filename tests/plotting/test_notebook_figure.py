from __future__ import annotations

import io
import subprocess
import sys

from matplotlib.image import imread

from auricle.plotting.notebook_figure import NOTEBOOK_DPI, NotebookFigure


def test_a_notebook_is_given_a_picture() -> None:
    figure = NotebookFigure(figsize=(3, 2))
    figure.suptitle("音声")
    pixels = imread(io.BytesIO(figure._repr_png_()))
    assert pixels.shape[:2] == (2 * NOTEBOOK_DPI, 3 * NOTEBOOK_DPI)
    assert pixels.min() < 0.5


def test_ipython_shows_it_without_pyplot() -> None:
    code = (
        "import sys, torch, auricle\n"
        "from IPython.core.formatters import DisplayFormatter\n"
        "figure = auricle.plot(torch.zeros(8000), 'fbank')\n"
        "data, _ = DisplayFormatter(active_types=['text/plain', 'image/png']).format(figure)\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "print(data['image/png'][:4])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == repr(b"\x89PNG")
