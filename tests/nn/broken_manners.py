"""Modules that fail, print, or change what they share with others, by the check that has to fail.

`# fault` marks the line that the report has to name.
"""

MANNERS = {
    "printing": {
        "PrintsInForward": """
@register(plans.channel_preserving)
class PrintsInForward(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        print(x.shape)  # fault
        return x * 2
""",
        "PrintsWhenImported": """
print("loaded")  # fault


@register(plans.channel_preserving)
class PrintsWhenImported(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        return x * 2
""",
        "PrintsInBackward": """
class Fn(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, g):
        print("bwd")  # fault
        return g * 2


@register(plans.channel_preserving)
class PrintsInBackward(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        return Fn.apply(x)
""",
        "PrintsToStandardError": """
@register(plans.channel_preserving)
class PrintsToStandardError(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        print(x.shape, file=sys.stderr)  # fault
        return x * 2
""",
    },
    "globals": {
        "DefaultDtype": """
@register(plans.channel_preserving)
class DefaultDtype(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        y = self.conv(x)
        torch.set_default_dtype(torch.float64)  # fault
        return y
""",
        "MatmulWhenImported": """
torch.set_float32_matmul_precision("high")  # fault


@register(plans.channel_preserving)
class MatmulWhenImported(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        return x * 2
""",
        "GradientsOff": """
@register(plans.channel_preserving)
class GradientsOff(nn.Module):
    def __init__(self, channels):
        super().__init__()
        torch.set_grad_enabled(False)  # fault

    def forward(self, x):
        return x * 2
""",
        "GlobalHook": """
def note(module, args, output):
    return None


@register(plans.channel_preserving)
class GlobalHook(nn.Module):
    def __init__(self, channels):
        super().__init__()
        nn.modules.module.register_module_forward_hook(note)  # fault

    def forward(self, x):
        return x * 2
""",
        "SetsWhatIsSet": """
@register(plans.channel_preserving)
class SetsWhatIsSet(nn.Module):
    def __init__(self, channels):
        super().__init__()
        torch.backends.cudnn.benchmark = False  # fault

    def forward(self, x):
        return x * 2
""",
        "SetsEnvironment": """
@register(plans.channel_preserving)
class SetsEnvironment(nn.Module):
    def __init__(self, channels):
        super().__init__()
        os.environ["CUDA_VISIBLE_DEVICES"] = "0"  # fault

    def forward(self, x):
        return x * 2
""",
        "DetectsAnomalies": """
@register(plans.channel_preserving)
class DetectsAnomalies(nn.Module):
    def __init__(self, channels):
        super().__init__()
        torch.autograd.set_detect_anomaly(True)  # fault

    def forward(self, x):
        return x * 2
""",
    },
    "seeding": {
        "SeedsItsWeights": """
@register(plans.channel_preserving)
class SeedsItsWeights(nn.Module):
    def __init__(self, channels):
        super().__init__()
        torch.manual_seed(0)  # fault
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        return self.conv(x)
""",
        "SeedsNumpy": """
@register(plans.channel_preserving)
class SeedsNumpy(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        np.random.seed(3)  # fault
        return x * 2
""",
    },
    "inputs": {
        "WritesIntoInput": """
@register(plans.channel_preserving)
class WritesIntoInput(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        x += 1  # fault
        return x * 2
""",
    },
    "statistics": {
        "ProbingForward": """
@register(plans.backbone(8, 16))
class ProbingForward(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.BatchNorm2d(8))
        self.second = nn.Conv2d(8, 16, 2, 2)
        self.width_list = [y.shape[1] for y in self(torch.randn(1, 3, 64, 64))]  # fault

    def forward(self, x):
        y = self.first(x)
        return [y, self.second(y)]
""",
    },
    "builds": {
        "ReturnsADictionary": """
@register(plans.channel_preserving)  # fault
class ReturnsADictionary(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        return {"out": self.conv(x)}
""",
        "EvenKernel": """
@register(plans.channel_preserving)
class EvenKernel(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1 if channels < 16 else 2)  # runs on the channels of an image

    def forward(self, x):
        return x + self.conv(x)  # fault
""",
        "NoSuchLayer": """
@register(plans.channel_preserving)
class NoSuchLayer(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, groups=7)  # fault

    def forward(self, x):
        return self.conv(x)
""",
        "RaisesException": """
@register(plans.channel_preserving)
class RaisesException(nn.Module):
    def __init__(self, channels):
        super().__init__()
        raise Exception("channels must be 3")  # fault

    def forward(self, x):
        return x * 2
""",
        "ExitsForward": """
@register(plans.channel_preserving)
class ExitsForward(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        sys.exit("no cuda")  # fault
""",
        "BackboneWithoutAName": """
@register(plans.backbone(8, 16))
class BackboneWithoutAName(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 8, 8, 8)
        self.b = nn.Conv2d(8, 16, 2, 2)

    def forward(self, x):
        y = self.a(x)
        z = self.b(y)
        return [y, z + missing]  # fault
""",
        "FusionWithoutAName": """
def row(ctx, c2):
    return Plan((list(ctx.inputs), c2), c2)


@register(row)
class FusionWithoutAName(nn.Module):
    def __init__(self, channels, c2):
        super().__init__()
        self.p = nn.ModuleList(nn.Conv2d(c, c2, 1) for c in channels)

    def forward(self, maps):
        y = [p(x) for p, x in zip(self.p, maps, strict=True)]
        return missing(y)  # fault
""",
    },
}
