from __future__ import annotations

import gzip
import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import auricle
from auricle.checkpoints import toolkits
from auricle.checkpoints.options import parse_yaml
from auricle.checkpoints.reading import read_checkpoint
from auricle.errors import CheckpointError
from auricle.info import Provenance
from auricle.models.spectral_conformer import BestRqConfig, ParakeetConfig
from golden_cases import GoldenCase, gives_the_same

NEST = GoldenCase("nest").checkpoints[0]
BESTRQ = GoldenCase("bestrq").folder
Member = tuple[tarfile.TarInfo, bytes]


def members() -> dict[str, bytes]:
    with tarfile.open(NEST) as archive:
        files = {member.name: archive.extractfile(member) for member in archive}
        return {name: file.read() for name, file in files.items() if file}


def archive(path: Path, files: dict[str, bytes], *others: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for info in others:
            tar.addfile(info)
    return path


def changed(path: Path, old: str, new: str) -> Path:
    """The archive with another text in its configuration."""
    files = members()
    config = files["./model_config.yaml"].decode()
    assert old in config
    files["./model_config.yaml"] = config.replace(old, new, 1).encode()
    return archive(path, files)


def load(path: Path) -> auricle.Encoder:
    return auricle.load(path)


def test_the_encoder_of_an_archive_is_read_where_it_lies(tmp_path: Path) -> None:
    encoder = load(NEST)
    assert encoder.family == "parakeet"
    assert set(encoder.unused_keys) == {
        "preprocessor.featurizer.window",
        "preprocessor.featurizer.fb",
        "encoder.pos_enc.pe",
        "decoder.decoder_layers.0.weight",
        "quantizer.proj",
    } & {*encoder.unused_keys}
    assert "quantizer.proj" in encoder.unused_keys
    config = encoder.config
    assert isinstance(config, ParakeetConfig)
    assert (config.subsampling.factor, config.scale_input) == (4, False)
    hostile = tarfile.TarInfo("../../outside")
    hostile.type, hostile.linkname = tarfile.SYMTYPE, "/etc/passwd"
    plain = {name.removeprefix("./"): content for name, content in members().items()}
    files = {"tokenizer.model": b"abc", **dict(reversed(plain.items())), "../outside": b"x"}
    (tmp_path / "in").mkdir()
    path = archive(tmp_path / "in" / "model.nemo", files, hostile)
    assert gives_the_same(load(path), encoder)
    assert [file.name for file in tmp_path.rglob("*")] == ["in", "model.nemo"]


def test_options_of_the_front_end_and_the_encoder_act(tmp_path: Path) -> None:
    def config(old: str, new: str) -> Any:
        path = changed(tmp_path / "model.nemo", old, new)
        content = toolkits.read_nemo_archive(path)
        return toolkits.convert_nemo(content, family()).config

    assert config("window: hann", "window: hamming").features.window == "hamming"
    assert config("per_feature", "all_features").features.normalize == "all"
    assert config("normalize: per_feature", "normalize: null").features.normalize == "none"
    assert config("n_fft: 512", "n_fft: null").features.fft_samples == 512
    assert config("n_fft: 512", "preemph: null\n  n_fft: 512").features.preemphasis == 0.0
    assert config("window_size: 0.025", "window_size: 0.02").features.window_samples == 320
    assert not config("dw_striding", "striding").subsampling.is_separable
    assert config("conv_channels: 8", "conv_channels: -1").subsampling.channels == 32
    assert config("conv_norm_type: batch_norm", "conv_norm_type: layer_norm").conformer.conv_norm == "layer"  # fmt: skip
    biased = config("use_bias: false", "use_bias: true").conformer
    assert (biased.qkv_bias, biased.linear_bias, biased.conv_bias) == (True, True, True)


def family() -> Any:
    from auricle.catalogue.family import find_family

    return find_family("parakeet")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("ConformerEncoder", "SqueezeformerEncoder", "other encoders"),
        ("self_attention_model: rel_pos", "self_attention_model: abs_pos", "other attention"),
        ("  - -1\n  - -1", "  - 70\n  - 13", "limited view"),
        ("att_context_style: regular", "att_context_style: chunked_limited", "in chunks"),
        ("untie_biases: true", "untie_biases: false", "share"),
        ("causal_downsampling: false", "causal_downsampling: true", "both sides"),
        ("conv_context_size: null", "conv_context_size: causal", "both sides"),
        ("feat_out: -1", "feat_out: 16", "projections"),
        ("feat_in: 64", "feat_in: 80", "so many bands"),
        ("subsampling: dw_striding", "subsampling: vggnet", "one of dw_striding, striding"),
        ("window: hann", "window: blackman", "hann, hamming"),
        ("frame_splicing: 1", "frame_splicing: 3", "side by side"),
        ("sample_rate: 16000\n  normalize", "sample_rate: 8000\n  normalize", "16000"),
        ("normalize: per_feature", "normalize: {fixed_mean: [0]}", "fixed means"),
        ("d_model: 32", "d_model: ${model.width}", "d_model"),
        ("preprocessor:", "preprocessor: &a\n  a: *a\nother:", "aliases"),
        ("encoder:", "encoder: [", "not readable YAML"),
    ],
)
def test_what_is_not_implemented_is_refused(
    tmp_path: Path, old: str, new: str, reason: str
) -> None:
    with pytest.raises(CheckpointError, match=reason):
        load(changed(tmp_path / "model.nemo", old, new))


