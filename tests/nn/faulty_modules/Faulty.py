"""Modules with one fault each."""

from torch import nn
import torch


class GivesTuple(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.c = nn.Conv2d(dim, dim, 1)

    def forward(self, x):
        return self.c(x), x.mean()


class GivesDict(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.c = nn.Conv2d(dim, dim, 1)

    def forward(self, x):
        return {"out": self.c(x)}


class Tokens(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.fc = nn.Linear(dim, dim)

    def forward(self, x):
        return self.fc(x.flatten(2).transpose(1, 2))


class DeepMismatch(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.a = nn.Conv2d(dim, dim // 2, 1)
        self.b = nn.Conv2d(dim, dim, 1)

    def forward(self, x):
        return self.b(self.a(x))


class NoSuper(nn.Module):
    def __init__(self, dim):
        self.c = nn.Conv2d(dim, dim, 1)


class Heads(nn.Module):
    def __init__(self, dim, heads=8):
        super().__init__()
        assert dim % heads == 0, f"dim {dim} should be divided by num_heads {heads}."
        self.c = nn.Conv2d(dim, dim, 1)

    def forward(self, x):
        return self.c(x)


class Reduced(nn.Module):
    def __init__(self, dim, reduction=8):
        super().__init__()
        self.a = nn.Conv2d(dim, dim // reduction, 1)
        self.b = nn.Conv2d(dim // reduction, dim, 1)

    def forward(self, x):
        return self.b(self.a(x))
