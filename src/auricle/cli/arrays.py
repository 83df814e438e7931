"""Representations on disk: `.npy` for one array, `.safetensors` for named ones with metadata."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from auricle.writing import write_whole

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def write_npy(path: Path, array: NDArray[np.float32]) -> None:
    """Write one array; raises OutputError and leaves no part of it if that is impossible."""
    import numpy as np

    contiguous = np.ascontiguousarray(array)

    def write(temporary: Path) -> None:
        # np.save writes past Python's file object and so loses the reason of a failure (disk full).
        with temporary.open("wb") as file:
            header = np.lib.format.header_data_from_array_1_0(contiguous)
            np.lib.format.write_array_header_1_0(file, header)
            file.write(contiguous.data)

    write_whole(path, write)


def write_safetensors(
    path: Path, arrays: Mapping[str, NDArray[np.float32]], metadata: Mapping[str, str]
) -> None:
    """Write arrays by name; raises OutputError and leaves no part if that is impossible."""
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}

    def write(temporary: Path) -> None:
        try:
            save_file(contiguous, temporary, dict(metadata))
        except SafetensorError as error:
            # The error is text alone; its number tells a full disk from other reasons.
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise OSError(str(error)) from error
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from error

    write_whole(path, write)
