"""Encoders as ONNX models: one waveform of any length in, its frames out."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from auricle.audio.files import read_audio
from auricle.audio.inputs import sample_paths
from auricle.errors import AuricleError
from auricle.files.atomic import refuse_used_folder, write_whole_folder
from auricle.info import SAMPLE_RATE, FinalNorm
from auricle.models.base import Encoder
from auricle.models.spectral_transformer import SpectralBertConfig
from auricle.optional import optional

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODEL_FILE, METADATA_FILE = "model.onnx", "auricle.json"

OPSET = 20
"""Version of ONNX's operators; ONNX Runtime reads it since 1.17 (2024)."""

LIMIT = 1e-4
"""Largest deviation of ONNX Runtime's frames from the library's, in their standard deviations."""

SPECTRAL_LIMIT = 1e-3
"""The same of bare spectral features: the logarithm of a quiet band shows the last digits."""

TRACED_SAMPLES = 20_000
"""Length of the waveform that the exporter follows; the model takes others too."""

CHECKED_SAMPLES = (20_000, 41_237, 80_000)
"""Lengths on which a model is compared before it is written, beside the shortest one."""

MAX_SAMPLES = 3_600 * SAMPLE_RATE
"""Upper bound that the exporter is given for the number of samples: an hour."""


def export_to_onnx(
    encoder: Encoder,
    folder: str | Path,
    *,
    layer: int | str | None = None,
    final_norm: FinalNorm = "keep",
) -> None:
    """Write one layer of an encoder as an ONNX model, checked against the encoder.

    The folder holds `model.onnx` (weights above 2 GB in `model.onnx.data` beside it) and
    `auricle.json`, which names the encoder, the layer and its frames. The model's input
    `waveform` (S,) is float32 at 16 kHz in [-1, 1], its output `frames` (T, D) float32, for any
    S from the encoder's `min_samples` on. Before anything is written, ONNX Runtime's frames of
    waveforms of several lengths are compared with the encoder's.

    Args:
        encoder: An encoder on the CPU, in float32.
        folder: Where to write; it must not be there yet, or be empty.
        layer: Index or name of the layer; None for the default one.
        final_norm: As in a call of the encoder.

    Raises:
        AuricleError: The encoder is not on the CPU in float32; the exporter cannot follow it; or
            the model's frames are not the encoder's.
        LayerError: The encoder has no such layer.
        MissingExtraError: onnx, onnxscript or onnxruntime is not installed.
        OutputError: The folder holds something, or cannot be written; nothing half-written is
            left.
    """
    if encoder.device.type != "cpu" or encoder.dtype != torch.float32:
        raise AuricleError(
            f"an encoder is exported to ONNX on the CPU in float32, but {encoder.info.name} is on "
            f'{encoder.device} in {encoder.dtype}; load it with device="cpu"'
        )
    check_packages()
    refuse_used_folder(Path(folder))
    info = encoder.layer_info(layer)
    was_training = encoder.training
    encoder.eval()
    try:
        model = _LoneEncoder(encoder, info.name, final_norm)
        program = _program(model)
        metadata = {
            "model": encoder.info.name,
            "family": encoder.family,
            "layer": info.name,
            "final_norm": final_norm,
            "dim": info.dim,
            "sample_rate": SAMPLE_RATE,
            "hop_samples": info.geometry.hop_samples,
            "min_samples": encoder.min_samples,
            "max_samples": model.max_samples,
        }

        def write(temporary: Path) -> None:
            path = temporary / MODEL_FILE
            program.save(str(path))
            _check(model, path)
            text = json.dumps(metadata, indent=2) + "\n"
            (temporary / METADATA_FILE).write_text(text, encoding="utf-8")

        write_whole_folder(Path(folder), write)
    finally:
        encoder.train(was_training)


class _LoneEncoder(nn.Module):
    """One layer of an encoder for a lone waveform (S,)."""

    def __init__(self, encoder: Encoder, layer: str, final_norm: FinalNorm) -> None:
        super().__init__()
        self.encoder = encoder
        self.layer = layer
        self.final_norm: FinalNorm = final_norm
        self.max_samples = _max_samples(encoder)

    def forward(self, waveform: Tensor) -> Tensor:
        """Frames (T, D)."""
        if self.max_samples is not None:
            waveform = _operations().limited(waveform, self.max_samples)
        lengths = torch.full((1,), waveform.shape[0], dtype=torch.int64)
        frames, _ = self.encoder.forward_padded(
            waveform[None], lengths, layer=self.layer, final_norm=self.final_norm
        )
        return frames[0]


def _max_samples(encoder: Encoder) -> int | None:
    """The longest waveform that one graph can encode; None where there is no limit."""
    if encoder.fixed_samples is not None:
        return encoder.fixed_samples
    config = encoder.config
    if isinstance(config, SpectralBertConfig) and config.transformer.max_chunk_frames:
        # The number of equal chunks of longer ones is not one of the graph's.
        return config.features.geometry.min_samples(config.transformer.max_chunk_frames + 1) - 1
    return None


