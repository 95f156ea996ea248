"""What detectors share: the grid, the device, calibration, artifacts."""
