"""Dense heads as forks write them for different releases."""

import copy
import math

import torch
from torch import nn

from ultralytics.utils.tal import dist2bbox, make_anchors

from ..modules import DFL, Conv, Detect, DWConv


class Detect_Tied(nn.Module):
    dynamic = False
    export = False
    shape = None
    anchors = torch.empty(0)
    strides = torch.empty(0)

    def __init__(self, nc=80, hidc=256, ch=()):
        super().__init__()
        self.nc, self.nl, self.reg_max = nc, len(ch), 16
        self.no = nc + self.reg_max * 4
        self.stride = torch.zeros(self.nl)
        self.stems = nn.ModuleList(Conv(x, hidc, 1) for x in ch)
        self.cv2, self.cv3 = nn.Conv2d(hidc, 4 * self.reg_max, 1), nn.Conv2d(hidc, nc, 1)
        self.dfl = DFL(self.reg_max)

    def forward(self, x):
        for i in range(self.nl):
            x[i] = self.stems[i](x[i])
            x[i] = torch.cat((self.cv2(x[i]), self.cv3(x[i])), 1)
        if self.training:
            return x
        if self.dynamic or self.shape != x[0].shape:
            self.anchors, self.strides = (t.transpose(0, 1) for t in make_anchors(x, self.stride, 0.5))
            self.shape = x[0].shape
        box, cls = torch.cat([xi.view(x[0].shape[0], self.no, -1) for xi in x], 2).split((64, self.nc), 1)
        if self.export and self.format in ("tflite", "edgetpu"):
            raise NotImplementedError
        dbox = dist2bbox(self.dfl(box), self.anchors.unsqueeze(0), xywh=True, dim=1) * self.strides
        y = torch.cat((dbox, cls.sigmoid()), 1)
        return y if self.export else (y, x)

    def bias_init(self):
        self.cv3.bias.data[:] = math.log(5 / self.nc / (640 / self.stride[1]) ** 2)


class Detect_Finer(Detect_Tied):  # adds a map
    def __init__(self, nc=80, hidc=32, ch=()):
        super().__init__(nc, hidc, (ch[0], *ch))

    def forward(self, x):
        return super().forward([nn.functional.interpolate(x[0], scale_factor=2), *x])


class DetectTwin(Detect_Tied):  # an auxiliary branch for training reads the second half of the maps
    def __init__(self, nc=80, hidc=32, ch=()):
        super().__init__(nc, hidc, ch[: len(ch) // 2])
        self.extra = nn.ModuleList(nn.Conv2d(x, self.no, 1) for x in ch[self.nl :])

    def forward(self, x):
        extra = [conv(level) for conv, level in zip(self.extra, x[self.nl :])]
        x = super().forward(x[: self.nl])
        return x + extra if self.training else x


class Detect_Plain(nn.Module):  # neither `bias_init` nor `export`
    def __init__(self, nc=80, ch=()):
        super().__init__()
        self.nc, self.nl, self.reg_max, self.stride = nc, len(ch), 1, torch.zeros(len(ch))
        self.out = nn.ModuleList(nn.Conv2d(x, 4 + nc, 1) for x in ch)

    def forward(self, x):
        x = [conv(level) for conv, level in zip(self.out, x)]
        if self.training:
            return x
        anchors, strides = (t.transpose(0, 1) for t in make_anchors(x, self.stride, 0.5))
        box, cls = torch.cat([level.flatten(2) for level in x], 2).split((4, self.nc), 1)
        return torch.cat((dist2bbox(box, anchors.unsqueeze(0), dim=1) * strides, cls.sigmoid()), 1), x


class Detect_8_0(Detect):
    def __init__(self, nc=80, ch=()):
        super().__init__(nc, ch)
        self.gates = nn.ModuleList(DWConv(x, x, 3) for x in ch)
        self.detect = Detect.forward

    def forward(self, x):
        return self.detect(self, [level * gate(level) for level, gate in zip(x, self.gates)])


class Detect_8_2(Detect):
    def __init__(self, nc=80, ch=()):
        super().__init__(nc, ch)

    def forward(self, x):
        x = [torch.cat((box(level), cls(level)), 1) for box, cls, level in zip(self.cv2, self.cv3, x)]
        if self.training:
            return x
        if self.dynamic or self.shape != x[0].shape:
            self.anchors, self.strides = (t.transpose(0, 1) for t in make_anchors(x, self.stride, 0.5))
            self.shape = x[0].shape
        box, cls = torch.cat([level.flatten(2) for level in x], 2).split((self.reg_max * 4, self.nc), 1)
        y = torch.cat((self.decode_bboxes(box), cls.sigmoid()), 1)
        return y if self.export else (y, x)


class Detect_8_3(Detect):
    def __init__(self, nc=80, ch=()):
        super().__init__(nc, ch)

    def forward(self, x):
        for i in range(self.nl):
            x[i] = torch.cat((self.cv2[i](x[i]), self.cv3[i](x[i])), 1)
        if self.training:
            return x
        y = self._inference(x)
        return y if self.export else (y, x)


class Detect_8_3_Pair(Detect):
    end2end = True

    def __init__(self, nc=80, ch=()):
        super().__init__(nc, ch)
        self.cv3 = nn.ModuleList(nn.Sequential(Conv(x, 32, 1), nn.Conv2d(32, nc, 1)) for x in ch)
        self.one2one_cv3 = copy.deepcopy(self.cv3)


class Detect_8_4(Detect):
    def __init__(self, nc=80, reg_max=16, end2end=False, ch=()):
        super().__init__(nc, reg_max, end2end, ch)

    def forward(self, x):
        preds = self.forward_head(x, **self.one2many)
        if self.end2end:
            preds = {"one2many": preds, "one2one": self.forward_head([level.detach() for level in x], **self.one2one)}
        if self.training:
            return preds
        y = self._inference(preds["one2one"] if self.end2end else preds)
        y = self.postprocess(y.permute(0, 2, 1)) if self.end2end else y
        return y if self.export else (y, preds)


class Segment_Tied(Detect_Tied):
    pass


class Detect_Objectness(Detect_Plain):
    def __init__(self, nc=80, ch=()):
        super().__init__(nc, ch)
        self.out = nn.ModuleList(nn.Conv2d(x, 5 + nc, 1) for x in ch)

    def forward(self, x):
        x = [conv(level) for conv, level in zip(self.out, x)]
        return x if self.training else (torch.cat([level.flatten(2) for level in x], 2), x)


class Detect_Named(Detect_Plain):
    def forward(self, x):
        y = torch.cat([conv(level).flatten(2) for conv, level in zip(self.out, x)], 2)
        return {"class_logits": y[:, 4:], "box_deltas": y[:, :4]} if self.training else (y, None)


class Detect_Anchors(nn.Module):
    def __init__(self, nc=80, anchors=(), ch=()):
        super().__init__()
        self.nc, self.out = nc, nn.ModuleList(nn.Conv2d(x, 3 * (5 + nc), 1) for x in ch)

    def forward(self, x):
        return [conv(level).unflatten(1, (3, -1)) for conv, level in zip(self.out, x)]


class Detect_WithF(Detect_Plain):
    def __init__(self, nc=80, ch=()):
        super().__init__(nc, ch)
        self.f = nn.Identity()
