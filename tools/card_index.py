"""Pages about all bundled encoders: the index of the cards, and the section of the README."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from card_pages import ATTRIBUTION, joined, steps_option, table
from card_sources import BASELINE, BASELINES, TASKS, Mini, Sources

from auricle.catalogue.record import DEFAULT_MODEL
from auricle.probing.abx_report import abx_table
from auricle.probing.report import NOTHING, LayerResult, ProbeResult, markdown_table, percent

PHONES_POINTS = 8.0
"""Points of accuracy that a mini should have over the baseline on phones."""

CLEAR_POINTS = 5.0
"""A clear margin: over twice the standard error of the accuracy in the 480 test words."""

SHORTFALL_POINTS = 1.0
"""Points of accuracy below the baseline from which a task is listed as a shortfall."""

READING = (
    "Accuracy of linear probes in percent, for each task of the best layer (its name in brackets) "
    "and of the default one."
)
HEARD = (
    "The utterances of the phone probe are part of the minis' training audio, without their phone "
    "labels{but}. Words and speakers of the other probes are not."
)
DATA = "corpora/librispeech/train"
DATA_WITHOUT_PHONES = f"{DATA}/[!12]* {DATA}/[12]??*"
"""All speakers but 19, 26 and 27, whose utterances the phone probe takes."""


def readme_part(sources: Sources) -> str:
    """Section of the README between its markers; empty if no encoder is bundled."""
    if not sources.minis:
        return ""
    lines = [
        f"{_ships(sources.minis)} Accuracies of linear probes, shortfalls and a card for each "
        "encoder: [docs/models](docs/models/README.md).",
    ]
    return joined([lines])


def index(sources: Sources) -> str:
    """The page over all cards."""
    sections = (
        ["# Small bundled encoders", "", _ships(sources.minis)],
        _table(sources),
        _against_baseline(sources),
        _falls_short(sources),
        *([abx_part(sources, "")] if sources.abx else ()),
        _how_measured(sources),
        _again(sources),
        ["## Licence", "", "CC BY 4.0, as the speech they were trained on.", "", ATTRIBUTION],
    )
    return joined(sections)


def _ships(minis: Sequence[Mini]) -> str:
    megabytes = sum(mini.num_bytes for mini in minis) / 1e6
    hours = max(mini.audio.hours for mini in minis)
    return (
        f"{len(minis)} small encoders ({megabytes:.1f} MB together) are bundled and need no "
        f'network: `auricle.load("{DEFAULT_MODEL}")`. Each was pretrained with its family\'s own '
        f"loss on up to {hours:.1f} hours of LibriSpeech, for trying out, testing and teaching. "
        'The published models are better: `auricle.load("tera")` downloads one, and `auricle list` '
        "lists them."
    )


def _table(sources: Sources) -> Iterator[str]:
    yield from ("## Table", "", READING, "")
    yield from _linked(markdown_table(sources.results), sources.minis, "")
    speakers = sources.baselines[BASELINE]["speakers"].best.accuracy
    heard = HEARD.format(but=_but_unheard(sources, ", but not of that of"))
    yield ""
    yield (
        "The best layer is the one of the highest accuracy on the test itself; the default layer "
        f"does not depend on the results. {heard} Each speaker has a microphone and a room of "
        f"their own, by which `{BASELINE}` identifies {percent(speakers)} % of the utterances: "
        "that task shows what an encoder loses rather than what it gains."
    )


def _but_unheard(sources: Sources, but: str) -> str:
    """` but` and the minis that have not heard the utterances of the phone probe; empty if none."""
    names = [f"`{mini.name}`" for mini in sources.minis if not mini.has_heard_phones]
    return f"{but} {' and '.join(names)}" if names else ""


def _linked(lines: Sequence[str], minis: Sequence[Mini], folder: str) -> list[str]:
    """The table with every mini's name a link to its card in `folder`."""
    linked = list(lines)
    for mini in minis:
        start, link = f"| `{mini.name}` |", f"| [`{mini.name}`]({folder}{mini.name}.md) |"
        linked = [line.replace(start, link, 1) for line in linked]
    return linked


