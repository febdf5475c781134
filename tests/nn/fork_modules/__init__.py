from .attention import *
from .blocks import *
from .conv import *
from .needs_package import *
