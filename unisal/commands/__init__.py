"""The programs: whatever prints, shows progress, walks folders for a user or picks exit codes."""
