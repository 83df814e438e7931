"""What all tests share: property tests without a stop watch, on machines that are busy; tiny stretches."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Generator, Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

settings.register_profile("untimed", deadline=None)
settings.register_profile("whole", deadline=None, max_examples=400)

if "PYTEST_XDIST_WORKER" in os.environ:
    # Threads of several workers would wait for each other at every small product.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As a shell leaves it to what it starts in the background: no test of Ctrl-C would hear of it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "run in whole what is sampled otherwise, and compare with slow references"
    parser.addoption("--whole", action="store_true", help=text)


FOLDER = Path(__file__).parent

SLOW = (
    "extraction/test_engines.py",
    "explore/test_page",
    "docs",
    "contract",
    "golden/test_mutations.py",
    "extraction/test_run",
    "extraction/test_engines_local.py",
    "plotting/test_picture.py",
    "test_wheel.py",
    "test_fine_tuning.py",
    "cli/test_pictures_compare.py",
    "inference/test_session.py",
    "nn/test_conv_stack.py",
    "objectives/test_base.py",
    "training/test_trainer.py",
    "golden/test_golden.py",
    "plotting/test_api.py",
    "hub/test_conversions_processes.py",
    "extraction/test_extract.py",
    "extraction/test_extract_units.py",
    "extraction/test_streams.py",
    "extraction/test_worker.py",
    "extraction/test_pipeline.py",
    "checkpoints/pickle/test_unpickle_damage.py",
    "checkpoints/pickle/test_unpickle_fuzz.py",
    "cli/test_training.py",
    "test_docs_site.py",
    "checkpoints/test_checkpoint",
    "models/test_predictive_coding.py",
    "nn/test_conv_features.py",
    "inference/test_approximate_precision.py",
    "models/test_pase.py",
    "test_imports.py",
    "inference/test_approximate.py",
    "explore/test_drawing.py",
    "test_optional_plug_ins.py",
    "tools/test_compare_versions.py",
    "cli/test_extract.py",
    "files/test_atomic.py",
    "models/test_outputs_layer_choice.py",
    "training/test_targets.py",
    "units/test_fit.py",
)
"""Files and folders that take seconds, the longest first: begun first, and not quick."""

QUICK = ("golden/test_golden.py",)
"""Those of them that are quick all the same: what they test is what most changes put at risk."""

SPREAD = (
    "contract/test_contract.py",
    "contract/test_modules.py",
    "docs/test_snippets.py",
    "golden/test_golden.py",
    "golden/test_mutations.py",
)
"""Files whose cases go to any worker; those of the others share fixtures, and one worker."""


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("whole" if config.getoption("--whole") else "untimed")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect the tests; they and what they import stay, and are not gone through for garbage."""
    gc.disable()
    result = yield
    gc.freeze()
    gc.enable()
    return result


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--whole"):
        left_out = {item for item in items if item.get_closest_marker("whole")}
        config.hook.pytest_deselected(items=[*left_out])
        items[:] = [item for item in items if item not in left_out]
    ranks = {item: _rank(item.path) for item in items}
    for item, (rank, is_quick) in ranks.items():
        if rank < len(SLOW) and not is_quick:
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: ranks[item][0])


@cache
def _rank(path: Path) -> tuple[int, bool]:
    """Place of a file among the slow ones, or that after them, and whether it is quick all the same."""
    name = path.relative_to(FOLDER).as_posix()
    rank = next((rank for rank, slow in enumerate(SLOW) if name.startswith(slow)), len(SLOW))
    return rank, name in QUICK


class GroupScheduling(LoadScopeScheduling):
    """Distribution of tests over workers by group; a free worker takes the next group.

    pytest-xdist's own `loadgroup` groups nothing with pytest 9.2, whose items ignore the suffix
    that it appends to their identifiers.
    """

    def _split_scope(self, nodeid: str) -> str:
        """Group of a test: its file, or the cases of one encoder or page in files of `SPREAD`."""
        file, _, name = nodeid.partition("::")
        if file.startswith("tests/explore/test_page"):
            return "tests/explore/test_page"  # which share a server
        is_spread = file.removeprefix("tests/") in SPREAD
        return f"{file}[{name.partition('[')[2]}" if is_spread and "[" in name else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """As many as there are processors; pytest-xdist counts cores, where psutil is installed."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> GroupScheduling:
    return GroupScheduling(config, log)


@pytest.fixture(scope="session")
def is_whole(request: pytest.FixtureRequest) -> bool:
    """Whether all of what a test samples is wanted, as `make test-all` does."""
    return bool(request.config.getoption("--whole"))


@pytest.fixture(autouse=True)
def own_accelerator() -> Iterator[None]:
    """Accelerate keeps to the first precision of a process: each test has a first one."""
    yield
    if state := sys.modules.get("accelerate.state"):
        state.AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def forked_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that a run starts are forks of the server of `forks`, so that torch is there.

    The library starts Python anew for each, as do the runs of tests/extraction/test_run_killed.py.
    """
    from torch import multiprocessing

    from forks import server_context

    contexts = {"spawn": server_context()}
    get_context = multiprocessing.get_context
    monkeypatch.setattr(
        multiprocessing, "get_context", lambda name=None: contexts.get(name) or get_context(name)
    )


@pytest.fixture
def undrawn_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings of this process leave their picture out, which takes longer than a few steps do."""
    from auricle.training import trainer

    monkeypatch.setattr(trainer, "save_curves", lambda *_: None)


@pytest.fixture
def not_laid_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare tests of what is drawn the layout, which takes longest."""
    from matplotlib.figure import Figure

    monkeypatch.setattr(Figure, "draw_without_rendering", lambda _: None)


@pytest.fixture(params=["whole", "stretches", "nothing held"])
def any_stretch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs a test three times: as it is, with tiny stretches, and with no layer held on the way."""
    if request.param == "whole":
        yield
        return
    import torch

    from auricle.nn import conv_stack
    from auricle.nn.cpu import policy

    monkeypatch.setattr(policy, "MAX_CHUNK_BYTES", 300)
    if request.param == "nothing held":
        monkeypatch.setattr(conv_stack, "HELD_BYTES", 0)
    with torch.no_grad():
        yield
