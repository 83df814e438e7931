"""Outputs of libraries side by side, before any is timed."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np

from peer_workers.client import Client, PeerError, tell
from peer_workers.models import INT8_LIBRARIES, MODELS, ways


def compare(
    name: str, clients: dict[str, Client], waveforms: str, folder: Path, skipped: dict[str, str]
) -> dict[str, dict[str, float]]:
    """Differences of outputs in standard deviations: ours and a peer's, batches and alone.

    A peer that gives nothing is left out of `clients`, and the reason goes to `skipped`.

    Raises:
        PeerError: Ours gives nothing, or other outputs than a peer, so to time both would compare
            nothing.
    """
    result: dict[str, dict[str, float]] = {}
    ours: list[np.ndarray] = []
    for library, client in list(clients.items()):
        tell(f"{name}: comparing {library}")
        try:
            alone = outputs(client, waveforms, "one_by_one", folder)
        except PeerError as error:
            if library == "auricle":
                raise
            skipped[library] = str(error)
            clients.pop(library).close()
            continue
        found = {}
        if library == "auricle":
            ours = alone
        else:
            is_adapted = library in MODELS[name].adapted
            expected = [normed(x[::2]) for x in ours] if is_adapted else ours
            given = [normed(x) for x in alone] if is_adapted else alone
            found["from_auricle"] = deviation(expected, given)
            exact = library not in INT8_LIBRARIES
            if exact and not found["from_auricle"] <= MODELS[name].tolerance:
                raise PeerError(
                    f"auricle and {library} differ by {found['from_auricle']:.1e} standard "
                    f"deviations, more than {MODELS[name].tolerance:.0e}"
                )
        if "batch" in ways(name, "ragged", library):
            with contextlib.suppress(PeerError):
                batch = outputs(client, waveforms, "batch", folder)
                found["batch_from_alone"] = deviation(batch, alone, cut=True)
        result[library] = found
    return result


def normed(x: np.ndarray) -> np.ndarray:
    """Frames with a mean of zero and a standard deviation of one."""
    return (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)


def outputs(client: Client, waveforms: str, way: str, folder: Path) -> list[np.ndarray]:
    path = str(folder / "outputs.npz")
    client.ask("outputs", waveforms=waveforms, way=way, out=path)
    with np.load(path) as file:
        return [file[name] for name in file.files]


def deviation(
    outputs: list[np.ndarray], references: list[np.ndarray], *, cut: bool = False
) -> float:
    """Largest difference, in standard deviations of the reference."""
    worst = 0.0
    for x, reference in zip(outputs, references, strict=True):
        count = min(len(x), len(reference))
        if cut:
            x, reference = x[:count], reference[:count]
        if x.shape != reference.shape:
            raise PeerError(f"outputs have shapes {x.shape} and {reference.shape}")
        worst = max(worst, float(np.abs(x - reference).max() / reference.std()))
    return float(f"{worst:.2g}")