def check_packages() -> None:
    """Raise MissingExtraError unless the packages of the export are installed."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        with optional(package, "export to ONNX"):
            import_module(package)


def _program(model: _LoneEncoder) -> Any:
    """Follow the encoder with torch's exporter.

    Raises:
        AuricleError: It cannot be followed.
    """
    encoder = model.encoder
    longest = model.max_samples or MAX_SAMPLES
    samples = torch.export.Dim("samples", min=max(encoder.min_samples, 2), max=longest)
    num_samples = min(max(TRACED_SAMPLES, encoder.min_samples), longest)
    waveform = torch.from_numpy(_speech(num_samples))
    try:
        with torch.no_grad(), _without_remarks(), _recurrent_as_operations(model):
            return torch.onnx.export(
                model,
                (waveform,),
                dynamo=True,
                dynamic_shapes=({0: samples},),
                input_names=["waveform"],
                output_names=["frames"],
                opset_version=OPSET,
                custom_translation_table=_translations(),
                verbose=False,
            )
    except Exception as error:  # the exporter raises errors of many kinds
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        if isinstance(cause, ModuleNotFoundError):  # a version that does not know this torch
            raise AuricleError(
                f"onnxscript does not go with torch {torch.__version__} ({cause}): install a newer "
                "one (pip install --upgrade onnxscript)"
            ) from error
        raise _refusal(model, f"torch's exporter fails ({_first_line(cause)})") from error


@contextmanager
def _without_remarks() -> Iterator[None]:
    """Leave out what the exporter says of packages that it lacks and of graphs it cannot fold."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _refusal(model: _LoneEncoder, reason: str) -> AuricleError:
    encoder = model.encoder
    return AuricleError(
        f"{encoder.info.name} ({encoder.family}), layer {model.layer}, cannot be exported to ONNX: "
        f"{reason}; docs/weights-of-your-own.md lists what can be"
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _check(model: _LoneEncoder, path: Path) -> None:
    """Compare ONNX Runtime's frames with the encoder's.

    Raises:
        AuricleError: They differ by more than `LIMIT` standard deviations.
    """
    import onnxruntime

    encoder = model.encoder
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common class
        raise _refusal(model, f"ONNX Runtime does not run it ({_first_line(error)})") from error
    limit = LIMIT if any(True for _ in encoder.parameters()) else SPECTRAL_LIMIT
    longest = model.max_samples or max(CHECKED_SAMPLES)
    scale = torch.cat(encoder([_speech(longest)], model.layer, final_norm=model.final_norm)).std()
    for num_samples in (encoder.min_samples, *CHECKED_SAMPLES, longest):
        if not encoder.min_samples <= num_samples <= longest:
            continue
        speech = _speech(num_samples)
        expected = encoder([speech], model.layer, final_norm=model.final_norm)[0]
        try:
            frames = torch.from_numpy(session.run(None, {"waveform": speech})[0])
        except Exception as error:  # as above
            reason = f"ONNX Runtime does not run it on {num_samples} samples"
            raise _refusal(model, f"{reason} ({_first_line(error)})") from error
        if frames.shape != expected.shape:
            raise AuricleError(
                f"the ONNX model of {encoder.info.name} gives frames {tuple(frames.shape)} of "
                f"{num_samples} samples, not {tuple(expected.shape)}; it was not written"
            )
        if num_samples == encoder.min_samples and encoder.uses_utterance_statistics:
            continue  # the variance of one or two frames magnifies any rounding
        deviation = ((frames - expected).abs().max() / scale).item()
        if not deviation <= limit:
            raise AuricleError(
                f"the ONNX model of {encoder.info.name} deviates from it by {deviation:.1e} "
                f"standard deviations of its frames on {num_samples} samples, more than {limit:g}; "
                "it was not written"
            )


def _speech(num_samples: int) -> NDArray[Any]:
    """The first samples of the bundled speech, repeated where it is too short."""
    return np.resize(read_audio(sample_paths()[0]).numpy(), num_samples)


class _Recurrent(nn.Module):
    """Recurrent layers as one operation, which the exporter would unroll otherwise."""

    def __init__(self, rnn: nn.RNNBase) -> None:
        super().__init__()
        if rnn.bidirectional or not rnn.batch_first or not rnn.bias or rnn.mode == "RNN_RELU":
            raise AuricleError(
                f"an ONNX model has no translation of {rnn}: forward layers of GRU, LSTM and tanh, "
                "with biases and the batch first, have one"
            )
        self.rnn = rnn

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """Output (B, T, H) for `x` (B, T, D), in the place of `nn.RNNBase.forward`."""
        weights = [weight for layer in self.rnn.all_weights for weight in layer]
        output: Tensor = _operations().recurrent(x, weights, self.rnn.mode)
        return output, None


@contextmanager
def _recurrent_as_operations(model: nn.Module) -> Iterator[None]:
    """Replace recurrent layers by `_Recurrent` for the time of an export."""
    found = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.RNNBase)
    ]
    try:
        for parent, name, child in found:
            setattr(parent, name, _Recurrent(child))
        yield
    finally:
        for parent, name, child in found:
            setattr(parent, name, child)


