"""Commands run as a user runs them, in a folder of their own."""

from itertools import count

import pytest

# The smallest networks that still do everything.
TINY = (
    "trainer=cpu",
    "data=color_mnist",
    "data.val_fraction=0.5",
    "encoder.width=4",
    "encoder.latent_dim=8",
    "flow.n_blocks=2",
    "flow.hidden=8",
    "model.steps=6",
    "model.val_every=3",
    "model.batch_size=16",
    "+first_stage.model.steps=4",
    "+judge.model.steps=4",
    "+judge.encoder.width=4",
)

# The smallest ones for ``trainer=smoke`` on any data.
SMALL = (
    "encoder.width=4",
    "encoder.latent_dim=12",
    "flow.n_blocks=1",
    "flow.hidden=8",
    "model.batch_size=8",
    "+judge.encoder.width=4",
)


@pytest.fixture(scope="session")
def small():
    """Arguments of the smallest networks, for any data set."""
    return SMALL


@pytest.fixture(scope="session")
def tiny():
    """Arguments of the smallest run; ``without`` leaves those out that begin so."""

    def arguments(*without):
        return [argument for argument in TINY if not argument.startswith(without)]

    return arguments


@pytest.fixture(scope="session")
def workplace(tmp_path_factory, mnist_root):
    """A folder with fake MNIST where runs of the session share their model store."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "data").symlink_to(mnist_root)
    return folder


@pytest.fixture(scope="session")
def command(workplace, run_command):
    """Run ``python -m iin_lightning.train`` there, and give back the finished process."""

    numbers = count()

    def run(*arguments, ok=True, folder=workplace, **options):
        if not any(argument.startswith(("hydra.", "resume=", "-")) for argument in arguments):
            # A run's folder is named after the second, in which there may be another run here.
            arguments = (*arguments, f"hydra.run.dir=outputs/{next(numbers)}")
        process = run_command("iin_lightning.train", *arguments, cwd=folder, **options)
        if ok:
            assert process.returncode == 0, process.stdout + process.stderr
        return process

    return run
