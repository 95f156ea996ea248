"""What comes in: remote write, OTLP, and pulling from sources on a schedule."""
