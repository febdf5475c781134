"""Public names of the published package: the module that defines each here, or what is not built.

A module at a published place gets them by `__getattr__ = public_names(__name__)`; each is imported at its first use.
As published modules import from each other, every place has all of them. A published module of another task calls
`refuse(__name__)`.
"""

import dis
import importlib
import re
import sys
from collections.abc import Callable
from typing import NoReturn

# defining module below the package -> names, with a second name after a colon
HOMES = {
    "cfg.family": "DEFAULT_CFG_PATH", "published.instances": "BaseMixTransform BaseTransform Bboxes Format Instances",
    "cfg.options": "get_cfg MODES", "nn.formats": "export_formats",
    "cli": "join_words:merge_equals_args", "losses.matcher": "HungarianMatcher", "models.rtdetr.train": "RTDETRTrainer",
    "data.augment": "Albumentations", "nn.modules.denoising": "get_cdn_group", "trackers.track": "BOTSORT BYTETracker",
    "data.build": "build_dataloader EpochLoader:InfiniteDataLoader", "losses.yolo": "DetectionLoss DualAssignmentLoss",
    "data.dataset_yaml": "check_det_dataset DatasetConfig load_dataset_config", "data.transforms.geometry": "LetterBox",
    "data.images": "IMAGE_SUFFIXES:IMG_FORMATS", "data.loaders": "ACCEPTED:FORMATS_HELP_MSG VIDEO_SUFFIXES:VID_FORMATS",
    "data.transforms.sample": "Compose", "nn.head_protocol": "scale_img", "utils.plotting": "plot_results",
    "engine.autobatch": "autobatch check_train_batch_size", "utils.flops": "get_flops:get_flops_with_torch_profiler",
    "engine.ddp": "ddp_cleanup find_free_network_port generate_ddp_command generate_ddp_file", "models.tuning": "Tuner",
    "engine.exporter": "Exporter", "losses.assigner": "TaskAlignedAssigner", "utils.fonts": "find_font_file:check_font",
    "engine.results": "Boxes:BaseTensor save_one_box", "metrics.ap": "ap_per_class average_precision:compute_ap smooth",
    "engine.train_log": "strip_optimizer", "engine.train_state": "EarlyStopping", "metrics.matching": "ConfusionMatrix",
    "losses.detr": "RTDETRDetectionLoss RTDETRDetectionLoss:DETRLoss", "utils.tables": "SummaryExports:DataExportMixin",
    "metrics.detection": "BoxMetrics BoxMetrics:Metric DetMetrics plot_mc_curve plot_pr_curve", "models": "RTDETR YOLO",
    "models.rtdetr.predict": "RTDETRPredictor RTDETRValidator", "utils.dist": "main_first:torch_distributed_zero_first",
    "models.yolo.detector": "DetectionPredictor DetectionValidator", "nn.modules.transformer": "inverse_sigmoid",
    "models.yolo.training": "DetectionTrainer", "utils.settings": "SETTINGS Settings:SettingsManager",
    "nn.tasks": "DetectionModel DetectionModel:BaseModel feature_visualization RTDETRDetectionModel",
    "published.losses": "BboxLoss DFLoss E2ELoss E2ELoss:E2EDetectLoss FocalLoss v8DetectionLoss VarifocalLoss",
    "utils": "__version__ ASSETS colorstr IterableSimpleNamespace IterableSimpleNamespace:SimpleClass LOGGER",
    "utils.checks": "check_imgsz check_imshow checks:collect_system_info in_notebook:is_jupyter",
    "published.config": "attempt_download_asset cfg2dict CFG_BOOL_KEYS CFG_FLOAT_KEYS CFG_FRACTION_KEYS CFG_INT_KEYS "
    "CFG_STR_KEYS check_apt_requirements check_cfg check_class_names check_dict_alignment check_file "
    "check_model_file_from_stem check_python check_requirements check_suffix check_tensorrt check_version check_yaml "
    "check_yolo check_yolov5u_filename copy_default_cfg DEFAULT_CFG DEFAULT_CFG_DICT DEFAULT_CFG_KEYS "
    "default_class_names find_dataset_yaml get_save_dir GITHUB_ASSETS_NAMES GITHUB_ASSETS_STEMS guess_model_scale "
    "is_ascii MODELS parse_key_value_pair smart_value TASK2DATA TASK2METRIC TASK2MODEL TASKS YAML yaml_load "
    "yaml_model_load yaml_print yaml_save",
    "published.datasets": "_image_open autocast_list autosplit BaseDataset build_yolo_dataset compress_one_image "
    "empty_like exif_size get_hash img2label_paths imread imshow imwrite load_dataset_cache_file load_inference_source "
    "LOADERS LoadImagesAndVideos LoadImagesAndVideos:LoadImages LoadImagesAndVideos:LoadScreenshots LoadPilAndNumpy "
    "LoadStreams LoadTensor RTDETRDataset save_dataset_cache_file seed_worker SourceTypes v8_transforms verify_image "
    "verify_image_label visualize_image_annotations YOLOConcatDataset YOLODataset",
    "published.machine": "check_is_path_safe clean_str clean_url CPUInfo cuda_device_count cuda_is_available emojis "
    "fetch:safe_download fetch_all:download file_age file_date file_size get_cpu_info get_default_args "
    "get_git_origin_url get_latest_run get_ubuntu_version GitRepo is_colab is_dir_writeable is_docker is_git_dir "
    "is_github_action_running is_intel is_jetson is_kaggle is_online is_online:check_online is_pip_package "
    "is_raspberrypi is_rockchip is_sudo_available is_url override_configs parse_version plt_settings print_args "
    "remove_colorstr Retry spaces_in_path threaded ThreadingLocked to_2tuple TryExcept unzip_file url2file "
    "WorkingDirectory zip_directory",
    "published.networks": "add_integration_callbacks AGLU attempt_compile attempt_load_weights AutoBackend benchmark "
    "check_amp check_torchvision clip_coords convert_optimizer_state_dict_to_fp16 convert_torch2numpy_batch "
    "default_callbacks get_default_callbacks get_gpu_info guess_model_task load_checkpoint "
    "load_checkpoint:attempt_load_one_weight model_info_for_loggers output_to_target profile_ops profile_ops:profile "
    "scale_coords segments2boxes torch_load torch_safe_load torch_save TorchNMS unset_deterministic",
    "utils.ops": "bbox2dist bbox_ioa bbox_iou box_iou dist2bbox make_anchors make_divisible non_max_suppression "
    "xywh2xyxy xyxy2xywh",
    "utils.torch_utils": "_device_name:parse_device autocast copy_attr de_parallel fuse_conv_and_bn fuse_deconv_and_bn "
    "get_num_gradients get_num_params init_seeds intersect_dicts ModelEMA one_cycle Profile select_device "
    "smart_inference_mode time_sync unwrap_model",
}  # fmt: skip
TOP = {"settings": ("utils.settings", "SETTINGS"), "checks": ("utils.checks", "checks")}  # modules elsewhere
NAMES = {
    name.rpartition(":")[2]: (home, name.partition(":")[0]) for home, names in HOMES.items() for name in names.split()
}
_REASONS = {
    "segmentation, poses, oriented boxes, classification, texts, NAS and SAM are not built; this package detects "
    "upright boxes; use the published package in another environment": (
        "SAM FastSAM sam fastsam nas world yoloe pose SegmentationModel PoseModel OBBModel ClassificationModel "
        "YOLOWorld YOLOE NAS Segment Pose OBB Classify Masks Keypoints Probs CopyPaste KeypointLoss kpt_iou OKS_SIGMA "
        "check_cls_dataset split_dota GroundingDataset YOLOMultiModalDataset RandomLoadText LoadVisualPrompt "
        "nms_rotated"
    ),
    "no service is part of this package; use files and settings of this process": (
        "hub events HUBTrainingSession HUBModelError HUB_WEB_ROOT HUB_API_ROOT get_github_assets"
    ),
    "solutions are not built; count, draw and track with the package supervision on `results[0].boxes`": "solutions",
    "a prediction has its trackers; use the method `track` of a model": "register_tracker basetrack BaseTrack",
    "use the methods export, tune and benchmark of a model": (
        "export try_export NMSModel gd_outputs torch2onnx torch2imx onnx2engine arange_patch run_ray_tune "
        "plot_tune_results ProfileModels"
    ),
    "use one network, and the classes of the package logging": "Ensemble ConsoleLogger SystemLogger",
}
# names of other tasks that are not listed above
OTHER_TASKS = r"[Ss]eg(?!ments2b)|Pose|OBB|obb|[Mm]ask|rbox|whr|probiou|poly|[Cc]lassif|[Dd]epth|World|YOLOE|Rotat|eman"
MODEL_CLASS = r"\w+Model|SAM|FastSAM|NAS|YOLOE|YOLOWorld"
PLACED: set[str] = set()  # modules with public names
ABSENT = {name: reason for reason, names in _REASONS.items() for name in names.split()}


