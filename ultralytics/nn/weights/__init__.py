"""Weights: read files of several kinds, rename and resize their tensors, and load them with a report.

read         tensors by name from any file, with class names and model YAML
torch_files  archives and pickles of torch.save, checked before they are read
unpickle     published files that pickle whole objects, read without running their code
names        naming schemes of other code bases, and the role of each layer that they need
imagenet     weights that timm and torchvision download
load         load whatever fits into a model or a backbone
"""

from ultralytics.nn.weights.imagenet import IMAGENET, timm_weights
from ultralytics.nn.weights.load import CLASS_ROWS, LoadReport, load_backbone, load_matching, load_weights
from ultralytics.nn.weights.names import rename_timm_key
from ultralytics.nn.weights.read import Weights, as_weights, known_names, read_state_dict, read_weights
