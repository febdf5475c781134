from torch import nn

from ...modules.conv import Conv


class EdgeConv(Conv):
    def __init__(self, c1, c2):
        super().__init__(c1, c2, 3, g=2)
