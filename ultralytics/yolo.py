"""Public import path of releases before 8.0.137: `yolo.utils` is `ultralytics.utils`, `yolo.v8` is `models.yolo`."""

import importlib
import sys
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType

__path__: list[str] = []


class Moved(Loader):
    """Import the module at the present place."""

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name.startswith(f"{__name__}.") else None

    def exec_module(self, module: ModuleType) -> None:
        package, _, place = module.__name__.partition(".yolo.")
        sys.modules[module.__name__] = importlib.import_module(f"{package}.{place.replace('v8', 'models.yolo')}")


sys.meta_path.insert(0, Moved())
