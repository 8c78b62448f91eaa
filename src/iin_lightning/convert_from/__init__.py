"""The checkpoints of the paper's own code (CompVis/iin): read safely, recognised, turned into our networks.

Each network has a table, our tensor -> theirs; all sizes come from the tensors. Only names and shapes of the authors'
files are here, no code of theirs.
"""

from iin_lightning.convert_from.authors import Checkpoint, Kind, kind_of, read
from iin_lightning.convert_from.encoder import autoencoder, classifier
from iin_lightning.convert_from.flow import translator

__all__ = ["Checkpoint", "Kind", "autoencoder", "classifier", "kind_of", "read", "translator"]
