"""Work on many processes and machines, with Ray."""
