"""The daemon: one process that carries one session and its mount.

request     what is to be mounted, as one line of JSON
access      configuration, store and local state become a stage that can be worked on
workspace   the session's journal on this machine's disk
daemon      joins session, file system, signals and control socket
control     the control socket: status, umount, abort, subscribe
detach      taking the mount away from processes, orderly
mounts      what the kernel says is mounted

Its modules are imported one by one: who only speaks to a daemon loads neither FUSE nor a store.
"""
