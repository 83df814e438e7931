"""Plug-ins: the worked example, installed for real, and every way one can be broken."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import auricle
from auricle import optional
from auricle.catalogue import search
from auricle.catalogue.family import find_family
from auricle.errors import CheckpointError, PlugInError, UnknownModelError
from auricle.hub.location import looks_like_path

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "plug_in"
CODE = "src/auricle_tiny_mel"


def install(target: Path, source: Path = EXAMPLE) -> None:
    """What `pip install` does, into a folder of its own and without a network."""
    copy = target.with_name(f"{target.name}-source")  # a build may leave files behind
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
    command = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index",
               "--no-build-isolation", "--no-compile", "--disable-pip-version-check", "--target", target, copy)  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("plug_in") / "site"
    install(target)
    return target


@pytest.fixture
def site(installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The installed example, a copy that the test may damage, on this process's path."""
    folder = tmp_path / "site"
    shutil.copytree(installed, folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # what is edited is to be read again
    yield folder
    for name in [name for name in sys.modules if name.startswith("auricle_tiny_mel")]:
        del sys.modules[name]


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Installed packages are looked at once in a process; here they change from test to test."""
    optional.plug_ins.cache_clear()
    yield
    optional.plug_ins.cache_clear()


def in_new_process(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "AURICLE_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join((str(site), str(ROOT / "src")))
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment
    )


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_the_page_shows_the_example_as_it_is() -> None:
    page = (ROOT / "docs" / "plug-ins.md").read_text()
    names = ["pyproject.toml", *(f"{CODE}/{n}.py" for n in ("__init__", "encoder", "converter"))]
    for name in names:
        language = "toml" if name.endswith("toml") else "python"
        assert f"`{name}`:\n\n```{language}\n{(EXAMPLE / name).read_text()}```\n" in page
    files = {
        str(path.relative_to(EXAMPLE))
        for path in EXAMPLE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert files == {*names, f"{CODE}/pretrained/tiny_mel_demo.safetensors"}


def test_the_example_lists_loads_and_extracts(installed: Path) -> None:
    """All of it in one new process, as starting Python is what takes long."""
    done = in_new_process(
        installed,
        "-c",
        """
import sys, torch, auricle
from auricle.__main__ import main
auricle.load("fbank")
assert not [name for name in sys.modules if name.startswith("auricle_tiny_mel")]
assert main(["list", "--offline", "tiny*"]) == 0
assert not [name for name in sys.modules if name.startswith("auricle_tiny_mel.")]
assert main(["info", "tiny_mel"]) == 0
frames, = auricle.load("tiny_mel")([torch.randn(8000)])
print("frames", *frames.shape)
""",
    )
    assert done.returncode == 0, done.stderr
    assert "tiny_mel_demo  -      mel    none              bundled" in done.stdout
    assert "size of the weights  5,728 bytes" in done.stdout
    assert "parameters           1,296" in done.stdout
    assert "frames 51 16" in done.stdout
    assert done.stderr == ""


def test_a_family_of_a_plug_in_is_like_any_other(site: Path, tmp_path: Path) -> None:
    encoder = auricle.load("tiny_mel_demo")
    assert encoder.info.family == "tiny_mel"
    assert encoder.info.licence == "Apache-2.0"
    assert "tiny_mel_demo" in auricle.list_models("tiny_mel")
    assert auricle.list_models(family="tiny_mel") == ["tiny_mel_demo"]
    assert auricle.list_sizes()["tiny_mel_16"] == "tiny_mel"
    assert auricle.build("tiny_mel_16").config == encoder.config
    assert auricle.build("tiny_mel").config == encoder.config
    assert auricle.build(encoder.config).info.family == "tiny_mel"
    encoder.save(tmp_path / "own.safetensors")
    again = auricle.load(tmp_path / "own.safetensors")
    wav = torch.randn(4_000, generator=torch.Generator().manual_seed(1))
    assert torch.equal(again([wav])[0], encoder([wav])[0])
    with pytest.raises(UnknownModelError, match="close matches: tiny_mel_demo"):
        auricle.load("tiny_mel_dem")
    assert not looks_like_path("tiny_mel")


def test_a_checkpoint_in_a_format_of_its_own_is_recognised(site: Path, tmp_path: Path) -> None:
    weights = {
        "proj.weight": torch.randn(8, 80),
        "proj.bias": torch.randn(8),
        "head.x": torch.ones(1),
    }
    path = tmp_path / "tiny.pt"
    torch.save({"tiny_mel_dim": 8, "weights": weights}, path)
    for encoder in (auricle.load(path), auricle.load("tiny_mel", checkpoint=path)):
        assert encoder.info.family == "tiny_mel"
        assert encoder.unused_keys == ("head.x",)
        assert torch.equal(encoder.state_dict()["projection.weight"], weights["proj.weight"])
    with pytest.raises(
        CheckpointError, match="do not fit the tera encoder: none has a name that it knows"
    ):
        auricle.load("tera", checkpoint=path)


def test_formats_that_fail_do_not_hide_what_is_wrong(
    site: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    edit(site / "auricle_tiny_mel" / "converter.py", '"tiny_mel_dim" in content', "content.nothing")
    path = tmp_path / "strange.pt"
    torch.save({"strange": 1}, path)
    with pytest.raises(CheckpointError, match="layout is not one of .*tiny-mel"):
        auricle.load(path)
    assert "auricle-tiny-mel 0.1.0, entry point tiny_mel" in caplog.text


INIT = "auricle_tiny_mel/__init__.py"
ENTRY_POINTS = "auricle_tiny_mel-0.1.0.dist-info/entry_points.txt"
LABEL = r"auricle-tiny-mel 0.1.0, entry point {} = auricle_tiny_mel:\w+ of auricle\.{}"


@pytest.mark.parametrize(
    ("file", "old", "new", "group", "reason"),
    [
        (INIT, '"""A family', 'import nothing_like_it\n"""A', "families", "ModuleNotFoundError"),
        (INIT, '"""A family', '1 / 0\n"""A', "records", "ZeroDivisionError: division by zero"),
        (INIT, 'stem="tiny_mel"', 'stem="big_mel"', "families", "stem is 'big_mel'"),
        (INIT, 'encoder="auricle_tiny_mel.encoder:TinyMel",', "", "families", "argument 'encoder'"),
        (ENTRY_POINTS, "tiny_mel = auricle_tiny_mel:FAMILY", "tiny_mel = auricle_tiny_mel:DEMO",
         "families", "it is a Record, expected auricle.catalogue.family.Family"),
        (INIT, 'family="tiny_mel"', 'family="no_mel"', "records", "no family is called 'no_mel'"),
        (INIT, 'name="tiny_mel_demo"', 'name="other"', "records", "is called other, tiny_mel"),
        (INIT, 'aliases=("tiny_mel",)', 'aliases=("tiny_mel", "tera")', "records",
         "name tera, which a model of the library has"),
        (INIT, 'aliases=("tiny_mel",)', 'aliases=("tiny_mel", "mine")', "records",
         "name mine without an entry point"),
        (INIT, "urls=()", 'urls=("https://x/y.pt",)', "records", "is bundled .*, so it needs"),
        (INIT, "urls=()", 'urls="https://x/y.pt"', "records", "expected a tuple"),
        (INIT, "urls=()", 'urls=("http://x/y.pt",)', "records", "neither https: nor hf:"),
        (INIT, 'package="auricle_tiny_mel"', 'package="gone"', "records", "gone, which is not inst"),
        (INIT, 'sha256="65', 'sha256="XY', "records", "lower-case hex"),
        (INIT, 'licence="A', 'num_bytes=0, licence="A', "records", "has num_bytes=0"),
    ],
)  # fmt: skip
def test_a_broken_plug_in_is_named_and_breaks_nothing_else(
    site: Path, caplog: pytest.LogCaptureFixture,
    file: str, old: str, new: str, group: str, reason: str,
) -> None:  # fmt: skip
    edit(site / file, old, new)
    name = "tiny_mel" if group == "families" else "tiny_mel_demo"
    with pytest.raises(PlugInError, match=f"{LABEL.format(name, group)}.*{reason}"):
        find_family(name) if group == "families" else auricle.load(name)
    names = auricle.list_models()
    assert "tera_960hr" in names
    assert "tiny_mel_demo" not in names
    assert "auricle-tiny-mel 0.1.0, entry point" in caplog.text
    assert auricle.load("fbank").info.name == "fbank"
    assert "tera_base" in auricle.list_sizes()


def test_a_broken_encoder_is_reported_when_it_is_asked_for(site: Path) -> None:
    path = site / "auricle_tiny_mel" / "encoder.py"
    whole = path.read_text()
    for old, new, reason in (
        (
            "class TinyMelConfig",
            "import nothing_like_it\n\n\nclass TinyMelConfig",
            "ModuleNotFoundError",
        ),
        ("class TinyMel(FeatureEncoder)", "class Other(FeatureEncoder)", "has no TinyMel"),
        ("class TinyMel(FeatureEncoder)", "class TinyMel(dict)", "must be a subclass"),
    ):
        edit(path, old, new)
        sys.modules.pop("auricle_tiny_mel.encoder", None)
        assert "tiny_mel_demo" in auricle.list_models()
        with pytest.raises(PlugInError, match=f"auricle-tiny-mel 0.1.0, .*{reason}"):
            auricle.load("tiny_mel_demo")
        path.write_text(whole)


def second(site: Path, name: str, entry_points: str) -> None:
    """Another distribution beside the example."""
    folder = site / f"{name}-2.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.0\n")
    (folder / "entry_points.txt").write_text(entry_points)


def test_names_that_clash_belong_to_nobody_but_the_library(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    second(site, "rival", "[auricle.records]\ntiny_mel_demo = rival:A\ntera = rival:B\nmine = rival:C\n"
           "[auricle.families]\napc = rival:D\n")  # fmt: skip
    assert search.find("tera").name == "tera_960hr"
    with pytest.raises(
        PlugInError, match="several .* tiny_mel_demo: auricle-tiny-mel 0.1.0.*rival 2.0"
    ):
        auricle.load("tiny_mel_demo")
    with pytest.raises(PlugInError, match="rival 2.0, entry point mine .* ModuleNotFoundError"):
        auricle.load("mine")
    from auricle.__main__ import main

    assert main(["list", "*mel*"]) == 0
    warnings = capsys.readouterr().err.splitlines()
    assert all(line.startswith("auricle: warning: ") for line in warnings)
    for expected in ("several plug-ins are called tiny_mel_demo", "a family apc of its own",
                     "a model tera of its own", "entry point mine"):  # fmt: skip
        assert sum(expected in line for line in warnings) == 1


def test_damaged_metadata_of_a_package_leaves_the_library_whole(
    site: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.metadata

    def fail(**_: object) -> None:
        raise TypeError("a line without =")

    monkeypatch.setattr(importlib.metadata, "entry_points", fail)
    assert "tera_960hr" in auricle.list_models()
    assert "cannot be read, so there are no plug-ins: TypeError: a line without =" in caplog.text


def test_a_file_of_a_plug_in_that_is_gone_says_so(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auricle.load("tiny_mel").save(tmp_path / "own.safetensors")
    shutil.rmtree(site / "auricle_tiny_mel-0.1.0.dist-info")
    optional.plug_ins.cache_clear()
    with pytest.raises(CheckpointError, match="neither this version nor a plug-in"):
        auricle.load(tmp_path / "own.safetensors")
