import a_package_that_nobody_has
from torch import nn


class Unreachable(nn.Module):
    pass
