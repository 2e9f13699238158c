"""The programs: all that prints, shows progress, walks folders for a user or picks an exit code."""
