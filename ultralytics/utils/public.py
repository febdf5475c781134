"""Public names at the places of the published package: the module that defines each here, or what is not built.

A module gets the names of its entry by `__getattr__ = public_names(__name__)`; each is imported at its first use.
"""

import importlib
from collections.abc import Callable

# place -> defining module -> names; modules below the package
PLACES: dict[str, dict[str, str]] = {
    "": {
        "models": "RTDETR YOLO",
        "utils": "__version__ ASSETS",
        "utils.checks": "checks",
        "utils.settings": "SETTINGS:settings",
        "published.scripting": "fetch_all:download",
    },
    "cfg": {
        "cfg.options": "MODES",
        "published.config": "DEFAULT_CFG DEFAULT_CFG_DICT DEFAULT_CFG_KEYS TASKS TASK2DATA TASK2MODEL TASK2METRIC "
        "check_dict_alignment copy_default_cfg smart_value",
    },
    "data": {
        "data.build": "build_dataloader",
        "published.datasets": "BaseDataset YOLODataset build_yolo_dataset load_inference_source",
    },
    "data.augment": {},
    "data.base": {"published.datasets": "BaseDataset"},
    "data.build": {
        "data.build": "EpochLoader:InfiniteDataLoader",
        "published.datasets": "build_yolo_dataset load_inference_source YOLODataset",
    },
    "data.dataset": {"published.datasets": "BaseDataset YOLODataset"},
    "data.loaders": {"published.datasets": "LoadImagesAndVideos LoadStreams load_inference_source"},
    "data.utils": {
        "data.images": "IMAGE_SUFFIXES:IMG_FORMATS",
        "data.loaders": "VIDEO_SUFFIXES:VID_FORMATS",
        "published.datasets": "autosplit compress_one_image",
    },
    "engine.exporter": {"nn.formats": "export_formats"},
    "engine.model": {"models": "RTDETR YOLO"},
    "engine.results": {"engine.results": "Boxes:BaseTensor"},
    "engine.tuner": {"models.tuning": "Tuner"},
    "models": {},
    "models.utils.loss": {"losses.detr": "RTDETRDetectionLoss:DETRLoss"},
    "models.yolo": {"models.yolo.model": "YOLO"},
    "nn.autobackend": {"published.config": "check_class_names"},
    "nn.modules": {},
    "nn.modules.activation": {"published.tensors": "AGLU"},
    "nn.modules.head": {},
    "nn.tasks": {
        "nn.tasks": "DetectionModel:BaseModel",
        "published.config": "yaml_model_load",
        "published.networks": "attempt_load_weights load_checkpoint:attempt_load_one_weight load_checkpoint "
        "guess_model_task torch_safe_load",
    },
    "trackers": {"trackers.track": "BOTSORT BYTETracker"},
    "utils": {
        "cfg.family": "DEFAULT_CFG_PATH",
        "published.config": "DEFAULT_CFG DEFAULT_CFG_DICT DEFAULT_CFG_KEYS YAML yaml_load yaml_print yaml_save",
        "published.scripting": "DATASETS_DIR FILE LINUX LOCAL_RANK MACOS NUM_THREADS PYTHON_VERSION RANK ROOT RUNS_DIR "
        "TQDM TryExcept WEIGHTS_DIR WINDOWS emojis is_colab is_online plt_settings threaded",
        "utils.settings": "SETTINGS",
        "published.networks": "get_default_callbacks",
        "published.machine": "ARM64 ASSETS_URL IS_COLAB IS_DOCKER IS_JETSON IS_RASPBERRYPI MACOS_VERSION ONLINE "
        "TORCH_VERSION TORCHVISION_VERSION get_ubuntu_version is_docker is_github_action_running is_jetson "
        "is_raspberrypi",
    },
    "utils.autobatch": {"published.networks": "autobatch check_train_batch_size"},
    "utils.benchmarks": {"published.networks": "benchmark"},
    "utils.callbacks": {"published.networks": "add_integration_callbacks default_callbacks get_default_callbacks"},
    "utils.callbacks.base": {"published.networks": "add_integration_callbacks default_callbacks get_default_callbacks"},
    "utils.checks": {
        "published.config": "check_class_names check_file check_python check_requirements check_suffix check_version "
        "check_yaml check_yolo is_ascii",
        "published.scripting": "is_online:check_online",
        "published.tensors": "check_amp",
        "utils.fonts": "find_font_file:check_font",
        "published.machine": "IS_PYTHON_3_8 IS_PYTHON_3_12 IS_PYTHON_3_13 IS_PYTHON_MINIMUM_3_10 "
        "IS_PYTHON_MINIMUM_3_12 IS_PYTHON_MINIMUM_3_13 cuda_device_count cuda_is_available is_docker "
        "is_github_action_running is_jetson",
    },
    "utils.downloads": {
        "published.config": "GITHUB_ASSETS_NAMES GITHUB_ASSETS_STEMS attempt_download_asset",
        "published.scripting": "fetch:safe_download fetch_all:download is_online zip_directory",
    },
    "utils.files": {
        "published.scripting": "WorkingDirectory get_latest_run",
        "published.machine": "file_age file_date spaces_in_path",
    },
    "utils.loss": {"published.networks": "E2ELoss E2ELoss:E2EDetectLoss v8DetectionLoss"},
    "utils.metrics": {"metrics.ap": "average_precision:compute_ap", "metrics.detection": "BoxMetrics:Metric"},
    "utils.nms": {"utils.ops": "non_max_suppression"},
    "utils.ops": {"published.tensors": "Profile convert_torch2numpy_batch scale_coords segments2boxes"},
    "utils.patches": {"published.datasets": "imread imwrite"},
    "utils.plotting": {
        "published.datasets": "save_one_box",
        "published.tensors": "output_to_target",
        "published.scripting": "plt_settings",
    },
    "utils.tal": {},
    "utils.torch_utils": {
        "published.config": "check_version",
        "published.machine": "TORCH_VERSION TORCHVISION_VERSION",
        "published.tensors": "copy_attr get_num_params intersect_dicts scale_img smart_inference_mode",
        "published.networks": "EarlyStopping",
    },
}
INSTEAD = "this package detects upright boxes with RTDETR and YOLO; use the published package in another environment"
_REASONS = {
    f"segmentation, poses, oriented boxes and classification are not built; {INSTEAD}": (
        "SAM FastSAM sam fastsam segment pose obb classify SegmentationModel PoseModel OBBModel ClassificationModel "
        "v8SegmentationLoss v8PoseLoss v8OBBLoss v8ClassificationLoss KeypointLoss RotatedBboxLoss Segment Pose OBB "
        "Classify SegmentMetrics PoseMetrics OBBMetrics ClassifyMetrics Masks Keypoints Probs ClassificationDataset "
        "RotatedTaskAlignedAssigner classify_transforms CopyPaste process_mask scale_masks"
    ),
    f"open-vocabulary, NAS and multi-modal models are not built; {INSTEAD}": (
        "YOLOWorld YOLOE NAS nas world yoloe WorldModel YOLOEModel YOLOMultiModalDataset GroundingDataset WorldDetect"
    ),
    "there is no client of the HUB; this package sends nothing to a service: use files and settings of this process": (
        "hub HUBTrainingSession HUB_WEB_ROOT HUB_API_ROOT"
    ),
    "solutions are not built; count, draw and track with the package supervision on `results[0].boxes`": "solutions",
    "a tracker belongs to a prediction; use the method `track` of a model": "register_tracker",
    "a transform of this package takes a `Sample`; choose options such as mosaic, mixup, degrees and hsv_h": (
        "Format v8_transforms Albumentations RandomLoadText"
    ),
    "the terms of boxes are computed by v8DetectionLoss": "BboxLoss DFLoss",
    "use `yolo benchmark` or the method `benchmark` of a model": "ProfileModels",
    "training and validation check all label files, and report what is wrong": (
        "verify_image_label verify_image get_hash visualize_image_annotations"
    ),
}
ABSENT = {name: reason for reason, names in _REASONS.items() for name in names.split()}


def public_names(module: str, own: Callable[[str], object] | None = None) -> Callable[[str], object]:
    """Return the `__getattr__` of a module for its names in `PLACES`, where `defined:name` is a second name.

    It raises ImportError, with what to use, for names in `ABSENT`. `own` resolves further names.
    """
    place = module.partition(".")[2]
    homes = {name.rpartition(":")[2]: (home, name.partition(":")[0])
             for home, names in PLACES[place].items() for name in names.split()}  # fmt: skip

    def resolve(name: str) -> object:
        if name in homes:
            home, defined = homes[name]
            return getattr(importlib.import_module(f"{module.partition('.')[0]}.{home}"), defined)
        if name in ABSENT:
            raise ImportError(f"{module}.{name}: {ABSENT[name]}.", name=module)
        if own is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        return own(name)

    return resolve


def absent_names(module: str, kind: str) -> Callable[[str], object]:
    """Return the `__getattr__` of a module of which nothing is built: every name raises ImportError, see `ABSENT`."""

    def refuse(name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        raise ImportError(f"{module}.{name}: {ABSENT[kind]}.", name=module)

    return refuse
