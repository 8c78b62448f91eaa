"""How the server computes for many users: in one thread, once for all who ask, and UMAP in a process of its own.

That process imports this module, and with it no more than it needs: else it would take longer to start than to work.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import wraps
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

from iin_lightning.analysis.embed import EmbeddingMethod, fit_embedding
from iin_lightning.errors import IINError, ResourceError, StoppedByUser

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

# A server answers in dozens of threads. If each computed, torch would start helpers for each of them, which would get
# in each other's way.
_computer = ThreadPoolExecutor(1, thread_name_prefix="computer")
_thread = threading.local()
_lock = threading.Lock()


def alone(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Have all calls of a function, and of all others so marked, run one after the other in one thread.

    Within, nothing may wait for a lock or for a value of ``once``: its holder may be waiting for this thread.

    Example:
        >>> alone(lambda: threading.current_thread().name)().startswith("computer")
        True
    """

    def marked(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        _thread.computes = True
        return function(*args, **kwargs)

    @wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        if getattr(_thread, "computes", False):  # called within such a function: it would wait for itself
            return function(*args, **kwargs)
        try:
            answer = _computer.submit(marked, *args, **kwargs)
        except RuntimeError as error:  # the process ends while a user still asks
            raise StoppedByUser("The page was ended.") from error
        return answer.result()

    return call


def once(function: Callable[..., Result]) -> Callable[..., Result]:
    """Have a method, or a function of a model, make each value once and keep it as long as its object lives.

    Who asks meanwhile waits for the same value. What fails is tried anew for who asks next.

    Example:
        >>> class Model: ...
        >>> named, model = once(lambda model, name: [name]), Model()
        >>> named(model, "digit") is named(model, "digit"), named(model, "digit") is named(Model(), "digit")
        (True, False)
    """

    @wraps(function)
    def call(owner: Any, *key: Any) -> Result:
        mine: Future[Result] = Future()
        with _lock:
            made = vars(owner).setdefault("_made", {})
            promise: Future[Result] = made.setdefault((call, *key), mine)
        if promise is mine:
            try:
                mine.set_result(function(owner, *key))
            except BaseException as error:
                with _lock:
                    del made[call, *key]
                mine.set_exception(error)
        return promise.result()

    return call


class Map(NamedTuple):
    """Points (n, 2) of n images, and the name of what placed them."""

    points: Tensor
    name: str


class EmbeddingError(IINError, RuntimeError):
    """A map could not be made."""


def embed_in_a_process(z_tilde_k: Tensor, method: EmbeddingMethod) -> Map:
    """Return a map of a factor (n, N_k) that another process has made.

    UMAP holds Python's lock while it computes: in this process all users would wait.
    """
    context = get_context("spawn")  # a fork would take the locks of the server's threads with it
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_embed, args=(sender, z_tilde_k.numpy(), method), daemon=True)
    process.start()
    sender.close()
    try:
        answer = receiver.recv()
    except EOFError as error:
        raise ResourceError("The process that made the map was ended: most often memory ran out.") from error
    finally:
        receiver.close()
        process.join()
    if isinstance(answer, str):
        raise EmbeddingError(answer)
    points, name = answer
    return Map(torch.from_numpy(points), name)


def _embed(sender: Connection, z_tilde_k: np.ndarray, method: EmbeddingMethod) -> None:
    """Send points and the name of what placed them, or why there are none."""
    torch.set_num_threads(1)
    try:
        embedding = fit_embedding(torch.from_numpy(z_tilde_k), 2, method)
        sender.send((embedding.points.numpy(), embedding.name))
    except Exception as error:
        sender.send(str(error) if isinstance(error, IINError) else f"{type(error).__name__}: {error}")
    finally:
        sender.close()
