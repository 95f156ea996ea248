"""Chat surfaces: where people talk to the assistant. One file per system."""
