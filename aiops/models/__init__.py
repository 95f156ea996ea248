"""The managed model layer: training, tracking, registry and serving of every model."""