class _Operations(NamedTuple):
    """Operations of the library that stay whole in an exporter's graph."""

    recurrent: Any
    limited: Any


@cache
def _operations() -> _Operations:
    """Register the operations, in the first export of a process."""

    @torch.library.custom_op("auricle::recurrent", mutates_args=())
    def recurrent(x: Tensor, weights: Sequence[Tensor], mode: str) -> Tensor:
        num_layers, width = len(weights) // 4, weights[1].shape[1]
        state = x.new_zeros(num_layers, len(x), width)
        states = [state, state] if mode == "LSTM" else state
        function = getattr(torch, mode.lower())
        output = function(x, states, list(weights), True, num_layers, 0.0, False, False, True)
        return cast("Tensor", output[0])

    @recurrent.register_fake
    def _(x: Tensor, weights: Sequence[Tensor], mode: str) -> Tensor:
        return x.new_empty(*x.shape[:2], weights[1].shape[1])

    @torch.library.custom_op("auricle::limited", mutates_args=())
    def limited(waveform: Tensor, max_samples: int) -> Tensor:
        return waveform.clone()

    @limited.register_fake
    def _(waveform: Tensor, max_samples: int) -> Tensor:
        return torch.empty_like(waveform)

    return _Operations(recurrent, limited)


GATE_ORDER = {"GRU": (1, 0, 2), "LSTM": (0, 3, 1, 2), "RNN_TANH": (0,)}
"""For each gate of ONNX's operators, in their order, the index among torch's."""


def _translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Translations into operators of ONNX that torch's exporter lacks, or has in a coarser form."""
    from onnx import TensorProto, numpy_helper
    from onnxscript.onnx_opset import opset20

    op: Any = opset20  # values of the graph, not the tensors that its types speak of

    def hamming_window(
        window_length: int, periodic: bool, alpha: float, beta: float, **_options: object
    ) -> Any:
        window = torch.hamming_window(window_length, periodic=periodic, alpha=alpha, beta=beta)
        return op.Constant(value_floats=window.tolist())

    def real_dft(x: Any, dim: Sequence[int], normalization: int, onesided: bool) -> Any:
        """As products in float64: ONNX Runtime's DFT loses digits that a logarithm shows."""
        size = x.shape[-1]
        angles = np.outer(np.arange(size), np.arange(size // 2 + 1)) * (2 * np.pi / size)
        parts = (np.cos(angles), -np.sin(angles))
        kept = x.dtype
        x = op.Cast(x, to=TensorProto.DOUBLE)
        products = [op.MatMul(x, op.Constant(value=numpy_helper.from_array(p))) for p in parts]
        spectrum = op.Concat(*(op.Unsqueeze(part, [-1]) for part in products), axis=-1)
        return op.Cast(spectrum, to=int(kept))

    def recurrent(x: Any, weights: Sequence[Any], mode: str) -> Any:
        order = GATE_ORDER[mode]

        def gates(weight: Any) -> Any:
            if len(order) == 1:
                return weight
            parts = op.Split(weight, axis=0, num_outputs=len(order))
            return op.Concat(*(parts[index] for index in order), axis=0)

        x = op.Transpose(x, perm=[1, 0, 2])
        options = {"linear_before_reset": 1} if mode == "GRU" else {}
        operator = getattr(op, mode.partition("_")[0])
        for first in range(0, len(weights), 4):
            of_input, of_state, input_bias, state_bias = weights[first : first + 4]
            bias = op.Concat(gates(input_bias), gates(state_bias), axis=0)
            products = (op.Unsqueeze(gates(weight), [0]) for weight in (of_input, of_state))
            width = of_state.shape[1]
            y = operator(x, *products, op.Unsqueeze(bias, [0]), hidden_size=width, **options)[0]
            x = op.Squeeze(y, [1])
        return op.Transpose(x, perm=[1, 0, 2])

    def limited(waveform: Any, max_samples: int) -> Any:
        """Index one zero by `(S - 1) // max_samples`: the runtime refuses an index from 1 on."""
        index = op.Div(op.Sub(op.Shape(waveform), [1]), [max_samples])
        return op.Add(waveform, op.Gather(op.Constant(value_floats=[0.0]), index))

    return {
        torch.ops.aten.hamming_window.periodic_alpha_beta: hamming_window,
        torch.ops.aten._fft_r2c.default: real_dft,
        _operations().recurrent._opoverload: recurrent,
        _operations().limited._opoverload: limited,
    }
