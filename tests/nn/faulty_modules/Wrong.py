from torch import nn
from ultralytics.nn import plans
from ultralytics.nn.registry import register


@register(plans.channel_preserving)
class StatesWrong(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.c = nn.Conv2d(channels, 8, 1)

    def forward(self, x):
        return self.c(x)


@register(plans.backbone(16, 32))
class StatesTwo(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 16, 3, 8, 1)
        self.b = nn.Conv2d(16, 24, 3, 2, 1)

    def forward(self, x):
        x = self.a(x)
        return [x, self.b(x)]
