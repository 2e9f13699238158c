"""Writing maps, overlays, features and videos to files."""
