import torch
from torch import nn

from .conv import Conv


class RTDETRDecoder(nn.Module):
    export = False

    def __init__(self, nc=80, ch=(512, 1024, 2048), hd=256, nq=300):
        super().__init__()
        self.nc, self.nl, self.nq = nc, len(ch), nq
        self.proj = nn.ModuleList(Conv(c, hd) for c in ch)
        self.out = nn.Linear(hd, 4 + nc)

    def forward(self, x, batch=None):
        tokens = torch.cat([proj(part).flatten(2) for proj, part in zip(self.proj, x)], 2).permute(0, 2, 1)
        y = self.out(tokens[:, : self.nq]).sigmoid()
        return y if self.export else (y, None)


class RTDETRDecoder_Light(RTDETRDecoder):
    pass
