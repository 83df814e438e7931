"""VQ-APC: APC trained through a vector quantiser (arXiv:2005.08392)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from torch import Tensor

from auricle.inference.streaming.stages import CODES, PerFrame, Step
from auricle.info import LayerInfo
from auricle.models.gru_encoder import GruConfig, GruEncoder
from auricle.nn.batch import Batch
from auricle.nn.quantizer import CodebookConfig, LogitQuantizer, check_codebook_widths


class VqApcConfig(GruConfig, frozen=True, kw_only=True):
    """Configuration of a VQ-APC encoder.

    Attributes:
        codebooks: The quantiser after the last layer (`paras.vq`; one of 512 x 512 in the paper).
        gumbel_temperature: Temperature of the Gumbel softmax in pretraining (`paras.vq`).
    """

    codebooks: tuple[CodebookConfig, ...] = (CodebookConfig(num_entries=512, dim=512),)
    gumbel_temperature: float = 0.5

    def __post_init__(self) -> None:
        GruConfig.__post_init__(self)
        check_codebook_widths(self.codebooks, self.hidden_size)


class VqApc(GruEncoder):
    """VQ-APC: the layers of APC, and codes from the quantiser that they were trained through.

    The representation is taken before the quantiser.
    """

    family = "vq_apc"
    config_type = VqApcConfig
    config: VqApcConfig

    def __init__(self, config: VqApcConfig) -> None:
        super().__init__(config)
        self.quantizer = LogitQuantizer(config.codebooks)

    @property
    def layer_infos(self) -> tuple[LayerInfo, ...]:
        *others, last = super().layer_infos
        return (*others, dataclasses.replace(last, num_codebooks=len(self.config.codebooks)))

    def code_indices(self, frames: Batch) -> Batch:
        return Batch(self.quantizer.indices(frames.values), frames.layout)

    def stream_steps(self) -> Iterator[Step]:
        yield from super().stream_steps()

        def codes(x: Tensor) -> Tensor:
            return self.quantizer.indices(x.transpose(1, 2)).transpose(1, 2)

        if self.codes_layer is not None:
            yield Step(CODES, lambda norm: PerFrame(codes))
