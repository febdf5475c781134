import re

import pytest


@pytest.mark.parametrize("file", ["model_file", "weights"])
def test_the_command(yolo, file, request):
    code, text = yolo(
        "fps", f"model={request.getfixturevalue(file)}", "imgsz=64", "repeats=2", "warmup=1", "device=cpu"
    )
    assert code == 0, text
    assert "1 warmup and 2 timed runs, fused" in text
    assert re.search(r"\b64 +1 +float32 +\d+\.\d\d +\d+\.\d\d", text)


@pytest.mark.slow
def test_an_exported_model(yolo, exported):
    code, text = yolo("fps", f"model={exported}", "imgsz=64", "repeats=2", "warmup=1", "device=cpu")
    assert code == 0 and "2 timed runs, fused" in text
    for words in (("profile",), ("heatmap", "source=a.jpg")):
        code, text = yolo(words[0], f"model={exported}", *words[1:])
        assert code == 2 and "an exported model has no layers; use the weights (.pt)" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "yolo fps: model= is missing; usage: yolo fps model=... [imgsz=640]"),
        (("model=no.pt",), "no.pt"),
        (("model=m.yaml", "repeats=1"), "repeats: expected an integer >= 2, got 1"),
        (("model=m.yaml", "half=True", "device=cpu"), "half=True: expected a CUDA device, got cpu"),
        (("model=m.yaml", "bacth=2"), "unknown argument 'bacth=2'; did you mean 'batch'?"),
        (("model=WEIGHTS", "nc=3"), "has weights for a fixed number of classes"),
    ],
)
def test_errors(yolo, weights, words, message):
    code, text = yolo("fps", *(word.replace("WEIGHTS", str(weights)) for word in words))
    assert code == 2 and message in text
