from torch import nn

from ..modules.head import RTDETRDecoder

__all__ = ["RTDETRDecoder_Gated"]


class RTDETRDecoder_Gated(RTDETRDecoder):
    def __init__(self, nc=80, ch=(512, 1024, 2048), hd=256, nq=300, ndp=4, nh=8, ndl=6):
        super().__init__(nc, ch, hd, nq, ndp, nh, ndl)
        self.gates = nn.ModuleList(nn.Conv2d(c, c, 1) for c in ch)

    def forward(self, x, batch=None):
        return super().forward([part * gate(part).sigmoid() for part, gate in zip(x, self.gates)], batch)
