"""Convert Pascal VOC annotations (.xml) to YOLO labels (.txt), and write classes.txt.

    python tools/dataset/xml2txt.py --xml Annotations --save labels
    python tools/dataset/xml2txt.py --xml Annotations --save labels --classes cat,dog

The same as `yolo xml2txt xml=Annotations save=labels`.
"""

from ultralytics.cli import run_script
from ultralytics.tools.xml2txt import command

if __name__ == "__main__":
    run_script(command, __doc__)
