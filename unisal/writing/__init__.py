"""Maps, overlays, features and videos as files."""
