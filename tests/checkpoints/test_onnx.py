"""ONNX models give the encoder's frames, and are refused where they would not."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

import auricle
from auricle.__main__ import main
from auricle.audio.files import read_audio
from auricle.audio.inputs import sample_paths
from auricle.checkpoints import onnx
from auricle.errors import AuricleError, OutputError
from auricle.models.base import Encoder
from auricle.models.spectral_transformer import BertConfig, TeraConfig
from golden_cases import GoldenCase, golden_cases

REFUSED = {"pase", "pase_plus", "hf_mhubert_147", "bestrq"}

pytestmark = [
    pytest.mark.slow,
    # Of packages that torch's exporter imports.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def frames_of(folder: Path, samples: torch.Tensor) -> torch.Tensor:
    session = onnxruntime.InferenceSession(folder / onnx.MODEL_FILE)
    return torch.from_numpy(session.run(None, {"waveform": samples.numpy()})[0])


def speech(num_samples: int) -> torch.Tensor:
    return read_audio(sample_paths()[1])[:num_samples].contiguous()


def test_a_recurrent_encoder_s_layer_is_written_for_any_length(tmp_path: Path) -> None:
    case = GoldenCase("apc")
    encoder = case.load()
    name = encoder.layer_infos[1].name
    arguments = [str(case.checkpoints[0]), "--to", "onnx", str(tmp_path / "out"), "--layer", name]
    assert main(["export", *arguments]) == 0
    for num_samples in (encoder.min_samples, 7_001, 33_333):
        (expected,) = encoder([speech(num_samples)], name)
        frames = frames_of(tmp_path / "out", speech(num_samples))
        assert (frames - expected).abs().max() <= 1e-4 * encoder([speech(33_333)], name)[0].std()
    facts = json.loads((tmp_path / "out" / onnx.METADATA_FILE).read_text())
    assert (facts["layer"], facts["family"], facts["max_samples"]) == (name, "apc", None)
    assert facts["min_samples"] == encoder.min_samples


def test_more_samples_than_one_graph_encodes_are_refused(tmp_path: Path) -> None:
    layers = BertConfig(hidden_size=8, num_layers=1, num_heads=2, ffn_size=8, max_chunk_frames=40)
    encoder = auricle.build(msgspec.structs.replace(TeraConfig(), transformer=layers))
    auricle.export_to_onnx(encoder, tmp_path / "out")
    longest = json.loads((tmp_path / "out" / onnx.METADATA_FILE).read_text())["max_samples"]
    assert len(encoder([speech(longest)])[0]) == 40
    assert len(encoder([speech(longest + 1)])[0]) == 41
    assert len(frames_of(tmp_path / "out", speech(longest))) == 40
    with pytest.raises(Exception, match="indices element out of data bounds"):
        frames_of(tmp_path / "out", speech(longest + 1))


class Zeros:
    """A program that gives as many frames as the filter bank, of zeros."""

    def __init__(self, dim: int) -> None:
        int64 = TensorProto.INT64
        constants = {"window": 400, "hop": 160, "one": 1, "dim": dim}
        nodes = [
            helper.make_node("Shape", ["waveform"], ["samples"]),
            helper.make_node("Sub", ["samples", "window"], ["after"]),
            helper.make_node("Div", ["after", "hop"], ["hops"]),
            helper.make_node("Add", ["hops", "one"], ["count"]),
            helper.make_node("Concat", ["count", "dim"], ["shape"], axis=0),
            helper.make_node("ConstantOfShape", ["shape"], ["frames"]),
        ]
        graph = helper.make_graph(
            nodes,
            "zeros",
            [helper.make_tensor_value_info("waveform", TensorProto.FLOAT, ["samples"])],
            [helper.make_tensor_value_info("frames", TensorProto.FLOAT, ["frames", dim])],
            [helper.make_tensor(name, int64, [1], [value]) for name, value in constants.items()],
        )
        opset = helper.make_opsetid("", onnx.OPSET)
        self.model = helper.make_model(graph, opset_imports=[opset], ir_version=10)

    def save(self, path: str) -> None:
        Path(path).write_bytes(self.model.SerializeToString())


def test_a_model_that_deviates_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = auricle.load("fbank", device="cpu")
    zeros = Zeros(encoder.info.dims[encoder.default_layer])
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: zeros)
    with pytest.raises(AuricleError, match="fbank deviates from it by .* it was not written"):
        auricle.export_to_onnx(encoder, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    encoder = auricle.load("fbank", device="cpu")
    (tmp_path / "mine").write_text("keep")
    with pytest.raises(OutputError, match="not an empty folder"):
        auricle.export_to_onnx(encoder, tmp_path)
    half = GoldenCase("apc").load().to(torch.bfloat16)
    with pytest.raises(AuricleError, match=r"on the CPU in float32, but .* torch.bfloat16"):
        auricle.export_to_onnx(half, tmp_path / "out")


def test_an_onnxscript_too_old_for_torch_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = GoldenCase("apc").load()

    def export(*_: object, **__: object) -> None:
        assert not any(isinstance(layer, torch.nn.GRU) for layer in encoder.rnn.layers)
        raise RuntimeError("the export failed") from ModuleNotFoundError("No module named 'x'")

    monkeypatch.setattr(torch.onnx, "export", export)
    with pytest.raises(AuricleError, match=r"does not go with torch .*pip install --upgrade"):
        auricle.export_to_onnx(encoder, tmp_path / "out")
    # The layers are the encoder's own again.
    assert all(isinstance(layer, torch.nn.GRU) for layer in encoder.rnn.layers)


@pytest.mark.whole
@pytest.mark.parametrize("case", golden_cases(), ids=lambda case: case.name)
def test_every_architecture_is_exported_or_refused(case: GoldenCase, tmp_path: Path) -> None:
    encoder: Encoder = case.load()
    if case.name not in REFUSED:
        auricle.export_to_onnx(encoder, tmp_path / "out")
        assert (tmp_path / "out" / onnx.MODEL_FILE).exists()
        return
    with pytest.raises(AuricleError, match=f"{encoder.family}.*(cannot be exported|not written)"):
        auricle.export_to_onnx(encoder, tmp_path / "out")
    assert not list(tmp_path.iterdir())
