"""How many of a latent's dimensions each concept deserves (Eq. 11, Tab. 1), for any encoder, by both estimators."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from matplotlib.figure import Figure

from iin_lightning.analysis.dimensions import Method, dimension_shares, factor_scores, score_errors, whole_dimensions
from iin_lightning.data.pairs import sharing_pairs
from iin_lightning.errors import ConfigError
from iin_lightning.factors import RESIDUAL
from iin_lightning.plots.charts import dimension_figure
from iin_lightning.questions.answer import Answer
from iin_lightning.questions.subject import Subject


def dimensions(subject: Subject) -> Answer:
    """Scores and whole dimensions from pairs of training images, and those of concepts that an encoder does not hold.

    Raises:
        ConfigError: the data have no concepts.
    """
    if not subject.data.concepts:
        raise ConfigError("analysis=dimensions asks pairs that share a concept, and these data have none.")
    pairs = sharing_pairs(subject.latents("train"))
    latent_dim = subject.encoder.latent_dim
    numbers: dict[str, Any] = {"dimensions": {}, "scores": {}}
    for method in get_args(Method):
        scores, errors = factor_scores(pairs, method), score_errors(pairs, method)
        numbers["dimensions"][method] = whole_dimensions(dimension_shares(scores), latent_dim)
        numbers["scores"][method] = {name: {"value": scores[name], "error": errors[name]} for name in scores}
    nothing = {name: float(name == RESIDUAL) for name in (RESIDUAL, *pairs)}
    numbers["dimensions"]["nothing held"] = whole_dimensions(dimension_shares(nothing), latent_dim)
    numbers["of"] = f"training images, {max(len(a) for a, _ in pairs.values())} pairs a concept"
    return Answer(numbers, {"": together([(subject.kind, numbers)])["dimensions"]})


def together(answers: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, Figure]:
    """The answers of several runs in one figure, for each kind of network a bar an estimator."""
    networks: dict[str, list[dict[str, int]]] = {}
    for kind in dict.fromkeys(kind for kind, _ in answers):
        for method in get_args(Method):
            found = [numbers["dimensions"][method] for other, numbers in answers if other == kind]
            networks[f"{kind}, {method}"] = found
    networks["a concept not held"] = [answers[0][1]["dimensions"]["nothing held"]]
    return {"dimensions": dimension_figure(networks)}
