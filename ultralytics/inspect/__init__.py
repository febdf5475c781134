"""What a model file builds, without running it: layer table, warnings, pictures. `yolo inspect model=my-model.yaml`."""
