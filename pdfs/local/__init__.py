"""This machine: what a session keeps on the local disk, and how it survives a crash.

Nothing here knows the bucket, FUSE or trio.
"""
