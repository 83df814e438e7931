"""Encoders as front ends of ESPnet: `EncoderFrontend`, for `frontend` and `frontend_conf` there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from auricle.errors import AudioError, AuricleError
from auricle.hub.load import load
from auricle.info import SAMPLE_RATE
from auricle.models.outputs import Featurizer
from auricle.optional import optional

with optional("espnet2", "auricle.adapters.espnet"):
    from espnet2.asr.frontend.abs_frontend import AbsFrontend

RATES = (SAMPLE_RATE, "16000", "16k")
"""The rate as ESPnet's configurations write it."""


class EncoderFrontend(AbsFrontend):  # type: ignore[misc]  # espnet ships no types
    """A layer of an encoder, or a learnt sum of layers, as what ESPnet's encoders read.

    Attributes:
        encoder: The encoder.
        featurizer: The weights of the sum; None where one layer is taken.
        hop_length: Samples from one frame to the next.
    """

    def __init__(
        self,
        model: str,
        layer: int | str | None = None,
        layers: Sequence[int | str] | Literal["all"] | None = None,
        normalize: bool = False,
        frozen: bool = False,
        pad_short: bool = False,
        load_conf: Mapping[str, Any] | None = None,
        fs: int | str = SAMPLE_RATE,
    ) -> None:
        """Load the encoder.

        Args:
            model: Name, path or URL of an encoder, as `auricle.load` takes it.
            layer: Index or name of the layer; None for the default one.
            layers: Sum these, or `"all"`, by learnt weights (`auricle.Featurizer`), instead of
                taking one.
            normalize: Whether each frame of each layer has zero mean and unit variance before the
                sum.
            frozen: Keep the encoder in eval mode, without gradients; weights of a sum are learnt.
            pad_short: Pad waveforms that are shorter than the encoder takes with zeros.
            load_conf: Further options of `auricle.load`.
            fs: Rate of the waveforms, which recipes of ESPnet pass.

        Raises:
            AuricleError: As of `auricle.load`; `fs` is not 16 kHz, both `layer` and `layers` are
                given, or the encoder has no such layer.
        """
        super().__init__()
        if fs not in RATES:
            raise AuricleError(f"fs must be 16000 (16k), but is {fs!r}: resample the data")
        if layer is not None and layers is not None:
            raise AuricleError(f"got layer={layer!r} and layers={layers!r}; give one of them")
        self._model = model
        self._options = {"device": "cpu", **(load_conf or {})}
        self.encoder = load(model, **self._options).requires_grad_(not frozen)
        self.featurizer: Featurizer | None = None
        self._names = [self.encoder.layer_info(layer).name]
        if layers is not None:
            self.featurizer = Featurizer(self.encoder, layers, normalize=normalize)
            self._names = self.featurizer.layers
        self._info = self.encoder.layer_info(self._names[0])
        self.hop_length = self._info.geometry.hop_samples
        self.frozen = frozen
        self.pad_short = pad_short

    def output_size(self) -> int:
        """D of a frame."""
        return self._info.dim

    def forward(self, input: Tensor, input_lengths: Tensor) -> tuple[Tensor, Tensor]:  # noqa: A002
        """Encode a padded batch; each row as if it were alone.

        Args:
            input: (B, S), at 16 kHz.
            input_lengths: (B,), samples of each row.

        Returns:
            Frames (B, T, D), zeros after the end of each row, and their numbers (B,), exact, so
            that T is the largest of them.

        Raises:
            AudioError: Shapes do not agree, or a length is longer than S; as in a call of the
                encoder.
        """
        size = input.shape[-1]
        if input.ndim != 2 or len(input) == 0 or input_lengths.shape != input.shape[:1]:
            raise AudioError(
                f"input must be (B, S), B at least 1, and lengths (B,), but they are "
                f"{tuple(input.shape)} and {tuple(input_lengths.shape)}"
            )
        if not 0 < int(input_lengths.min()) <= int(input_lengths.max()) <= size:
            raise AudioError(f"lengths must be from 1 to {size}, but are {input_lengths.tolist()}")
        rows = [row[:count] for row, count in zip(input, input_lengths.tolist(), strict=True)]
        outputs = self.encoder.layers(rows, self._names, pad_short=self.pad_short)
        if self.featurizer is not None:
            frames = self.featurizer(outputs)
        else:
            frames = [states[self._names[0]] for states in outputs]
        num_frames = input_lengths.new_tensor([len(x) for x in frames])
        return pad_sequence(frames, batch_first=True), num_frames

    def train(self, mode: bool = True) -> EncoderFrontend:
        """Set the mode, but keep a frozen encoder in eval mode."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def reload_pretrained_parameters(self) -> None:
        """Take the encoder's weights back, which ESPnet's `init` has drawn again."""
        self.encoder.load_state_dict(load(self._model, **self._options).state_dict())
