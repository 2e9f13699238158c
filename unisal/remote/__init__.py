"""Files that lie elsewhere, through fsspec: listed, pulled into a bounded spool, pushed."""
