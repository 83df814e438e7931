"""An encoder for the audio tasks of MTEB (https://github.com/embeddings-benchmark/mteb).

`mteb.evaluate(MtebEncoder("wavlm_base"), tasks)`. MTEB itself is imported for the description of
the model alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from auricle.hub.load import load
from auricle.models.outputs import Pool
from auricle.optional import optional


class MtebEncoder:
    """One vector for each sound: its frames, pooled, whatever else is in the batch."""

    def __init__(
        self,
        model_name: str,
        revision: str | None = None,
        *,
        device: str | None = None,
        layer: int | str | None = None,
        pool: Pool = "mean",
        **kwargs: Any,
    ) -> None:
        """Load an encoder.

        Args:
            model_name: Name, path or address for `auricle.load`.
            revision: What results are filed under; None for the digest of the weights.
            device: Where it computes; None for the CPU.
            layer: Index or name of the layer; None for the default one.
            pool: As `Encoder.pooled` takes it.
            kwargs: Others of MTEB's, which are ignored.

        Raises:
            AuricleError: As of `auricle.load`; there is no such layer or pooling.
        """
        self.encoder = load(model_name, device=device or "cpu")
        self.encoder.pooled([], pool, layer)  # an error where there is none of these
        self.layer = self.encoder.layer_info(layer).name
        self.pool, self.model_name = pool, model_name
        self.revision = revision or (self.encoder.info.sha256 or "no_revision_available")[:40]

    def encode(
        self, inputs: Iterable[Mapping[str, Any]], *, show_progress_bar: bool = False, **kwargs: Any
    ) -> NDArray[np.float32]:
        """Embeddings (N, D), float32, of batches whose `"audio"` has an array and its rate each.

        Args:
            inputs: As MTEB's loader gives them; sounds of other rates are resampled.
            show_progress_bar: Whether to draw one.
            kwargs: The task, split, prompt and batch size, which change nothing.
        """
        pooled = [self.encoder.pooled([], self.pool, self.layer).cpu()]  # (0, D)
        for batch in tqdm(inputs, disable=not show_progress_bar):
            wavs = [(np.asarray(x["array"]), x["sampling_rate"]) for x in batch["audio"]]
            with torch.no_grad():
                pooled.append(
                    self.encoder.pooled(wavs, self.pool, self.layer, pad_short=True).cpu()
                )
        return torch.cat(pooled).numpy()

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Tensor:
        """Cosines (N, M) of embeddings (N, D) and (M, D)."""
        return _unit(embeddings1) @ _unit(embeddings2).T

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Tensor:
        """Cosines (N,) of pairs of embeddings (N, D)."""
        return (_unit(embeddings1) * _unit(embeddings2)).sum(dim=-1)

    @property
    def mteb_model_meta(self) -> Any:
        """MTEB's description of the model; its name has the layer and the pooling.

        Raises:
            MissingExtraError: MTEB is not installed.
        """
        with optional("mteb", "the description of a model for MTEB"):
            from mteb.models import ModelMeta
        facts = {
            "name": f"auricle/{self.model_name.rpartition('/')[2]}-{self.layer}-{self.pool}",
            "revision": self.revision,
            "modalities": ["audio"],
            "framework": ["PyTorch"],
            "n_parameters": self.encoder.info.num_parameters,
            "embed_dim": self.encoder.dim,
        }
        return ModelMeta.create_empty(facts)


def _unit(embeddings: Any) -> Tensor:
    return F.normalize(torch.as_tensor(embeddings).float(), dim=-1)
