"""Detect objects with an exported RT-DETR, without torch and without this package: onnxruntime and OpenCV alone.

yolo export model=best.pt format=onnx
python examples/onnx_detect.py best.onnx image.jpg                    prints the boxes, writes image_detected.jpg
python examples/onnx_detect.py best.onnx image.jpg --conf 0.5 --out boxes.jpg
"""

import argparse
import ast
from pathlib import Path

import cv2
import numpy as np
import onnxruntime


class Detector:
    """An ONNX file of `yolo export`."""

    def __init__(self, file: str):
        self.session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        metadata = self.session.get_modelmeta().custom_metadata_map
        self.names = ast.literal_eval(metadata["names"])
        self.height, self.width = ast.literal_eval(metadata["imgsz"])

    def __call__(self, image: np.ndarray, conf: float = 0.25) -> np.ndarray:
        """Detect in an image (H, W, 3) BGR: (n, 6) x1, y1, x2, y2 in pixels, score, class; the best first."""
        stretched = cv2.resize(image, (self.width, self.height), interpolation=cv2.INTER_LINEAR)
        rgb = stretched[..., ::-1].transpose(2, 0, 1)[None].astype(np.float32) / 255  # (1, 3, H, W)
        (output,) = self.session.run(None, {self.session.get_inputs()[0].name: rgb})
        boxes, scores = output[0, :, :4], output[0, :, 4:]  # (queries, 4) cx, cy, w, h in 0..1; (queries, classes)
        query = np.argsort(-scores.max(1), kind="stable")  # the best first; there is no NMS
        label, score = scores[query].argmax(1), scores[query].max(1)
        center, half = boxes[query, :2], boxes[query, 2:] / 2
        height, width = image.shape[:2]
        corners = np.concatenate([center - half, center + half], 1) * (width, height, width, height)
        found = np.concatenate([corners, score[:, None], label[:, None]], 1)
        return found[score > conf]

    def draw(self, image: np.ndarray, found: np.ndarray) -> np.ndarray:
        """Return a copy of the image with boxes, names and scores."""
        drawn = image.copy()
        for *corners, score, label in found[::-1]:  # the best last, over the others
            x1, y1, x2, y2 = (round(v) for v in corners)
            hue = int(label) * 47 % 180
            color = cv2.cvtColor(np.uint8([[[hue, 220, 230]]]), cv2.COLOR_HSV2BGR)[0, 0].tolist()
            cv2.rectangle(drawn, (x1, y1), (x2, y2), color, 2)
            text = f"{self.names[int(label)]} {score:.2f}"
            cv2.putText(drawn, text, (x1, max(y1 - 4, 12)), cv2.FONT_HERSHEY_SIMPLEX, 0.5, color, 1, cv2.LINE_AA)
        return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="ONNX file")
    parser.add_argument("image")
    parser.add_argument("--conf", type=float, default=0.25, help="minimum score")
    parser.add_argument("--out", help="picture to write")
    args = parser.parse_args()
    image = cv2.imread(args.image)
    if image is None:
        raise SystemExit(f"{args.image}: OpenCV cannot read it as an image")
    detector = Detector(args.model)
    found = detector(image, args.conf)
    for x1, y1, x2, y2, score, label in found:
        print(f"{detector.names[int(label)]} {score:.3f}  {x1:.1f} {y1:.1f} {x2:.1f} {y2:.1f}")
    source = Path(args.image)
    out = args.out or str(source.with_name(f"{source.stem}_detected.jpg"))
    cv2.imwrite(out, detector.draw(image, found))
    print(f"{len(found)} objects, drawn in {out}")


if __name__ == "__main__":
    main()
