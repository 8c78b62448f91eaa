"""Networks that are awkward to cut, and how to build large ones fast."""

import torch
from torch import nn
from torch.nn import functional as F


class Branches(nn.Module):
    """A fork and its merge, a skip, work in place that nobody reads, a module called twice, a tuple, an option."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.left, self.right = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1)
        self.merge, self.twice = nn.Conv2d(8, 6, 1), nn.Conv2d(6, 6, 1)
        self.pair, self.spare = Pair(), nn.Identity()
        self.head = nn.Linear(6, 3)

    def forward(self, x, features=False):
        h = self.act(self.stem(x))
        h = self.merge(torch.cat([self.left(h), self.right(h) + h], 1))
        F.relu_(h)
        h, _ = self.pair(self.twice(self.twice(h)))
        h = h.mean((2, 3))
        return h if features else self.head(h)


class Pair(nn.Module):
    def forward(self, x):
        return x.tanh(), x


class Untraceable(nn.Module):
    """The way goes as the numbers do; torch.fx cannot follow."""

    def __init__(self, skip=False, zero_head=False):
        super().__init__()
        self.stem, self.body, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 3)
        self.skip, self.fail = skip, False
        if zero_head:
            nn.init.zeros_(self.head.weight)

    def forward(self, x):
        h = self.stem(x)
        b = self.body(h)
        if b.mean() > 1e6:
            b = b * 2
        b = F.relu_(b)
        if self.fail:
            raise RuntimeError("behind the layer")
        return self.head((b + h if self.skip else b).mean((2, 3)))


class Memory(nn.Module):
    """A skip connection that torch.fx does not see: one module leaves it, another finds it."""

    class Down(nn.Conv2d):
        def forward(self, x):
            self.left = x
            return super().forward(x)

    class Up(nn.Linear):
        def forward(self, x):
            return super().forward(x.mean((2, 3)) + self.down[0].left.mean((1, 2, 3))[:, None])

    def __init__(self):
        super().__init__()
        self.down, self.middle, self.up = self.Down(3, 4, 3), nn.Conv2d(4, 4, 1), self.Up(4, 3)
        self.up.down = [self.down]

    def forward(self, x):
        return self.up(self.middle(self.down(x)))


class Unread(nn.Module):
    """What the activation returns is dropped: it works in place."""

    def __init__(self):
        super().__init__()
        self.stem, self.act, self.head = nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Linear(4, 3)

    def forward(self, x):
        h = self.stem(x)
        self.act(h)
        return self.head(h.mean((2, 3)))


class Skip(nn.Module):
    """A skip connection that is a module and returns what it is given, round a body that says nothing as yet."""

    def __init__(self):
        super().__init__()
        self.stem, self.body, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 3)
        self.skip = nn.Identity()
        nn.init.zeros_(self.body.weight)
        nn.init.zeros_(self.body.bias)

    def forward(self, x):
        h = self.stem(x)
        if h.mean() > 1e6:  # torch.fx cannot follow
            h = h * 2
        return self.head((self.body(h) + self.skip(h)).mean((2, 3)))


class Buffers(nn.Module):
    """It computes with buffers, and may make a tensor itself; it keeps what it saw last."""

    def __init__(self, makes=False):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)
        self.register_buffer("var", torch.full((4,), 2.0))
        self.makes, self.last = makes, None

    def forward(self, x):
        h = self.stem(x).mean((2, 3)) / self.var.sqrt()
        self.last = h
        return self.head(h) + (torch.ones(3) * self.var.sum() if self.makes else 0)


class Mixed(nn.Sequential):
    """Half precision behind the first layers."""

    class Halve(nn.Module):
        def forward(self, x):
            return x.bfloat16()

    def __init__(self):
        tail = nn.Sequential(nn.Conv2d(4, 3, 3, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        super().__init__(nn.Conv2d(3, 4, 3, stride=2), self.Halve(), tail.bfloat16())


class Dice(nn.Module):
    """Dropout that nobody can switch off."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return F.dropout(self.stem(x)).mean((2, 3))


class Apart(nn.Module):
    """The batch is not the first axis, as of recurrent networks; it gives a dictionary."""

    def __init__(self, apart=True):
        super().__init__()
        self.tokens, self.apart, self.head = Tokens(), apart, nn.Linear(32, 3)

    def forward(self, x):
        h = self.tokens(x).mean((0, 2))
        return self.head(h) if self.apart else {"logits": self.head(h)}


class Codes(nn.Sequential):
    """One layer gives whole numbers."""

    class Nearest(nn.Module):
        def forward(self, x):
            return x.argmax(1)

    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3), self.Nearest(), nn.Flatten(), nn.Embedding(4, 3))


class Tokens(nn.Module):
    def forward(self, x):
        return x.transpose(0, 1)


def quick(build, **kwargs):
    """A large network without its slow initialisation, and with other weights than zero and one."""
    with torch.device("meta"):
        network = build(weights=None, **kwargs)
    network.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            bound = (6 / parameter[0].numel()) ** 0.5 if parameter.ndim > 1 else 1.0
            # A block of numbers, repeated: quicker than drawing them all.
            block = (2 * torch.rand(min(parameter.numel(), 99_991), generator=generator) - 1) * bound
            parameter.copy_(block.repeat(-(-parameter.numel() // len(block)))[: parameter.numel()].view_as(parameter))
        for name, buffer in network.named_buffers():
            buffer.fill_(1 if name.endswith("var") else 0)
    return network.eval()
