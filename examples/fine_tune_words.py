"""Fine-tune an encoder end to end on spoken words, and compare it with the frozen encoder.

    python examples/fine_tune_words.py --data arabic_words --model apc_mini --out words

`docs/fine-tuning.md` explains the steps. The folder holds recordings of single words and a
`manifest.tsv` with the columns path, split (`train`, `test`) and word.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

import auricle
from auricle.audio.files import read_audio
from auricle.probing.probe import probe
from auricle.probing.tasks import Task, read_task

BATCH_WORDS = 32
MAX_CUT_SAMPLES = 2_400
"""Most samples that are cropped at random from each end of a training word."""

ENCODER_FILE, HEAD_FILE = "encoder.safetensors", "head.safetensors"


class WordHead(nn.Module):
    """A weighted sum of layers, standardised, then a linear layer (arXiv:2105.01051)."""

    def __init__(self, num_layers: int, dim: int, num_words: int) -> None:
        super().__init__()
        self.layer_logits = nn.Parameter(torch.zeros(num_layers))
        # Brings layers of any scale to the one scale that a learning rate fits.
        self.norm = nn.BatchNorm1d(dim, affine=False)
        self.linear = nn.Linear(dim, num_words)

    def forward(self, means: Tensor) -> Tensor:
        """Logits (B, words) of means over time (B, L, D)."""
        x = torch.einsum("l,bld->bd", self.layer_logits.softmax(dim=0), means)
        logits: Tensor = self.linear(self.norm(x))
        return logits


class WordClassifier(nn.Module):
    """An encoder with a head on the means over time of one of its layers, or of all.

    `layer` is the name of a layer, or `"all"`.
    """

    def __init__(self, encoder: auricle.Encoder, words: Sequence[str], layer: str) -> None:
        super().__init__()
        self.encoder, self.words, self.layer = encoder, tuple(words), layer
        info = encoder.info
        dims = [info.dims[name] for name in (info.layers if layer == "all" else [layer])]
        if len(set(dims)) > 1:
            raise ValueError(f"a sum of layers needs layers of one width, but they have {dims}")
        self.head = WordHead(len(dims), dims[0], len(words))

    def forward(self, wavs: Sequence[Tensor]) -> Tensor:
        """Logits (B, words) of unpadded waveforms."""
        logits: Tensor = self.head(self.means(wavs))
        return logits

    def means(self, wavs: Sequence[Tensor]) -> Tensor:
        """Means over time (B, L, D). Outputs are unpadded, so only valid frames count."""
        outputs = self.encoder.layers(wavs, "all" if self.layer == "all" else [self.layer])
        return torch.stack(
            [torch.stack([x.mean(dim=0) for x in layers.values()]) for layers in outputs]
        )

    def save(self, folder: Path) -> None:
        """Write the encoder, as `auricle.load` reads it, and beside it the head."""
        folder.mkdir(parents=True, exist_ok=True)
        self.encoder.save(folder / ENCODER_FILE)
        metadata = {"layer": self.layer, "words": json.dumps(self.words)}
        save_file(self.head.state_dict(), folder / HEAD_FILE, metadata)

    @classmethod
    def load(cls, folder: Path) -> WordClassifier:
        """Read what `save` wrote, in eval mode."""
        encoder = auricle.load(folder / ENCODER_FILE)
        with safe_open(folder / HEAD_FILE, framework="pt") as file:
            metadata = file.metadata()
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
        model = cls(encoder, json.loads(metadata["words"]), metadata["layer"])
        model.head.load_state_dict(state)
        return model.eval()


def freeze(model: WordClassifier, prefixes: Sequence[str]) -> None:
    """Leave the encoder's weights whose names begin with one of `prefixes` as they are."""
    for prefix in prefixes:
        found = [p for name, p in model.encoder.named_parameters() if name.startswith(prefix)]
        if not found:
            raise ValueError(f"no weight of the encoder has a name that begins with {prefix!r}")
        for parameter in found:
            parameter.requires_grad_(False)


