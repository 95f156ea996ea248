"""The demo: a simulated shop with one fault, and the story that shows every part of the service."""
