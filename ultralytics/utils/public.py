"""Public names of the published package: the module that defines each here, or what is not built.

A module at a published place gets them by `__getattr__ = public_names(__name__)`; each is imported at its first use.
As published modules import from each other, every place has all of them. `PLACES` need no file, see `Places`.
"""

import dis
import importlib
import importlib.util
import inspect
import logging
import re
import sys
from collections.abc import Callable
from importlib import metadata
from importlib.machinery import ModuleSpec
from types import ModuleType

# defining module below the package -> names, with a second name after a colon
HOMES = {
    "cfg.family": "DEFAULT_CFG_PATH", "cfg.options": "MODES get_cfg",
    "data.build": "build_dataloader EpochLoader:InfiniteDataLoader", "data.dataset_yaml": "check_det_dataset",
    "data.images": "IMAGE_SUFFIXES:IMG_FORMATS", "data.loaders": "VIDEO_SUFFIXES:VID_FORMATS",
    "data.transforms.geometry": "LetterBox", "data.transforms.sample": "Compose", "engine.exporter": "Exporter",
    "engine.results": "Boxes:BaseTensor", "engine.train_log": "strip_optimizer", "engine.train_state": "EarlyStopping",
    "losses.assigner": "TaskAlignedAssigner", "losses.detr": "RTDETRDetectionLoss RTDETRDetectionLoss:DETRLoss",
    "losses.matcher": "HungarianMatcher", "losses.yolo": "DetectionLoss DualAssignmentLoss",
    "metrics.ap": "ap_per_class average_precision:compute_ap smooth",
    "metrics.detection": "BoxMetrics BoxMetrics:Metric DetMetrics", "metrics.matching": "ConfusionMatrix",
    "models": "RTDETR YOLO", "models.rtdetr.predict": "RTDETRPredictor RTDETRValidator",
    "models.rtdetr.train": "RTDETRTrainer", "models.tuning": "Tuner",
    "models.yolo.detector": "DetectionPredictor DetectionValidator", "models.yolo.training": "DetectionTrainer",
    "nn.formats": "export_formats", "nn.head_protocol": "scale_img", "nn.modules.denoising": "get_cdn_group",
    "nn.modules.transformer": "inverse_sigmoid",
    "nn.tasks": "DetectionModel:BaseModel DetectionModel feature_visualization RTDETRDetectionModel",
    "published.config": "attempt_download_asset cfg2dict check_class_names check_dict_alignment check_file "
    "check_python check_requirements check_suffix check_version check_yaml check_yolo copy_default_cfg DEFAULT_CFG "
    "DEFAULT_CFG_DICT DEFAULT_CFG_KEYS GITHUB_ASSETS_NAMES GITHUB_ASSETS_STEMS get_save_dir is_ascii smart_value "
    "TASK2DATA TASK2METRIC TASK2MODEL TASKS YAML yaml_load yaml_model_load yaml_print yaml_save",
    "published.datasets": "BaseDataset LoadImagesAndVideos LoadStreams RTDETRDataset YOLOConcatDataset YOLODataset "
    "autosplit build_yolo_dataset compress_one_image get_hash img2label_paths imread imwrite load_inference_source "
    "save_one_box v8_transforms verify_image_label visualize_image_annotations",
    "published.instances": "BaseMixTransform BaseTransform Bboxes Format Instances",
    "published.machine": "ARM64 ASSETS_URL clean_str cuda_device_count cuda_is_available DATASETS_DIR emojis "
    "fetch:safe_download fetch_all:download FILE file_age file_date get_latest_run get_ubuntu_version IS_COLAB "
    "is_colab IS_DOCKER is_docker is_github_action_running IS_JETSON is_jetson IS_JUPYTER is_online "
    "is_online:check_online IS_PYTHON_3_12 IS_PYTHON_3_13 IS_PYTHON_3_8 IS_PYTHON_MINIMUM_3_10 IS_PYTHON_MINIMUM_3_12 "
    "IS_PYTHON_MINIMUM_3_13 IS_RASPBERRYPI is_raspberrypi LINUX LOCAL_RANK MACOS MACOS_VERSION NUM_THREADS ONLINE "
    "parse_version plt_settings PYTHON_VERSION RANK remove_colorstr ROOT RUNS_DIR spaces_in_path threaded "
    "TORCH_VERSION TORCHVISION_VERSION TQDM TryExcept USER_CONFIG_DIR WEIGHTS_DIR WINDOWS WorkingDirectory "
    "zip_directory",
    "published.losses": "BboxLoss DFLoss E2ELoss E2ELoss:E2EDetectLoss v8DetectionLoss",
    "published.networks": "AGLU AutoBackend add_integration_callbacks "
    "attempt_load_weights benchmark check_amp check_torchvision clip_coords convert_torch2numpy_batch "
    "default_callbacks get_default_callbacks guess_model_task load_checkpoint load_checkpoint:attempt_load_one_weight "
    "output_to_target scale_coords segments2boxes torch_safe_load",
    "utils": "ASSETS IterableSimpleNamespace IterableSimpleNamespace:SimpleClass LOGGER __version__ colorstr",
    "utils.checks": "checks:collect_system_info check_imgsz in_notebook:is_jupyter",
    "utils.dist": "main_first:torch_distributed_zero_first",
    "utils.fonts": "find_font_file:check_font",
    "utils.ops": "bbox2dist bbox_ioa bbox_iou box_iou dist2bbox make_anchors make_divisible non_max_suppression "
    "xywh2xyxy xyxy2xywh",
    "trackers.track": "BOTSORT BYTETracker", "utils.plotting": "plot_results", "utils.settings": "SETTINGS",
    "utils.torch_utils": "autocast copy_attr de_parallel fuse_conv_and_bn fuse_deconv_and_bn get_num_gradients "
    "get_num_params init_seeds intersect_dicts ModelEMA one_cycle Profile select_device smart_inference_mode "
    "time_sync unwrap_model",
}  # fmt: skip
# published modules that are no file here; those of releases before 8.0.137 begin with `yolo.`
PLACES = (
    "data.base data.split engine.tuner models.rtdetr.val models.utils models.utils.loss models.utils.ops "
    "models.yolo.detect models.yolo.detect.predict models.yolo.detect.train models.yolo.detect.val nn.autobackend "
    "nn.modules.activation trackers.bot_sort trackers.byte_tracker utils.autobatch utils.benchmarks "
    "utils.callbacks.clearml utils.callbacks.mlflow utils.callbacks.tensorboard utils.callbacks.wb utils.instance "
    "utils.loss utils.nms utils.patches utils.tal utils.tqdm"
)
# of the package itself, where they are modules elsewhere
TOP = {"settings": ("utils.settings", "SETTINGS"), "checks": ("utils.checks", "checks")}
NAMES = {
    name.rpartition(":")[2]: (home, name.partition(":")[0]) for home, names in HOMES.items() for name in names.split()
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
    "choose options such as mosaic, mixup, degrees and hsv_h, or append a transform": "Albumentations RandomLoadText",
    "use the option batch=-1, which measures the memory of training steps": "autobatch check_train_batch_size",
    "use `yolo benchmark` or the method `benchmark` of a model": "ProfileModels",
    "use get_cfg, which checks options, or `yolo checks`": "check_cfg print_args get_cpu_info get_gpu_info",
    "use PIL, urllib.parse, pathlib, numpy or torch itself": "exif_size clean_url url2file empty_like",
    "training and validation check all label files, and report what is wrong": "verify_image",
}
MODEL_CLASS = r"\w+Model|SAM|FastSAM|NAS|YOLOE|YOLOWorld"
BUILDER, DATASET_NAMES = "build_yolo_dataset", {"letterbox": "YOLODataset", "stretch": "RTDETRDataset"}  # by `resize`
LOSS_PARTS = ("v8DetectionLoss", "BboxLoss", "DFLoss", "TaskAlignedAssigner", "utils.loss.bbox_iou")
# a script may assign to these, in any module unless it is named, and training uses it
REPLACEABLE = (
    *LOSS_PARTS, "DetectionModel", "E2ELoss", "RTDETRDataset", "RTDETRDetectionLoss", "RTDETRDetectionModel",
    "ap_per_class", "build_yolo_dataset", "non_max_suppression", "v8_transforms", "YOLODataset", "utils.tal.bbox_iou",
)  # fmt: skip
UNCALLED = {  # published methods that are not called here, by what to override
    "forward": "get_pos_mask get_box_metrics select_candidates_in_gts select_topk_candidates select_highest_overlaps "
    "get_targets _get_loss _get_loss_aux _get_loss_bbox _get_loss_class",
    "get_labels": "cache_labels verify_labels get_label_files cache_images cache_images_to_disk set_rectangle",
    "update_metrics": "_prepare_batch _prepare_pred _process_batch match_predictions scale_preds",
    "finalize_metrics": "eval_json pred_to_json save_one_txt", "build_schedule": "_setup_scheduler",
    "construct_result": "write_results", "get_model": "setup_model", "results_row": "save_metrics",
}  # fmt: skip
PLACED: set[str] = set()  # modules with public names
ABSENT = {name: reason for reason, names in _REASONS.items() for name in names.split()}