def fine_tune(
    model: WordClassifier,
    wavs: Sequence[Tensor],
    labels: Sequence[str],
    *,
    steps: int,
    encoder_rate: float = 1e-3,
    head_rate: float = 5e-3,
    seed: int = 0,
) -> None:
    """Train encoder and head together; the model is left in eval mode."""
    # Dropout draws from torch's own generator, all else from this one.
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    targets = torch.tensor([model.words.index(label) for label in labels])
    trained = [p for p in model.encoder.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        [
            {"params": trained, "lr": encoder_rate},
            {"params": model.head.parameters(), "lr": head_rate},
        ],
        weight_decay=0.01,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        [encoder_rate, head_rate],
        total_steps=steps,
        pct_start=0.1,
        cycle_momentum=False,
    )
    model.train()
    batches = draw_batches(len(wavs), steps, generator)
    for batch in tqdm(batches, "fine-tuning", total=steps, disable=None):
        # Of unequal lengths from here on: padding never reaches the loss.
        logits = model([cut(wavs[index], generator) for index in batch])
        loss = F.cross_entropy(logits, targets[batch].to(logits.device))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.eval()


def draw_batches(num_wavs: int, steps: int, generator: torch.Generator) -> Iterator[list[int]]:
    """Indices of `steps` batches, each word once in an epoch; a last small batch is left out."""
    size = min(BATCH_WORDS, num_wavs)
    for step in range(steps):
        start = step % (num_wavs // size) * size
        if start == 0:
            order = torch.randperm(num_wavs, generator=generator).tolist()
        yield order[start : start + size]


def cut(wav: Tensor, generator: torch.Generator) -> Tensor:
    """The waveform without a little of its start and its end."""
    # At least half of the shortest words stays.
    most = min(MAX_CUT_SAMPLES, len(wav) // 4 + 1)
    start, end = torch.randint(most, (2,), generator=generator).tolist()
    return wav[start : len(wav) - end]


@torch.inference_mode()
def accuracy(model: WordClassifier, wavs: Sequence[Tensor], labels: Sequence[str]) -> float:
    """Share of correctly classified words."""
    predicted: list[str] = []
    for start in range(0, len(wavs), BATCH_WORDS):
        best = model(wavs[start : start + BATCH_WORDS]).argmax(dim=1)
        predicted.extend(model.words[index] for index in best.tolist())
    return sum(a == b for a, b in zip(predicted, labels, strict=True)) / len(labels)


def read_split(task: Task, split: str) -> tuple[list[Tensor], list[str]]:
    """Waveforms and words of the split `train` or `test`."""
    (fold,) = task.folds
    utterances = [
        task.utterances[index] for index in (fold.train if split == "train" else fold.test)
    ]
    waveforms = [read_audio(item.source) for item in utterances]
    return waveforms, [item.labels["word"] for item in utterances]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the accuracy of a probe of each layer, then that of the fine-tuned encoder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.tsv")
    parser.add_argument("--model", default="apc_mini", help="a name or a path for auricle.load")
    parser.add_argument("--layer", help="the layer below the head, or all; default: the model's")
    parser.add_argument("--steps", type=int, default=600, help="updates; default: %(default)s")
    parser.add_argument("--freeze", nargs="*", default=[], help="prefixes of names of weights")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder for the fine-tuned encoder and its head")
    options = parser.parse_args(arguments)

    task = read_task("words", options.data)
    train, test = read_split(task, "train"), read_split(task, "test")
    encoder = auricle.load(options.model, device=options.device)
    frozen = {layer.name: layer.accuracy for layer in probe(encoder, task).layers}

    torch.manual_seed(options.seed)
    words = sorted(set(train[1]))
    layer = options.layer or encoder.info.default_layer
    model = WordClassifier(encoder, words, layer).to(encoder.device)
    freeze(model, options.freeze)
    fine_tune(model, *train, steps=options.steps, seed=options.seed)
    lines = [f"frozen, {name}: {100 * value:.1f} %" for name, value in frozen.items()]
    lines.append(f"fine-tuned, {layer}: {100 * accuracy(model, *test):.1f} %")
    print("\n".join(lines))  # noqa: T201 - a script
    if options.out is not None:
        model.save(options.out)


if __name__ == "__main__":
    try:
        main()
    except auricle.AuricleError as error:
        raise SystemExit(f"error: {error}") from None
