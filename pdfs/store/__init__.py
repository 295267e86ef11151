"""The bucket: one protocol, `objects.ObjectStore`, and what keeps it."""
