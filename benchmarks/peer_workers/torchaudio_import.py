"""torchaudio where its compiled part does not load, and as s3prl 0.4.18 expects it.

The wheels of torchaudio are built for one build of torch: beside another (CPU against CUDA) the
import ends in `OSError`. Its models, its Kaldi features and its transforms are Python and torch
alone, so a stand-in that says "there is no compiled part" takes the place of the module that loads
it. s3prl calls `torchaudio.set_audio_backend`, which torchaudio no longer has; nothing here reads
files, so it does nothing.
"""

from __future__ import annotations

import contextlib
import sys
import types
from typing import Any


def import_torchaudio() -> Any:
    """torchaudio, with stand-ins for what does not load."""
    try:
        import torchaudio
    except OSError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
            del sys.modules[name]
        extension: Any = types.ModuleType("torchaudio._extension")
        extension._IS_TORCHAUDIO_EXT_AVAILABLE = False
        extension._IS_ALIGN_AVAILABLE = False
        extension.fail_if_no_align = lambda function: function
        sys.modules[extension.__name__] = extension
        import torchaudio
    # s3prl calls this at import.
    if not hasattr(torchaudio, "set_audio_backend"):
        torchaudio.set_audio_backend = lambda _: None
    return torchaudio


def import_transformers() -> Any:
    """transformers, which imports torchaudio where it is installed."""
    with contextlib.suppress(ModuleNotFoundError):
        import_torchaudio()
    import transformers

    transformers.logging.set_verbosity_error()
    return transformers
