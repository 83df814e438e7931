from __future__ import annotations

import dataclasses
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from auricle.errors import CheckpointError, ExtractionError
from auricle.extraction.local import LocalEngine
from auricle.extraction.plan import Limits, Timed, plan_shards
from auricle.extraction.ray_engine import RayEngine, actors
from auricle.extraction.reading import utterance_seconds
from auricle.extraction.selection import Selection
from auricle.extraction.store.layout import ShardKey
from auricle.extraction.store.reader import open as open_store
from auricle.extraction.utterances import Utterance
from auricle.extraction.work import Shard, Work
from auricle.models.base import Encoder

pytest.importorskip("ray")

# Ray warns of options of its own that it reads itself (2.60).
pytestmark = pytest.mark.filterwarnings(r"ignore:`\w+` is deprecated:DeprecationWarning")


@pytest.mark.parametrize(
    ("num_cpus", "num_gpus", "num_shards", "wanted", "expected"),
    [
        (16, 0, 100, None, (15, 1.0)),
        (16, 4, 100, None, (4, 1.0)),
        (4, 8, 100, None, (8, 0.25)),
        (16, 0, 3, None, (3, 1.0)),
        (16, 0, 100, 2, (2, 1.0)),
        (2, 0, 100, 5, (1, 1.0)),
        (1, 0, 100, None, (1, 0.5)),
    ],
)
def test_actors_never_take_all_cpus(
    num_cpus: int, num_gpus: int, num_shards: int, wanted: int | None, expected: tuple[int, float]
) -> None:
    count, options = actors(num_shards, num_cpus=num_cpus, num_gpus=num_gpus, wanted=wanted)
    assert (count, options["num_cpus"]) == expected
    assert count * options["num_cpus"] < num_cpus
    assert options["num_gpus"] == bool(num_gpus)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    import ray

    # Actors cannot import this file, so what they need of it goes to them.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    ray.init(num_cpus=3, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    yield
    ray.shutdown()


@dataclasses.dataclass(frozen=True, kw_only=True)
class DyingSelection(Selection):
    """Kills the process that comes to its second batch first, once."""

    folder: Path
    calls: list[int] = dataclasses.field(default_factory=list)

    def run(self, *args: Any, **options: Any) -> Any:
        self.calls.append(1)
        if len(self.calls) == 2:
            try:
                (self.folder / "killed").touch(exist_ok=False)
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        return super().run(*args, **options)


def refuse(*, device: str) -> Encoder:
    raise CheckpointError(f"nothing loads on {device}")


@pytest.fixture
def shards(corpus: list[Utterance]) -> list[Shard]:
    Path(corpus[2].source).write_bytes(b"no audio at all")
    seconds = [1.0 if isinstance(s, Exception) else s for s in utterance_seconds(corpus, 1)]
    timed = [Timed(utterance=u, seconds=s) for u, s in zip(corpus, seconds, strict=True)]
    plans = plan_shards(timed, lambda _: 0, Limits(batch_seconds=3, shard_seconds=2))
    return [Shard(key=ShardKey(0, plan.number), plan=plan) for plan in plans]


@pytest.mark.usefixtures("cluster")
def test_two_actors_one_of_which_is_killed_write_what_one_process_does(
    shards: list[Shard], make_work: Callable[..., Work], tmp_path: Path
) -> None:
    written: list[dict[str, bytes]] = []
    for name, engine in (("local", LocalEngine(("cpu",))), ("ray", RayEngine(num_actors=2))):
        work = make_work(tmp_path / name)
        if name == "ray":
            dying = DyingSelection(layers=work.selection.layers, folder=tmp_path)
            work = dataclasses.replace(work, selection=dying)
        seconds: list[float] = []
        failures: list[Any] = []
        stages = engine(work, shards, advance=seconds.append, fail=failures.append)
        work.writer.close()
        assert sum(seconds) == pytest.approx(sum(shard.plan.seconds for shard in shards))
        assert [failure.utterance.id for failure in failures] == ["s2/u2"]
        assert stages.encoding > 0
        store = open_store(tmp_path / name)
        written.append({id_: store[id_].numpy().tobytes() for id_ in store.ids})
    assert (tmp_path / "killed").exists()
    assert len(written[0]) == 11
    assert written[0] == written[1]


@pytest.mark.usefixtures("cluster")
def test_what_an_actor_raises_is_raised(
    shards: list[Shard], make_work: Callable[..., Work], tmp_path: Path
) -> None:
    work = dataclasses.replace(make_work(tmp_path / "out"), load=refuse)
    with pytest.raises(ExtractionError, match="nothing loads on cpu"):
        RayEngine()(work, shards, advance=lambda _: None, fail=lambda _: None)
