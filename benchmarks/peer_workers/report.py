"""Tables and the picture of `results/peers.json`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from peer_workers.models import CASES, INT8_LIBRARIES, LIBRARIES, MODELS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "speed.md"
README = ROOT / "README.md"
PICTURE = ROOT / "docs" / "speed.svg"
SECTION = re.compile(r"(<!-- peers(?:: [^>]*)? -->\n).*?(<!-- /peers -->)", re.DOTALL)
PICTURED_CASE = "ragged"
CASE_TITLES = {
    "ragged": "nine utterances of 7 to 16 s",
    "single_1s": "one of 1 s",
    "single_10s": "one of 10 s",
    "single_60s": "one of 60 s",
    "batch_8x10s": "eight of 8 to 13 s",
    "batch_32": "32 of 2 to 6 s",
}
WAY_TITLES = {"batch": "batch", "one_by_one": "one by one"}
MARKS = {
    "auricle": ("o", "black", "black"),
    "s3prl": ("s", "0.75", "0.3"),
    "transformers": ("^", "0.75", "0.3"),
    "torchaudio": ("D", "white", "0.3"),
    "onnxruntime": ("v", "white", "0.3"),
    "openvino": ("<", "white", "0.3"),
    "torch_compile": (">", "white", "0.3"),
    "openai_whisper": ("P", "0.75", "0.3"),
    "ctranslate2": ("X", "white", "0.3"),
}
"""Library -> marker, its fill and its edge; those that compute in float32."""

LANE = 0.13
"""Height between one library and the next, in rows of the picture."""

Results = dict[str, Any]
Row = dict[str, Any]
Entry = dict[str, Any]


def read(path: Path) -> Results:
    if not path.exists():
        return {"runs": [], "rows": []}
    return json.loads(path.read_text(encoding="utf-8"))


def render(results: Results) -> None:
    """Write the tables between the markers of the documentation, and the picture."""
    for path, text in ((PAGE, tables(results)), (README, summary(results))):
        page = path.read_text(encoding="utf-8") if path.exists() else ""
        if not SECTION.search(page):
            print(f"{path.name} has no <!-- peers --> ... <!-- /peers -->: left as it is")
            continue
        page = SECTION.sub(lambda match, text=text: f"{match[1]}{text}\n{match[2]}", page)
        path.write_text(page, encoding="utf-8")
        print(f"wrote {path.name}")
    groups = by_machine(results, rows_of(results, PICTURED_CASE))
    if groups:
        draw(groups, PICTURE)
        print(f"wrote {PICTURE.name}")


def rows_of(results: Results, case: str) -> list[Row]:
    return [row for row in results["rows"] if row["case"] == case]


def by_machine(results: Results, rows: list[Row]) -> dict[str, list[Row]]:
    """Rows by the machine that they were measured on, the most first."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(machine_of(results["runs"][row["run"]]), []).append(row)
    return dict(sorted(groups.items(), key=lambda item: -len(item[1])))


def machine_of(run: dict[str, Any]) -> str:
    """A machine, and how it was measured."""
    clock = ", processor time" if clock_of(run) == "cpu" else ""
    threads = f"{run['threads']} thread{'s' if run['threads'] > 1 else ''}"
    return f"{run['cpu']}, {run['num_cpus']} cores, {threads}{clock}"


def clock_of(run: dict[str, Any]) -> str:
    return run.get("clock", "wall")


