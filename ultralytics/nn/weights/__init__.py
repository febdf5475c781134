"""Weights: reading files of several kinds, renaming and reshaping what they hold, and a report of what became of it.

files      tensors by name from any file, and what else it says (class names, model YAML)
pickled    files that pickle whole objects, read as data without running code of theirs
renaming   how other code bases name the parameters of the same layers
roles      what each row of a model is for (stem, stage, lateral convolution, ...), which the renaming needs
reshaping  tensors of another shape: attention biases, depthwise kernels, rows of classes
matching   filling a model with what fits
loading    all of it together: a file into a model, a classifier into its backbone
"""

from ultralytics.nn.weights.load import LoadReport, load_backbone, load_matching, load_weights
from ultralytics.nn.weights.names import rename_timm_key
from ultralytics.nn.weights.read import Weights, known_names, read_state_dict, read_weights
