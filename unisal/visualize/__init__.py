"""Drawing of results: overlays, differences, panels and windows."""