def without_weights(files: dict[str, bytes]) -> list[tarfile.TarInfo]:
    del files["./model_weights.ckpt"]
    return []


def linked(files: dict[str, bytes]) -> list[tarfile.TarInfo]:
    del files["./model_weights.ckpt"]
    link = tarfile.TarInfo("model_weights.ckpt")
    link.type, link.linkname = tarfile.SYMTYPE, str(NEST)
    return [link]


def doubled(files: dict[str, bytes]) -> list[tarfile.TarInfo]:
    files["model_config.yaml"] = b"{}"
    return []


def foreign(files: dict[str, bytes]) -> list[tarfile.TarInfo]:
    files["./model_weights.ckpt"] = b"\x80\x04cos\nsystem\n(S'true'\ntR."
    return []


def huge(files: dict[str, bytes]) -> list[tarfile.TarInfo]:
    files["./model_config.yaml"] = b"#" * (toolkits.MAX_CONFIG_BYTES + 1)
    return []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without_weights, "has no model_weights.ckpt"),
        (linked, "one whole file"),
        (doubled, "one whole file"),
        (foreign, "trust"),
        (huge, "expected at most"),
    ],
)
def test_hostile_archives_are_refused(
    tmp_path: Path, change: Callable[[dict[str, bytes]], list[tarfile.TarInfo]], reason: str
) -> None:
    files = members()
    others = change(files)
    with pytest.raises(CheckpointError, match=reason):
        load(archive(tmp_path / "model.nemo", files, *others))


def test_damaged_and_compressed_archives_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.nemo"
    whole = NEST.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="cut short|not a readable"):
        load(path)
    path.write_bytes(gzip.compress(whole))
    with pytest.raises(CheckpointError, match="gunzip"):
        load(path)
    monkeypatch.setattr(toolkits, "MAX_MEMBERS", 5)
    many = {str(index): b"" for index in range(6)}
    with pytest.raises(CheckpointError, match="members"):
        load(archive(path, many))


def test_a_folder_a_file_and_a_training_s_folder_are_one_encoder(tmp_path: Path) -> None:
    encoder = load(BESTRQ)
    assert encoder.family == "bestrq"
    assert gives_the_same(load(BESTRQ / "model.ckpt"), encoder)
    trained = tmp_path / "save" / "CKPT+2024"
    trained.mkdir(parents=True)
    shutil.copy(BESTRQ / "model.ckpt", trained)
    for path in (trained, trained / "model.ckpt"):
        with pytest.raises(CheckpointError, match=r"config\.json|hyperparams\.yaml"):
            load(path)
    shutil.copy(BESTRQ / "hyperparams.yaml", tmp_path)
    assert gives_the_same(load(trained), encoder)
    named = auricle.load("bestrq", checkpoint=trained / "model.ckpt")
    assert gives_the_same(named, encoder)
    given = auricle.load("bestrq", checkpoint=trained / "model.ckpt", config=encoder.config)
    assert gives_the_same(given, encoder)


