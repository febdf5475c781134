from .attention import *
from .block import *
from .decoder import *
from .fusion import *
from .scan import *
