"""CITATION.cff names this release, and the paper as README and the package do."""

from importlib.metadata import version
from pathlib import Path

from omegaconf import OmegaConf

import iin_lightning

ROOT = Path(__file__).parents[2]


def test_citation_agrees_with_release_readme_and_package():
    citation = OmegaConf.load(ROOT / "CITATION.cff")
    assert str(citation.version) == version("iin-lightning")
    paper = citation["preferred-citation"]
    number = paper.identifiers[0].value.removeprefix("arXiv:")
    assert paper.url.endswith(number)
    readme = (ROOT / "README.md").read_text()
    for text in (readme, iin_lightning.__doc__):
        flat = " ".join(text.split())
        assert paper.title in flat
        assert f"arXiv {number}" in flat
    for author in paper.authors:
        assert author["family-names"] in readme