def public_names(module: str) -> Callable[[str], object]:
    """Return the `__getattr__` of a module for the names in `HOMES`, and in modules of networks for those of layers.

    Flags such as TORCH_2_0 are whether the installed version is at least that.

    It raises ImportError, with what to use, for names in `ABSENT`. As an attribute of a module, the class of a model
    has no objects instead, for `isinstance(network, ultralytics.nn.tasks.SegmentationModel)`.
    """
    PLACED.add(module)
    package, _, place = module.partition(".")
    kind = module.rpartition(".")[2]
    names = NAMES if place else {**NAMES, **TOP}

    def resolve(name: str) -> object:
        if name in names:
            return public(name, names)
        if name in ABSENT:
            error, caller = ImportError(f"{module}.{name}: {ABSENT[name]}.", name=module), sys._getframe(1)
            if re.fullmatch(MODEL_CLASS, name) and caller.f_code.co_code[caller.f_lasti] != dis.opmap["IMPORT_FROM"]:
                return absent_class(name, error)
            raise error
        if place.startswith("yolo.") and not name.startswith("__"):
            return getattr(importlib.import_module(f"{package}.{Places.moved(place)}"), name)
        if place.startswith("utils.callbacks.") and name == "callbacks":
            return importlib.import_module(f"{package}.published.networks").logger_callbacks(kind)
        if place.startswith("nn.") and not name.startswith("_"):
            layers = vars(importlib.import_module(f"{package}.nn.modules"))
            if name in layers and place != "nn.modules":
                return layers[name]
        if flag := re.fullmatch(r"(TORCH|TORCHVISION)_(\d+)_(\d+)", name):
            return [*map(int, metadata.version(flag[1].lower()).split(".")[:2])] >= [int(flag[2]), int(flag[3])]
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return resolve


