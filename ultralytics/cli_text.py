"""Texts of the command line: the help of `yolo`, and the scripts for tab completion."""

HELP = """\
yolo [detect] train|val|predict|track|tune|export key=value ...

  yolo train    model=rtdetr-efficientvit-m0.yaml data=my.yaml epochs=72 imgsz=640 batch=4
  yolo val      model=runs/detect/train/weights/best.pt data=my.yaml
  yolo predict  model=runs/detect/train/weights/best.pt source=image.jpg conf=0.25
  yolo track    model=runs/detect/train/weights/best.pt source=video.mp4 tracker=botsort.yaml
  yolo tune     model=rtdetr-efficientvit-m0.yaml data=my.yaml epochs=10 iterations=50
  yolo export   model=runs/detect/train/weights/best.pt format=onnx
  yolo train    model=runs/detect/train/weights/last.pt resume=True

  model=   model YAML to train from scratch, weights (.pt), or an exported model
  data=    dataset YAML; shapes.yaml is built in and needs no download
  source=  image, folder, 'pattern*.jpg', video, camera index, or stream URL
  cfg=     YAML file of options

Modules and model files:
  yolo inspect  model=my-model.yaml            layer table, warnings, graph
  yolo new      module=MyNet kind=attention    create a module file and a model YAML
  yolo check    module=MyNet                   check a module in training, saving and export
  yolo models   folder=my-models               parameters and GFLOPs of every model YAML
  yolo fork     path/to/fork                   which model files of another code base build here
  yolo profile  model=my-model.yaml            parameters, GFLOPs and time of every layer
  yolo fps      model=best.pt                  latency, images per second, memory

Runs and results:
  yolo ablate       study=my-study.yaml                    train a base and its changes; table with statistics
  yolo compare      a.pt b.pt data=my.yaml                 are two models different, by a bootstrap over images
  yolo benchmark    model=best.pt data=my.yaml             accuracy, speed, size and memory of every export format
  yolo table        runs/detect/val runs/detect/val2       compare runs in one table
  yolo plot-results runs/detect/train runs/detect/train2   plot metrics and losses of several runs
  yolo heatmap      model=best.pt source=image.jpg         class activation maps
  yolo attention    model=best.pt source=image.jpg kind=sampling   points that the decoder samples; kind=aifi
  yolo erf          model=best.pt source=images/           effective receptive field, in pixels
  yolo evaluate     a.json b.json annotations=val.json protocol=coco,voc   stored predictions, by published rules
  yolo errors       model=best.pt data=my.yaml             types of errors, and the AP that each costs

Datasets:
  yolo data      my.yaml imgsz=640              card: small boxes, class balance, leakage, label faults
  yolo yolo2coco data=my.yaml split=val         convert YOLO labels to COCO JSON
  yolo coco2yolo annotations=val.json           convert COCO JSON to YOLO labels
  yolo xml2txt   xml=Annotations save=labels    convert Pascal VOC to YOLO labels
  yolo split     images=all/images save=my      split images into train, val and test

Other:
  yolo cfg        every option with default and description; `yolo cfg epochs`: of one option
  yolo copy-cfg   copy that file for editing; use it with cfg=
  yolo checks     versions, processor, GPU and memory of this machine
  yolo completion bash   script for tab completion; also zsh, fish
  yolo version
  yolo help       this text; `yolo help train`, `yolo train --help`: of one command
"""

COMPLETION = {  # scripts; @WORDS@ is replaced by the commands and options
    "bash": """\
# eval "$(yolo completion bash)"
_yolo() {
    [[ ${COMP_WORDS[COMP_CWORD]} == = || ${COMP_WORDS[COMP_CWORD - 1]} == = ]] && return  # a value: files
    COMPREPLY=($(compgen -W "@WORDS@" -- "${COMP_WORDS[COMP_CWORD]}"))
    [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace
}
complete -o default -F _yolo yolo""",
    "zsh": """\
# eval "$(yolo completion zsh)", after compinit
_yolo() { compadd -S '' -- @WORDS@; _files }
compdef _yolo yolo""",
    "fish": """\
# yolo completion fish | source
complete -c yolo -a "@WORDS@\"""",
}
