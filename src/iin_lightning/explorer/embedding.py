"""A map of a factor that a process of its own makes: UMAP holds Python's lock while it computes, and all would wait.

That process imports this module, and with it no more than it needs (besides the command's own, which is imported
again): else it would take longer to start than to work.
"""

from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from iin_lightning.analysis.embed import EmbeddingMethod, fit_embedding
from iin_lightning.errors import IINError, ResourceError


class Map(NamedTuple):
    """Points of held-out images.

    Attributes:
        points: (n, 2), of ``Explored.some``.
        name: of what placed them, "UMAP".
    """

    points: Tensor
    name: str


class EmbeddingError(IINError, RuntimeError):
    """A map could not be made."""


def has_umap() -> bool:
    """Whether umap-learn is installed; to import it would take seconds, and another package has the name umap, too."""
    try:
        version("umap-learn")
    except PackageNotFoundError:
        return False
    return True


def in_a_process(z_tilde_k: Tensor, method: EmbeddingMethod) -> Map:
    """A map by any method, made by a process that ends with it.

    Raises:
        EmbeddingError: the method has failed.
        ResourceError: something has ended the process.
    """
    context = get_context("spawn")  # a fork would take the locks of the server's threads with it
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_embed, args=(sender, z_tilde_k.numpy(), method), daemon=True)
    process.start()
    sender.close()
    try:
        answer = receiver.recv()
    except EOFError as error:
        raise ResourceError("The process that made the map was ended, most often because memory ran out.") from error
    finally:
        receiver.close()
        process.join()
    if isinstance(answer, str):
        raise EmbeddingError(answer)
    points, name = answer
    return Map(torch.from_numpy(points), name)


def _embed(sender: Connection, z_tilde_k: np.ndarray, method: EmbeddingMethod) -> None:
    """What the process does: send points and the name of what placed them, or why there are none."""
    torch.set_num_threads(1)
    try:
        embedding = fit_embedding(torch.from_numpy(z_tilde_k), 2, method)
        sender.send((embedding.points.numpy(), embedding.name))
    except IINError as error:
        sender.send(str(error))
    except Exception as error:
        sender.send(f"{type(error).__name__}: {error}")
        raise  # with its traceback in the server's log
    finally:
        sender.close()