def is_like(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """True if what a run measured need not be measured again by another."""
    versions = old["versions"].items()
    return (
        machine_of(old) == machine_of(new)
        and old["rounds"] >= new["rounds"]
        and all(new["versions"].get(name, version) == version for name, version in versions)
    )


def libraries_of(row: Row) -> set[str]:
    """Libraries that a row has figures of, or a reason for having none."""
    return {entry["library"] for entry in row["entries"]} | set(row["skipped"])


def timed(row: Row) -> list[Entry]:
    """Entries with figures."""
    return [entry for entry in row["entries"] if "failed" not in entry]


def speed(row: Row, entry: Entry) -> float:
    """Times real time."""
    return row["audio_seconds"] / entry["median"]


def of_library(row: Row, library: str) -> list[Entry]:
    return [entry for entry in timed(row) if entry["library"] == library]


def ours(row: Row, library: str = "auricle") -> Entry:
    """Our one call with all waveforms of the case, in the precision of a library."""
    mine = of_library(row, "auricle_int8") if library in INT8_LIBRARIES else []
    return (mine or of_library(row, "auricle"))[0]


def best_peer(row: Row) -> Entry | None:
    own = ("auricle", *INT8_LIBRARIES)
    peers = [entry for entry in timed(row) if entry["library"] not in own]
    return min(peers, key=lambda entry: entry["median"], default=None)


def summary(results: Results) -> str:
    """The short tables: the best peer, ours, and how they compare, a table for each machine."""
    groups = by_machine(results, rows_of(results, PICTURED_CASE))
    parts = [(f"On {name}:\n\n", summary_table(rows)) for name, rows in groups.items()]
    if len(parts) == 1:
        return parts[0][1]
    return "\n\n".join(title + lines for title, lines in parts)


def summary_table(rows: list[Row]) -> str:
    header = ["model", "auricle, x real time", "fastest peer", "x real time", "ratio"]
    lines = []
    for row in rows:
        peer = best_peer(row)
        cells = [MODELS[row["model"]].title, figure(speed(row, ours(row)))]
        if peer is None:
            cells += ["-", "-", "-"]
        else:
            cells += [
                f"{peer['library']}, {WAY_TITLES[peer['way']]}",
                figure(speed(row, peer)),
                f"{peer['median'] / ours(row)['median']:.2f}",
            ]
        lines.append(cells)
    return table(header, lines, left=(0, 2))


def tables(results: Results) -> str:
    """Everything: tables of each case, one of deviations, and what was measured on what."""
    parts = []
    for case, lengths in CASES.items():
        groups = by_machine(results, rows_of(results, case))
        if groups:
            parts.append(f"### {CASE_TITLES[case]} ({sum(lengths):.0f} s): `{case}`")
        for name, rows in groups.items():
            parts += [f"On {name}:", case_table(results, rows)]
    if results["rows"]:
        parts += ["### Outputs", difference_table(results)]
        left_out = skipped(results)
        if left_out:
            parts += ["### Left out", left_out]
        parts += ["### Measured on", runs_text(results)]
    return "\n\n".join(parts) or "Nothing is measured yet."


def case_table(results: Results, rows: list[Row]) -> str:
    """All cells of a case; a cell without figures has the reason."""
    header = ["model", "library", "way", "x real time", "slowest to fastest", "auricle / it"]
    header += ["peak MiB", "before MiB", "of limit", "run"]
    lines = []
    for row in rows:
        limit = results["runs"][row["run"]]["float32_gflops"]
        for entry in row["entries"]:
            cells = [MODELS[row["model"]].title, entry["library"], WAY_TITLES[entry["way"]]]
            if "failed" in entry:
                cells += ["-", entry["failed"], "-", "-", "-", "-"]
            else:
                audio = row["audio_seconds"]
                cells += [
                    figure(speed(row, entry)),
                    f"{figure(audio / entry['slowest'])} to {figure(audio / entry['fastest'])}",
                    f"{entry['median'] / ours(row, entry['library'])['median']:.2f}",
                    whole(entry["peak_mib"]),
                    whole(entry["before_mib"]),
                    "-"
                    if entry["library"] in INT8_LIBRARIES
                    else f"{row['gflop'] / entry['median'] / limit:.0%}",
                ]
            lines.append([*cells, str(row["run"] + 1)])
    return table(header, lines, left=(0, 1, 2))


def difference_table(results: Results) -> str:
    header = ["model", "library", "auricle from it, alone", "its batch from it alone"]
    lines, seen = [], set()
    for row in results["rows"]:
        if row["model"] in seen:
            continue
        seen.add(row["model"])
        for library in LIBRARIES:
            found = row["differences"].get(library)
            if found is not None:
                cells = [found.get(key) for key in ("from_auricle", "batch_from_alone")]
                shown = ["-" if cell is None else f"{cell:.1e}" for cell in cells]
                lines.append([MODELS[row["model"]].title, library, *shown])
    return table(header, lines, left=(0, 1))


def skipped(results: Results) -> str:
    """Skipped measurements and their reasons, once for each model."""
    lines: dict[str, None] = {}
    for row in results["rows"]:
        for what, reason in row["skipped"].items():
            lines[f"- {MODELS[row['model']].title}, {what}: {reason}"] = None
    return "\n".join(lines)


def runs_text(results: Results) -> str:
    lines = []
    for index, run in enumerate(results["runs"]):
        of_run = {row["model"]: None for row in results["rows"] if row["run"] == index}
        versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
        lines.append(
            f"{index + 1}. {run['date']}: {machine_of(run)} "
            f"({', '.join(run['flags']) or 'flags unknown'}), "
            f"{run['rounds']} rounds, load {run['load_before']} before; matrix products at "
            f"{run['float32_gflops']} GFLOP/s in float32 and {run['bfloat16_gflops']} in bfloat16; "
            f"{versions}: {', '.join(of_run)}"
        )
    return "\n".join(lines)


def draw(groups: dict[str, list[Row]], path: Path) -> None:
    """Times real time of each model, the better way of each library, machine after machine."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "peers"
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullLocator

    rows = [row for group in groups.values() for row in group]
    titles = [
        MODELS[row["model"]].title + (f"\n({name.partition(',')[0]})" if index else "")
        for index, (name, group) in enumerate(groups.items())
        for row in group
    ]
    figure, axes = plt.subplots(figsize=(7.5, 1.5 + 0.5 * len(rows)), layout="constrained")
    for library, (marker, fill, edge) in MARKS.items():
        places = [index for index, row in enumerate(rows) if of_library(row, library)]
        speeds = [max(speed(rows[i], x) for x in of_library(rows[i], library)) for i in places]
        if places:
            style = {"marker": marker, "facecolor": fill, "edgecolor": edge, "s": 40}
            lanes = [place + lane(rows[place], library) for place in places]
            axes.scatter(speeds, lanes, label=library, zorder=3, **style)
    for index in range(0, len(rows), 2):
        axes.axhspan(index - 0.5, index + 0.5, color="0.96", zorder=0)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_yticks(range(len(rows)), titles)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="x", color="0.87", zorder=1)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("seconds of audio encoded in a second; further right is faster")
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def lane(row: Row, library: str) -> float:
    """Vertical offset of a library in its row, so that marks do not overlap."""
    present = [other for other in MARKS if of_library(row, other)]
    return LANE * (present.index(library) - (len(present) - 1) / 2)


def table(header: list[str], lines: list[list[str]], left: tuple[int, ...]) -> str:
    rules = "|".join("---" if index in left else "---:" for index in range(len(header)))
    rows = [f"| {' | '.join(cells)} |" for cells in [header, *lines]]
    return "\n".join([rows[0], f"|{rules}|", *rows[1:]])


def figure(value: float) -> str:
    """Three digits, or whole above a hundred."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def whole(value: int | None) -> str:
    return "-" if value is None else str(value)
