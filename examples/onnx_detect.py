"""Detect objects with an exported model, without torch and without this package: onnxruntime and OpenCV alone.

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
    """An ONNX file of `yolo export`: RT-DETR, or YOLO with or without NMS in the file."""

    def __init__(self, file: str):
        self.session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        metadata = self.session.get_modelmeta().custom_metadata_map
        self.names = ast.literal_eval(metadata["names"])
        self.height, self.width = ast.literal_eval(metadata["imgsz"])
        self.layout, self.letterbox = metadata["layout"], metadata.get("resize") == "letterbox"

    def __call__(self, image: np.ndarray, conf: float = 0.25, iou: float = 0.7) -> np.ndarray:
        """Detect in an image (H, W, 3) BGR: (n, 6) x1, y1, x2, y2 in pixels, score, class; the best first."""
        height, width = image.shape[:2]
        across, down = self.width, self.height
        if self.letterbox:  # the aspect ratio is kept, the rest is gray
            scale = min(across / width, down / height)
            across, down = round(width * scale), round(height * scale)
        left, top = (self.width - across) // 2, (self.height - down) // 2
        canvas = np.full((self.height, self.width, 3), 114, np.uint8)
        canvas[top : top + down, left : left + across] = cv2.resize(image, (across, down))
        rgb = canvas[..., ::-1].transpose(2, 0, 1)[None].astype(np.float32) / 255  # (1, 3, H, W)
        (output,) = self.session.run(None, {self.session.get_inputs()[0].name: rgb})
        found, labels = self.select(output[0], conf, iou)
        corners = found[:, :4] if self.letterbox else found[:, :4] * ((self.width, self.height) * 2)
        corners = ((corners - ((left, top) * 2)) / ((across / width, down / height) * 2)).clip(0, (width, height) * 2)
        return np.concatenate([corners, found[:, 4:5], labels[:, None]], 1)

    def select(self, output: np.ndarray, conf: float, iou: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows (n, 5) x1, y1, x2, y2, score above `conf`, the best first, and their classes (n,)."""
        if self.layout == "corners, score, class":  # (n, 6) of YOLO without overlaps
            found, labels = output[:, :5], output[:, 5]
        else:  # (n, 4 + classes) cx, cy, w, h and scores: of RT-DETR in 0..1; of YOLO in pixels, transposed
            table = output.T if self.letterbox else output
            center, half, scores = table[:, :2], table[:, 2:4] / 2, table[:, 4:]
            found = np.concatenate([center - half, center + half, scores.max(1, keepdims=True)], 1)
            labels = scores.argmax(1)
        kept = np.argsort(-found[:, 4], kind="stable")
        kept = kept[found[kept, 4] > conf]
        if self.layout == "boxes and class scores per anchor":  # non-maximum suppression within each class
            boxes = np.concatenate([found[kept, :2], found[kept, 2:4] - found[kept, :2]], 1)  # x1, y1, w, h
            kept = kept[np.array(cv2.dnn.NMSBoxesBatched(boxes, found[kept, 4], labels[kept], conf, iou), int)[:300]]
        return found[kept], labels[kept]

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
