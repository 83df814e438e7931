"""The page of one embedded encoder as Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence

from card_sources import BASELINE, TASKS, Mini, Sources

from auricle.catalogue.family import FAMILIES
from auricle.catalogue.record import Record
from auricle.catalogue.search import find, list_models
from auricle.info import SAMPLE_RATE
from auricle.probing.abx_report import AbxResult
from auricle.probing.report import NOTHING, LayerResult, ProbeResult, percent
from auricle.training.recipe import parse_recipe

ATTRIBUTION = (
    "Attribution: LibriSpeech, (c) 2014 Vassil Panayotov, "
    "[CC BY 4.0](https://creativecommons.org/licenses/by/4.0/); V. Panayotov, G. Chen, D. Povey, "
    'S. Khudanpur, "LibriSpeech: an ASR corpus based on public domain audio books", ICASSP 2015.'
)
PHONES_ARE_HEARD = (
    "The utterances of the phone probe are part of the training audio: the encoder has heard them, "
    "without their phones. Words and speakers it has never heard."
)
PHONES_ARE_UNHEARD = (
    "No utterance and no speaker of the probes is part of the training audio; those of the phone "
    "probe are part of that of the encoders whose units it predicted."
)
WIDTH = 100
"""Columns of a line of prose."""

INPUTS = {
    "mel": "waveforms at 16 kHz, of which it computes log mel bands itself",
    "wave": "waveforms at 16 kHz",
}


def page(mini: Mini, sources: Sources) -> str:
    """The whole card of an encoder."""
    sections = (
        _head(mini),
        _facts(mini),
        _use(mini.name),
        _data(mini),
        _training(mini),
        _probes(mini, sources),
        [f"## Notes\n\n{mini.note}"] if mini.note else [],
        _limits(mini),
        _recipe(mini),
    )
    return joined(sections)


def _head(mini: Mini) -> Iterator[str]:
    paper = mini.record.paper
    assert paper is not None, "only baselines have no paper"
    yield f"# `{mini.name}`"
    yield ""
    yield (
        f"A small {mini.record.title} encoder ([{paper.title}]({paper.url}), {paper.date}) that "
        f"ships with auricle and works offline. It learnt from {mini.audio.hours:.1f} hours of "
        "read English."
    )
    yield "[All small encoders](README.md)."


def _facts(mini: Mini) -> Iterator[str]:
    info, family = mini.encoder.info, FAMILIES[mini.record.family]
    field = info.receptive_field
    beyond = [
        words
        for words, holds in (
            ("all that went before", field.sees_past and not field.looks_ahead),
            ("the whole utterance", field.looks_ahead),
            ("statistics of the whole utterance", field.uses_utterance_statistics),
        )
        if holds
    ]
    seen = " and ".join([f"{_milliseconds(field.samples)} ms", *beyond])
    yield from ("## What it is", "")
    yield from table(
        ("", ""),
        [
            ("family", f"{mini.record.title} (`{mini.record.family}`)"),
            ("loss", family.loss),
            ("input", INPUTS[family.input]),
            ("parameters", f"{info.num_parameters:,}"),
            ("file", f"{mini.num_bytes / 1e6:.1f} MB, {mini.weights_type}"),
            ("sha256", f"`{mini.record.sha256}`"),
            ("layers", _layers(mini)),
            ("frames", f"{SAMPLE_RATE / info.hop_samples:g} a second (default layer)"),
            ("a frame sees", seen),
            ("shortest waveform", f"{info.min_samples} samples"),
        ],
    )


def _layers(mini: Mini) -> str:
    default = mini.encoder.default_layer
    return ", ".join(
        f"`{layer.name}` ({layer.dim}{', default' if layer.name == default else ''})"
        for layer in mini.encoder.layer_infos
    )


def _use(name: str) -> Iterator[str]:
    yield from ("## How to load it", "", "```python", "import auricle", "")
    yield f'encoder = auricle.load("{name}")'
    yield 'features = encoder(["speech.wav"])  # [(frames, dim)]'
    yield from ("```", "", "```sh", f"auricle extract speech.wav --model {name} --out features")
    yield "```"


def _data(mini: Mini) -> Iterator[str]:
    yield from ("## Training data and licence", "")
    yield (
        f"{mini.record.training_data}. What was taken of it: {mini.audio.utterances} utterances, "
        f"{mini.audio.hours:.2f} hours; their names and lengths have the sha256 "
        f"`{mini.audio.sha256}`."
    )
    yield from ("", f"Licence of the weights: {mini.record.licence}.", "", ATTRIBUTION)


def _training(mini: Mini) -> Iterator[str]:
    first, last = mini.metrics[0], mini.metrics[-1]
    yield from ("## Training", "")
    yield from table(
        ("", ""),
        [
            ("updates", f"{mini.num_steps:,}"),
            ("audio gone through", f"{last['audio_hours']:.1f} hours"),
            ("wall time", _duration(last["seconds"])),
            ("loss", f"{first['loss']:.4g} (mean up to step {first['step']:g}) to "
             f"{last['loss']:.4g} (last line of the log)"),
            ("code", mini.code_version),
        ],
    )  # fmt: skip
    yield from ("", f"![Metrics of the training over its steps]({mini.name}.png)", "")
    yield f"All lines of the log: [training/{mini.name}.jsonl](training/{mini.name}.jsonl)."


def _probes(mini: Mini, sources: Sources) -> Iterator[str]:
    yield from ("## Probes", "")
    heard = PHONES_ARE_HEARD if mini.has_heard_phones else PHONES_ARE_UNHEARD
    yield (
        "Accuracy in percent of linear classifiers on the frozen layers, the best layer of a task "
        f"in bold. {heard} [How it is measured](../probing.md)."
    )
    yield ""
    header = ("layer", "dims", "frame every", *TASKS)
    yield from table(header, [*_layer_rows(mini), *_baseline_rows(sources, mini)], num_text=1)
    shown = [one for one in sources.abx if one.model in (mini.name, *sources.baselines)]
    if shown:
        yield from ("", "Errors in percent of ABX of phones, where less is better:", "")
        yield from table(("layer", "within speakers", "across"), _abx_rows(shown), num_text=1)


def _layer_rows(mini: Mini) -> Iterator[Sequence[str]]:
    for info in mini.encoder.layer_infos:
        mark = " (default)" if info.name == mini.encoder.default_layer else ""
        yield (
            f"`{info.name}`{mark}",
            str(info.dim),
            f"{_milliseconds(info.geometry.hop_samples)} ms",
            *(_accuracy(mini.results[task], info.name) for task in TASKS),
        )


def _baseline_rows(sources: Sources, mini: Mini) -> Iterator[Sequence[str]]:
    for name, results in sources.baselines.items():
        layer = results[TASKS[0]].best
        accuracies = (percent(results[task].best.accuracy) for task in TASKS)
        hop = f"{_milliseconds(layer.hop_samples)} ms"
        yield (f"*`{name}`, for comparison*", str(layer.dim), hop, *accuracies)
    majorities = (percent(mini.results[task].majority_accuracy) for task in TASKS)
    yield ("*always the most frequent label*", NOTHING, NOTHING, *majorities)


def _abx_rows(results: Sequence[AbxResult]) -> list[Sequence[str]]:
    """The layers of a mini, and of each baseline its only one."""
    rows: list[Sequence[str]] = []
    for number, result in enumerate(results):
        for layer in result.layers:
            mark = " (default)" if layer.name == result.default_layer else ""
            name = f"*`{result.model}`*" if number else f"`{layer.name}`{mark}"
            errors = (layer.within, layer.across)
            rows.append((name, *(NOTHING if x is None else percent(x) for x in errors)))
    return rows


def _accuracy(result: ProbeResult, name: str) -> str:
    layer: LayerResult | None = next((x for x in result.layers if x.name == name), None)
    if layer is None:
        return NOTHING
    text = percent(layer.accuracy)
    return f"**{text}**" if name == result.best.name else text


def _limits(mini: Mini) -> Iterator[str]:
    yield from ("## What it is not for", "")
    yield (
        f"It is small, and {mini.audio.hours:.1f} hours of audiobooks are little: it serves to try "
        f"things out, to test and to teach, without a download. `{BASELINE}` may do better on "
        "other speech, languages and tasks. Do not report its numbers as those of "
        f"{mini.record.title}. {_published(mini.record)}"
    )


def _published(record: Record) -> str:
    """Published weights of the family, and the command that downloads them."""
    better = published_model(record)
    if better is None:
        return "No weights of the family were published."
    same = better.title == record.title
    absent = "" if same else f"The weights of {record.title} were never published. "
    what = "The published model" if same else f"The nearest published model, {better.title},"
    return (
        f"{absent}{what} is `{better.name}`, trained on {better.training_data}; it is fetched "
        f"once by\n\n```sh\nauricle extract speech.wav --model {better.name} "
        f"--out {better.name}\n```"
    )


def published_model(record: Record) -> Record | None:
    """The model of the family to take instead: the one that its bare name stands for, or the first
    whose weights were published."""
    stem = record.name.removesuffix("_mini")
    candidates = [find(name) for name in list_models(family=record.family)]
    return min(
        (candidate for candidate in candidates if candidate.urls),
        key=lambda candidate: stem not in candidate.names,
        default=None,
    )


def _recipe(mini: Mini) -> Iterator[str]:
    yield from ("## Recipe", "")
    again = "[how to train it again](README.md#making-them-again)"
    yield f"As it stands in the file's metadata; {again}.{_steps(mini)}"
    yield from ("", "```toml", mini.recipe.strip(), "```")


def _steps(mini: Mini) -> str:
    option = steps_option(mini)
    return f" It was trained with `{option}`." if option else ""


def steps_option(mini: Mini) -> str:
    """Option of `auricle pretrain` if the number of steps differs from the recipe's."""
    stated = parse_recipe(mini.recipe).identity.steps
    return "" if stated == mini.num_steps else f"--steps {mini.num_steps}"


def joined(sections: Iterable[Iterable[str]]) -> str:
    """A page of the sections that have lines, its prose in lines of `WIDTH` columns."""
    is_code = False
    parts = []
    for lines in map(list, sections):
        wrapped: list[str] = []
        for line in "\n".join(lines).split("\n"):
            is_code ^= line.startswith("```")
            is_prose = not is_code and not line.startswith(("|", "#", "!", "```"))
            wrapped += _wrapped(line) if is_prose else [line]
        if lines:
            parts.append("\n".join(wrapped))
    return "\n\n".join(parts) + "\n"


def _wrapped(line: str) -> list[str]:
    indent = "  " if line.startswith("- ") else ""
    wrapped = textwrap.wrap(
        line, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return wrapped or [""]


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, num_text: int | None = None
) -> list[str]:
    """Lines of a Markdown table; columns past the first `num_text` hold numbers."""
    num_text = len(header) if num_text is None else num_text
    marks = ["---"] * num_text + ["---:"] * (len(header) - num_text)
    return [f"| {' | '.join(cells)} |" for cells in (header, marks, *rows)]


def _milliseconds(num_samples: int) -> str:
    return f"{round(1000 * num_samples / SAMPLE_RATE, 1):g}"


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
