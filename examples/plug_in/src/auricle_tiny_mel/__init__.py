"""A family and a model for auricle's catalogue; imports neither torch nor the encoder."""

from auricle.catalogue.family import Family, Size
from auricle.catalogue.record import Record

FAMILY = Family(
    stem="tiny_mel",
    title="Tiny mel",
    encoder="auricle_tiny_mel.encoder:TinyMel",
    config="auricle_tiny_mel.encoder:TinyMelConfig",
    input="mel",
    loss="none: random weights",
    repository=None,
    paper=None,
    sizes={"tiny_mel_16": Size(parameters=1_296)},
    converter="auricle_tiny_mel.converter",
)

DEMO = Record(
    name="tiny_mel_demo",
    aliases=("tiny_mel",),
    family="tiny_mel",
    size="tiny_mel_16",
    urls=(),
    embedded=True,
    package="auricle_tiny_mel",
    sha256="65f5e59afb4f2317ae805c2a53370db544e27c2d6c7729cf6af32264cac8b463",
    training_data="none",
    licence="Apache-2.0",
    note="shows how a plug-in is made; its weights are random",
)
