"""The network as a file that other programs run; see docs/guide/deploy.md."""
