"""Modules whose results break the contract, by the check that has to fail. `# fault` marks the line to be named."""

RESULTS = {
    "stated": {
        "WrongChannels": """
@register(plans.conv)  # fault
class WrongChannels(nn.Module):
    def __init__(self, c1, c2):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2 + 8, 1)

    def forward(self, x):
        return self.conv(x)
""",
        "WrongWidths": """
@register(plans.backbone(8, 16))  # fault
class WrongWidths(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 8, 8), nn.Conv2d(8, 24, 2, 2)

    def forward(self, x):
        y = self.first(x)
        return [y, self.second(y)]
""",
        "WrongStride": """
@register(plans.backbone(8, 16))  # fault
class WrongStride(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 8, 8), nn.Conv2d(8, 16, 6, 6)

    def forward(self, x):
        y = self.first(x)
        return [y, self.second(y)]
""",
    },
    "determinism": {
        "DropsInEval": """
@register(plans.channel_preserving)
class DropsInEval(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, x):  # fault
        return nn.functional.dropout(x)
""",
        "SharedState": """
@register(plans.channel_preserving)
class SharedState(nn.Module):
    calls = torch.zeros(1)

    def __init__(self, channels):
        super().__init__()

    def forward(self, x):  # fault
        self.calls += 1
        return x * self.calls.to(x.dtype)
""",
        "OwnWeights": """
@register(plans.channel_preserving)
class OwnWeights(nn.Module):
    draw = torch.Generator()

    def __init__(self, channels):
        super().__init__()
        self.scale = nn.Parameter(torch.rand(channels, 1, 1, generator=self.draw))  # fault

    def forward(self, x):
        return x * self.scale
""",
    },
    "sizes": {
        "FixedSize": """
@register(plans.channel_preserving)
class FixedSize(nn.Module):
    def __init__(self, channels, side=32):
        super().__init__()
        self.position = nn.Parameter(torch.randn(channels, side, side))

    def forward(self, x):
        return x + self.position  # fault
""",
        "DropsAMap": """
@register(lambda ctx: Plan((), (8, 16)))
class DropsAMap(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 8, 8, 8)
        self.b = nn.Conv2d(8, 16, 2, 2)

    def forward(self, x):  # fault
        y = self.a(x)
        z = self.b(y)
        return [y, z] if x.shape[-1] == x.shape[-2] else [y]
""",
    },
    "batches": {
        "MixesImages": """
@register(plans.channel_preserving)
class MixesImages(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, x):  # fault
        return x - x.mean((0, 2, 3), keepdim=True)
""",
        "PooledNorm": """
@register(plans.channel_preserving)
class PooledNorm(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x):
        return x * self.norm(x.mean((2, 3), keepdim=True)).sigmoid()  # fault
""",
        "LaterReadsEarlier": """
@register(plans.channel_preserving)
class LaterReadsEarlier(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, x):  # fault
        return x + x.cumsum(0)
""",
    },
    "backward": {
        "UnusedParameter": """
@register(plans.channel_preserving)
class UnusedParameter(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.used = nn.Conv2d(channels, channels, 1)
        self.unused = nn.Conv2d(channels, channels, 1)  # fault

    def forward(self, x):
        return self.used(x)
""",
        "InfiniteGradient": """
@register(plans.channel_preserving)
class InfiniteGradient(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.power = nn.Parameter(torch.zeros(channels, 1, 1))  # fault

    def forward(self, x):
        return x * self.power.sqrt()
""",
        "DetachesInput": """
@register(plans.channel_preserving)
class DetachesInput(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x):  # fault
        return self.conv(x.detach())
""",
        "SometimesSkips": """
@register(plans.channel_preserving)
class SometimesSkips(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)  # fault

    def forward(self, x):
        if self.training and torch.rand(1).item() < 0.3:
            return x
        return x + self.conv(x)
""",
        "InheritsUnused": """
class Base(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.used = nn.Conv2d(channels, channels, 1)
        self.unused = nn.Conv2d(channels, channels, 1)  # fault


@register(plans.channel_preserving)
class InheritsUnused(Base):
    def forward(self, x):
        return self.used(x)
""",
    },
    "precision": {
        "Float32Table": """
@register(plans.channel_preserving)
class Float32Table(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.channels = channels

    def forward(self, x):
        mix = torch.eye(self.channels)
        return torch.einsum("oc,bchw->bohw", mix, x)  # fault
""",
        "TrainsInFloat32Only": """
@register(plans.channel_preserving)
class TrainsInFloat32Only(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        y = self.conv(x)
        if self.training:
            out = torch.zeros_like(x)
            out[:, torch.arange(x.shape[1])] = y  # fault
            return out
        return y
""",
    },
    "copies": {
        "OpenFile": """
@register(plans.channel_preserving)
class OpenFile(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.log = open(__file__)  # fault

    def forward(self, x):
        return x * 2
""",
        "KeepsActivation": """
@register(plans.channel_preserving)
class KeepsActivation(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        self.last = self.conv(x)  # fault
        return self.last
""",
        "LocalFunction": """
@register(plans.channel_preserving)
class LocalFunction(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.act = lambda x: x.relu()  # fault

    def forward(self, x):
        return self.act(x)
""",
        "StaleCache": """
@register(plans.channel_preserving)
class StaleCache(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1, bias=False)
        self.cache = None

    def forward(self, x):  # fault
        if self.training:
            return x * self.conv.weight.mean()
        if self.cache is None:
            self.cache = self.conv.weight.mean().detach().clone()
        return x * self.cache.to(x.dtype)
""",
        "KeepsActivationLater": """
@register(plans.channel_preserving)
class KeepsActivationLater(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)
        self.last = None

    def forward(self, x):
        self.last = self.conv(x)  # fault
        return self.last
""",
    },
    "weights": {
        "PlainTensor": """
@register(plans.channel_preserving)
class PlainTensor(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.mean = torch.rand(1)  # fault

    def forward(self, x):
        return x + self.mean.to(x.dtype)
""",
        "NonPersistent": """
@register(plans.channel_preserving)
class NonPersistent(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.const = torch.ones(1)
        self.register_buffer("r", torch.rand(channels, 1, 1), persistent=False)  # fault

    def forward(self, x):
        return x * self.r * self.const.to(x.dtype)
""",
        "CountsOnItsOwn": """
@register(plans.channel_preserving)
class CountsOnItsOwn(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.n = 0

    def forward(self, x):
        if self.training:
            self.n += 1  # fault
        return x * (1 + self.n)
""",
        "LateParameter": """
@register(plans.channel_preserving)
class LateParameter(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)
        self.extra = None

    def forward(self, x):
        if self.extra is None:
            self.extra = nn.Parameter(torch.ones(1, device=x.device, dtype=x.dtype))  # fault
        return self.conv(x) * self.extra
""",
    },
    "fold": {
        "InexactFold": """
@register(plans.channel_preserving)
class InexactFold(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x):
        return self.norm(self.conv(x))

    def fold(self):  # fault
        self.norm = nn.Identity()
""",
        "FoldWithoutScale": """
@register(plans.channel_preserving)
class FoldWithoutScale(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)
        self.norm = nn.BatchNorm2d(channels)
        self.gamma = nn.Parameter(torch.ones(channels, 1, 1))
        self.folded = False

    def forward(self, x):
        y = self.norm(self.conv(x))
        return y if self.folded else y * self.gamma

    def fold(self):  # fault
        self.folded = True
""",
    },
    "torchscript": {
        "PythonBranch": """
@register(plans.channel_preserving)
class PythonBranch(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        return x * 2 if round(x.mean().item() * 1e7) % 2 else x * 3  # fault
""",
    },
}