def gain(
    result: ProbeResult,
    sources: Sources,
    *,
    layer: LayerResult | None = None,
    over: str = BASELINE,
) -> float:
    """Points of accuracy that a layer, the best one where none is given, has over a baseline."""
    layer = layer or result.best
    baseline = sources.baselines[over][result.task].best
    return 100 * (layer.accuracy - baseline.accuracy)


def best_gains(mini: Mini, sources: Sources) -> dict[str, float]:
    """Gains of a mini's best layers, by task."""
    return {task: gain(mini.results[task], sources) for task in TASKS}


def _against_baseline(sources: Sources) -> Iterator[str]:
    yield from (f"## Against `{BASELINE}`", "", _in_sum(sources), "")
    yield f"Points of accuracy over `{BASELINE}`:"
    yield ""
    rows = []
    for mini in sorted(sources.minis, key=lambda mini: -gain(mini.results["phones"], sources)):
        cells = [f"[`{mini.name}`]({mini.name}.md)"]
        for task in TASKS:
            result = mini.results[task]
            cells.append(_signed(gain(result, sources)))
            default = result.default
            cells.append(
                NOTHING if default is None else _signed(gain(result, sources, layer=default))
            )
        rows.append(cells)
    header = ["model", *(f"{task}, {which}" for task in TASKS for which in ("best", "default"))]
    yield from table(header, rows, num_text=1)


def _in_sum(sources: Sources) -> str:
    """Number of encoders above each baseline, in two sentences."""
    total = len(sources.minis)
    phones = [mini.results["phones"] for mini in sources.minis]
    ahead, ahead_by_default = [], []
    for name in BASELINES:
        best = sum(gain(result, sources, over=name) >= PHONES_POINTS for result in phones)
        default = sum(
            result.default is not None
            and gain(result, sources, layer=result.default, over=name) >= PHONES_POINTS
            for result in phones
        )
        ahead.append(f"{best} of {total} beat `{name}`")
        ahead_by_default.append(str(default))
    clear = sum(max(best_gains(mini, sources).values()) >= CLEAR_POINTS for mini in sources.minis)
    return (
        f"On phones {' and '.join(ahead)} by {PHONES_POINTS:g} points or more with their best "
        f"layer, {' and '.join(ahead_by_default)} with their default one; {clear} of {total} beat "
        f"`{BASELINE}` on at least one task by {CLEAR_POINTS:g} points or more."
    )


def _falls_short(sources: Sources) -> Iterator[str]:
    yield from ("## What falls short", "")
    lines = [line for mini in sources.minis for line in shortfalls(mini, sources)]
    yield from lines or [
        f"Every best layer has {PHONES_POINTS:g} points or more over `{BASELINE}` on phones, and "
        f"none is {SHORTFALL_POINTS:g} point or more below it on any task."
    ]


def shortfalls(mini: Mini, sources: Sources) -> Iterator[str]:
    """A line of a list on where a mini's best layers do too little, with what is noted about it."""
    gains = best_gains(mini, sources)
    reasons = []
    if gains["phones"] < PHONES_POINTS:
        reasons.append(
            f"{_signed(gains['phones'])} points on phones, where {PHONES_POINTS:g} were asked for"
        )
    if max(gains.values()) < CLEAR_POINTS:
        reasons.append(f"no task by {CLEAR_POINTS:g} points or more")
    reasons += [
        f"{-points:.1f} points below `{BASELINE}` on {task}"
        for task, points in gains.items()
        if points <= -SHORTFALL_POINTS
    ]
    if reasons:
        note = f" {' '.join(mini.note.split())}" if mini.note else ""
        yield f"- [`{mini.name}`]({mini.name}.md): {'; '.join(reasons)}.{note}"


def abx_part(sources: Sources, folder: str) -> Iterator[str]:
    """Section on ABX, with links to the cards in `folder`."""
    first = sources.abx[0]
    yield from ("## ABX of phones", "")
    yield (
        "How often, in percent, a phone is nearer to another phone than to itself said again, in "
        "the same context, within and across speakers: less is better, and nothing is trained. The "
        f"best layer is the one with the fewest errors across speakers. {first.num_items:,} phones "
        f"of {first.num_speakers} speakers, whose utterances the minis"
        f"{_but_unheard(sources, ' but')} have heard without labels. "
        "[How it is measured](../probing.md#abx)."
    )
    yield ""
    yield from _linked(abx_table(sources.abx), sources.minis, folder)
    yield from ("", "![ABX error of every layer](probes/abx.png)", "")
    yield (
        "All numbers: [JSON](probes/abx.json), of the items in [abx.item](probes/abx.item), which "
        "come from an automatic forced alignment of the LibriSpeech chapters 19-198, 26-496 and "
        "27-123349."
    )


