"""How many of a latent's dimensions each concept deserves (Eq. 11, Tab. 1), for any encoder."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from iin_lightning.analysis.dimensions import Method, dimension_shares, factor_scores, whole_dimensions
from iin_lightning.app.analyses.answer import Answer
from iin_lightning.app.subject import Subject
from iin_lightning.data.sharing import sharing_pairs
from iin_lightning.errors import ConfigError
from iin_lightning.plots.dimensions import dimension_figure


def dimensions(subject: Subject, *, method: Method) -> Answer:
    """Scores and whole dimensions from pairs of training images.

    Args:
        subject: any network that encodes.
        method: "covariance" (the authors' code) or "correlation" (Eq. 11).

    Raises:
        ConfigError: the data have no concepts.
    """
    if not subject.data.concepts:
        raise ConfigError("analysis=dimensions asks pairs that share a concept, and these data have none.")
    scores = factor_scores(sharing_pairs(subject.posteriors), method)
    dims = whole_dimensions(dimension_shares(scores), subject.encoder.latent_dim)
    numbers = {"method": method, "scores": scores, "dimensions": dims}
    return Answer(numbers, {"": dimension_figure({subject.kind: [dims]})})


def together(answers: Sequence[tuple[str, Mapping[str, object]]]) -> dict[str, Figure]:
    """The answers of several runs in one figure, a bar a kind of network."""
    networks: dict[str, list[dict[str, int]]] = {}
    for kind, numbers in answers:
        networks.setdefault(kind, []).append(numbers["dimensions"])  # type: ignore[arg-type]
    return {"dimensions": dimension_figure(networks)}