def refusal(name: str) -> str:
    """Return why a published name, or module, is not built, and what to use; '' for other names."""
    other = re.search(OTHER_TASKS, name) and not name.startswith("_")
    return next(iter(ABSENT.values())) if other else ABSENT.get(name, "")


def public_names(module: str) -> Callable[[str], object]:
    """Return the `__getattr__` of a module for the names in `HOMES`, and in modules of networks for those of layers.

    Constants in capitals are those of `published.machine`. It raises ImportError for a name with a `refusal`. As an
    attribute, the class of a model has no objects instead, for `isinstance(network, tasks.SegmentationModel)`.
    """
    PLACED.add(module)
    package, _, place = module.partition(".")
    kind = module.rpartition(".")[2]
    names = NAMES if place else {**NAMES, **TOP}

    def resolve(name: str) -> object:
        if name in names:
            return public(name, names)
        if kind in ("clearml", "mlflow", "tensorboard", "wb") and name.startswith(("callbacks", "on_")):
            functions = importlib.import_module(f"{package}.published.networks").logger_callbacks(kind)
            if name in functions:
                return functions[name]
        if place.startswith("nn.") and not name.startswith("_"):
            layers = vars(importlib.import_module(f"{package}.nn.modules"))
            if name in layers and place != "nn.modules":
                return layers[name]
        if reason := refusal(name):
            error, caller = ImportError(f"{module}.{name}: {reason}.", name=module), sys._getframe(1)
            if re.fullmatch(MODEL_CLASS, name) and caller.f_code.co_code[caller.f_lasti] != dis.opmap["IMPORT_FROM"]:
                return absent_class(name, error)
            raise error
        if name.isupper():
            return getattr(importlib.import_module(f"{package}.published.machine"), name)
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return resolve


def refuse(module: str) -> NoReturn:
    """Raise ImportError with why a published module is not built, and what to use."""
    raise ImportError(f"{module}: {refusal(module.rpartition('.')[2])}.", name=module)


def absent_class(name: str, error: ImportError) -> type:
    """Return a class that can be neither called nor extended, which raises `error`."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise error

    return type(name, (), {"__new__": refuse, "__init_subclass__": refuse})


def public(name: str, names: dict[str, tuple[str, str]] = NAMES) -> object:
    """Return the object of a public name."""
    home, defined = names[name]
    return getattr(importlib.import_module(f"{__name__.partition('.')[0]}.{home}"), defined)
