import a_package_that_nobody_has
from torch import nn


class Unreachable(nn.Module):
    expansion = 1

    def __init__(self, ch_in, ch_out):
        super().__init__()
        self.layer = a_package_that_nobody_has.Layer(ch_in, ch_out)