def _how_measured(sources: Sources) -> Iterator[str]:
    yield from ("## How the numbers were made", "")
    yield (
        "`auricle probe` trained a linear classifier on each frozen layer, with the same settings "
        "for every model, layer and task: [Probing](../probing.md). Each result states the sha256 "
        "of the weights that it was measured on, and the tests compare it with the file in the "
        "package. The settings of some recipes (learning rates, lengths of crops, negatives, the "
        "front end of the masked ones) were chosen with the phone probe on a third of its "
        "utterances in view, so the phones flatter a little; words and speakers had no part in it."
    )
    yield ""
    yield from table(
        (
            "task",
            "labels",
            "most frequent label",
            "folds",
            "training, test examples",
            "all numbers",
        ),
        [_task_row(sources.baselines[BASELINE][task]) for task in TASKS],
    )
    yield ""
    for task in TASKS:
        yield f"![Accuracy of every layer on {task}](probes/{task}.png)"
    settings = sources.settings[TASKS[0]]
    versions = ", ".join(f"{name} {version}" for name, version in settings.versions.items())
    yield from (
        "",
        f"Measured with {versions}: {settings.classifier}, penalty {settings.penalty:g}.",
    )


def _task_row(result: ProbeResult) -> Sequence[str]:
    layer = result.best
    return (
        result.task,
        str(result.num_classes),
        f"{100 * result.majority_accuracy:.1f} %",
        str(len(result.folds)),
        f"{layer.num_train:.0f}, {layer.num_test:.0f}",
        f"[JSON](probes/{result.task}.json)",
    )


def _again(sources: Sources) -> Iterator[str]:
    names = [mini.name for mini in sources.minis]
    yield "## Making them again"
    yield ""
    yield (
        "`corpora/` holds `librispeech` and `arabic_words` as [Probing](../probing.md) describes "
        "them; [Pretraining](../pretraining.md) says when a training gives the same weights again, "
        "bit for bit. Each is resumed by the same command."
    )
    yield from ("", "```sh", "pip install -e '.[train,probe]'", "export OMP_NUM_THREADS=1")
    for mini in sources.minis:
        steps = f" {option}" if (option := steps_option(mini)) else ""
        data = DATA if mini.has_heard_phones else DATA_WITHOUT_PHONES
        yield (
            f"auricle pretrain recipes/mini/{mini.recipe_stem}.toml --data {data} "
            f"--out runs/{mini.name} --cache-audio{steps}"
        )
    yield from ("```", "", "Copy weights and logs, and write the digests into the records in")
    yield from ("`src/auricle/catalogue/families/`:", "", "```sh")
    yield f"for name in {' '.join(names)}; do"
    yield "    cp runs/$name/$name.safetensors src/auricle/pretrained/"
    yield "    cp runs/$name/metrics.jsonl docs/models/training/$name.jsonl"
    yield from ("done", "sha256sum src/auricle/pretrained/*.safetensors", "```", "")
    yield "Probe them, in one run or in several, and write the cards:"
    yield from ("", "```sh", f"auricle probe --models {','.join([*names, *BASELINES])} \\")
    yield f"    --task {','.join(TASKS)} --data corpora --out docs/models/probes"
    if sources.abx:
        yield f"auricle probe --models {','.join([*names, *BASELINES])} --task abx \\"
        yield "    --items docs/models/probes/abx.item --data corpora/librispeech/train \\"
        yield "    --out docs/models/probes"
    yield from ("make cards", "```", "")
    yield (
        "What only a person can know of an encoder, such as why it falls short, goes into "
        "`docs/models/notes/NAME.md` and from there onto its card and into the list above. "
        "`python tools/model_cards.py --check` says whether everything is current."
    )


def _signed(points: float) -> str:
    return f"{points:+.1f}"