def absent_class(name: str, error: ImportError) -> type:
    """Return a class that can be neither called nor extended, which raises `error`."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise error

    return type(name, (), {"__new__": refuse, "__init_subclass__": refuse})


class Places:
    """Find the modules of `PLACES`, which have public names only, and refuse modules that are named in `ABSENT`."""

    @staticmethod
    def moved(place: str) -> str:
        """Return the place of a module that began with `yolo.`, as it is since 8.0.137."""
        return re.sub(r"^yolo\b\.?(v8\b)?", lambda found: "models.yolo" if found[1] else "", place)

    @classmethod
    def find_spec(cls, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return how to make the module of a place. Raises ImportError for what is not built."""
        own, _, place = name.partition(".")
        if own != __name__.partition(".")[0]:
            return None
        if absent := ABSENT.keys() & place.split("."):
            raise ImportError(f"{name}: {ABSENT[absent.pop()]}.", name=name)
        old = place.partition(".")[0] == "yolo" and importlib.util.find_spec(f"{own}.{cls.moved(place)}".strip("."))
        return ModuleSpec(name, cls, is_package=True) if place in PLACES.split() or old else None

    @staticmethod
    def create_module(spec: ModuleSpec) -> None:
        """Use a new module."""

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        """Give a new module its names."""
        module.__doc__, module.__getattr__ = "Public import path.", public_names(module.__name__)


sys.meta_path.append(Places)


class Overridable:
    """Base of classes that warn of an overridden published method that is not called here."""

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        for own, names in UNCALLED.items():
            for name in sorted(vars(cls).keys() & names.split()):
                if hasattr(cls, own) and own not in vars(cls) and not any(hasattr(b, name) for b in cls.__bases__):
                    logger = logging.getLogger(__name__.partition(".")[0])
                    logger.warning(f"{cls.__name__}.{name} is not called here; override {own}")


def replacements(name: str | None = None) -> dict[str, object]:
    """Return the classes and functions of a script in place of public names, by place: `ultralytics.data.LetterBox`.

    With `name` only those of a public name, or of one in a module such as `utils.loss.bbox_iou`.
    """
    own, (module, _, short) = __name__.partition(".")[0], (name or "").rpartition(".")
    places = ({f"{own}.{module}"} if module else PLACED) & sys.modules.keys()
    members, names = {place: vars(sys.modules[place]) for place in places}, {short} if name else NAMES.keys()
    found = {f"{place}.{n}": members[place][n] for place in members for n in members[place].keys() & names}
    return {n: x for n, x in found.items() if callable(x) and not str(getattr(x, "__module__", own)).startswith(own)}


def public(name: str, names: dict[str, tuple[str, str]] = NAMES) -> object:
    """Return the object of a public name."""
    home, defined = names[name]
    return getattr(importlib.import_module(f"{__name__.partition('.')[0]}.{home}"), defined)


def replaced(name: str) -> object | None:
    """Return what a script has assigned to a public name, in any module or in that before it; None if nothing."""
    return next(iter(replacements(name).values()), None)


def accepted(call: Callable[..., object], **given: object) -> dict[str, object]:
    """Return the arguments that a function or class of a script takes; those of older releases lack some."""
    taken = inspect.signature(call).parameters
    return {name: value for name, value in given.items() if name in taken or "kwargs" in taken}


def unused_replacements() -> list[str]:
    """Return a warning for each name that a script has replaced without an effect, see REPLACEABLE."""
    places = {*replacements()}
    places -= {place for name in REPLACEABLE if places for place in replacements(name)}
    return [f"{place} was replaced, which has no effect here; override a method" for place in sorted(places)]