def read_bestrq(tmp_path: Path, old: str, new: str) -> Any:
    text = (BESTRQ / "hyperparams.yaml").read_text()
    assert old in text
    config = tmp_path / "hyperparams.yaml"
    config.write_text(text.replace(old, new, 1))
    path = BESTRQ / "model.ckpt"
    checkpoint = read_checkpoint(path, family=None, provenance=Provenance(), config=config)
    return checkpoint.config


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("attention_type: RelPosMHAXL", "attention_type: regularMHA", "other attention"),
        ("encoder_module: conformer", "encoder_module: branchformer", "other encoders"),
        ("causal: False", "causal: True", "causal"),
        ("num_layers_per_block: 1", "num_layers_per_block: 2", "several convolutions"),
        ("residuals: (False, False)", "residuals: (True, False)", "residuals"),
        ("norm_type: sentence", "norm_type: global", "sentence"),
        ("    norm_type: sentence", "    std_norm: True", "sentence"),
        ("torch.nn.GELU", "torch.nn.Tanh", "conformer_activation Tanh"),
        ("lobes.features.Fbank", "lobes.features.MFCC", "no Fbank"),
        ("d_model: 32", "d_model: !ref <nhead> * 8", "d_model"),
        ("d_model: 32", "d_model: !ref <d_model>", "d_model"),
    ],
)
def test_other_recipes_are_refused(tmp_path: Path, old: str, new: str, reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        read_bestrq(tmp_path, old, new)


def test_options_of_a_recipe_act(tmp_path: Path) -> None:
    def config(old: str, new: str) -> BestRqConfig:
        read: BestRqConfig = read_bestrq(tmp_path, old, new)
        return read

    assert config("GELU", "SiLU").conformer.activation == "swish"
    assert config("    n_fft: !ref", "    win_length: 20\n    n_fft: !ref").features.window_samples == 320  # fmt: skip
    assert config("layerdrop: 0.0", "layerdrop: 0.05").conformer.layer_drop == 0.05
    assert not config("normalize: !new:speechbrain.processing.features.InputNormalization\n    norm_type: sentence", "other: 1").features.cmvn  # fmt: skip
    assert config("n_fft: 400", "n_fft: 512").features.fft_samples == 512


def test_yaml_builds_nothing_and_keeps_to_its_bounds(tmp_path: Path) -> None:
    text = b"a: !!python/object/apply:os.system [true]\n"
    with pytest.raises(CheckpointError, match="not readable YAML|could not determine"):
        parse_yaml(text.replace(b"[true]", b"'true'"), "text")
    values = parse_yaml(b"x: !new:os.system\n    a: (1, 2)\ny: !apply:f [1]\nz: !ref <y>\n", "text")
    assert values["x"] == {"a": [1, 2], "!": "!new:os.system"}
    assert values["z"] == [1]
    for bad in (b"[1]", b"", b"a: *b", b"a: [", b"\xff\xfe\xff", b"a: " + b"[" * 1_500):
        with pytest.raises(CheckpointError, match="text"):
            parse_yaml(bad, "text")


def test_rows_of_heads_are_put_in_order() -> None:
    rows = torch.arange(12.0).view(12, 1)  # two heads, each with two rows of q, of k and of v
    ordered = toolkits.in_our_layout(
        {"a.in_proj_weight": rows, "a.pos_bias_u": torch.arange(4.0).view(2, 2), "b": rows}, 2
    )
    assert ordered["a.in_proj_weight"].flatten().tolist() == [0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11]
    assert ordered["a.pos_bias_u"].tolist() == [[0, 1], [2, 3]]
    assert ordered["b"] is rows


def test_no_pre_emphasis_differs_from_an_absent_option(tmp_path: Path) -> None:
    shutil.copytree(GoldenCase("hf_parakeet_ctc").checkpoints[0], tmp_path / "hf")
    file = tmp_path / "hf" / "preprocessor_config.json"
    text = file.read_text()
    for old, new, share in (("0.97", "null", 0.0), ('"preemphasis": 0.97,', "", 0.97)):
        file.write_text(text.replace(old, new))
        config = load(tmp_path / "hf").config
        assert isinstance(config, ParakeetConfig)
        assert config.features.preemphasis == share
