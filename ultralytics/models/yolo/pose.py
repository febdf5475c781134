"""Not built: the import raises ImportError, with what to use."""

from ultralytics.utils.public import refuse

refuse(__name__)
